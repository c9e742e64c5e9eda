"""Options that several commands have, and the configuration that they name."""

import os
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from fastmta.config import Config

DEFAULT_FILE = "/etc/fastmta/fastmta.toml"
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
        metavar="FILE",
        help=f"Configuration file; {DEFAULT_FILE} if it exists.",
    )(command)


def load_config(path: str | None, overrides: Sequence[str], status: int) -> "Config":
    """The configuration, or exit `status` with every problem on standard error."""
    from fastmta.config import ConfigError, load

    if path is None and os.path.exists(DEFAULT_FILE):
        path = DEFAULT_FILE
    try:
        return load(path, os.environ, overrides)
    except ConfigError as error:
        for problem in error.problems:
            click.echo(str(problem), err=True)
        sys.exit(status)
