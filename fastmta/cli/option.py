"""Options that several commands have, and the configuration that they name."""

import os
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from fastmta.config import Config
    from fastmta.config.glimpse import Glimpse

DEFAULT_FILE = "/etc/fastmta/fastmta.toml"
VARIABLE = "FASTMTA_CONFIG"  # names the file, for every command
EXIT_CONFIG = 78  # EX_CONFIG of sysexits.h

Command = Callable[..., Any]  # Any: whatever click hands over


def config_options(command: Command) -> Command:
    """`-c FILE` as `path`, `--set` as `overrides`."""
    command = click.option(
        "--set",
        "overrides",
        multiple=True,
        metavar="SECTION.KEY=VALUE",
        help="Set one key; it wins over environment and file. Lists by comma. Repeatable.",
    )(command)
    return click.option(
        "-c",
        "--config",
        "path",
        type=click.Path(),
        metavar="FILE",
        help=f"Configuration file; else that of {VARIABLE}, else {DEFAULT_FILE} if it exists.",
    )(command)


def config_path(path: str | None) -> str | None:
    """The file that is read: the one that was named, or the usual one if there is one."""
    path = path or os.environ.get(VARIABLE) or None
    return DEFAULT_FILE if path is None and os.path.exists(DEFAULT_FILE) else path


def load_config(path: str | None, overrides: Sequence[str], status: int) -> "Config":
    """The configuration, or exit `status` with every problem on standard error."""
    from fastmta.config import ConfigError, load

    try:
        return load(config_path(path), os.environ, overrides)
    except ConfigError as error:
        for problem in error.problems:
            click.echo(str(problem), err=True)
        sys.exit(status)


def find_server(path: str | None, overrides: Sequence[str], status: int) -> "Glimpse":
    """Where the server's directories are; what else the file says is not judged.

    Exits as `load_config` does when that cannot be told at all. A file that is broken and names no
    directory is complained of: the server may be somewhere else.
    """
    from fastmta.config.glimpse import glimpse, glimpse_of, guess

    file = config_path(path)
    seen = glimpse(file, os.environ, overrides)
    if seen is not None:
        return seen
    from fastmta.config import ConfigError, load

    try:
        return glimpse_of(load(file, os.environ, overrides))
    except ConfigError as error:
        seen = None if file is None else guess(file, os.environ, overrides)
        if seen is None:
            return glimpse_of(load_config(path, overrides, status))
        if seen == glimpse(None, os.environ, overrides):
            click.echo(f"warning: {error.problems[0]}", err=True)
        return seen
