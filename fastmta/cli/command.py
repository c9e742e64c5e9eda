"""The commands. Each imports what it needs when it runs, so that `--help` is quick."""

import os
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import click

from fastmta import __version__

if TYPE_CHECKING:
    from fastmta.config import Config

DEFAULT_FILE = "/etc/fastmta/fastmta.toml"
EXIT_CONFIG = 78  # EX_CONFIG of sysexits.h

_PASSED_ON = {"ignore_unknown_options": True, "allow_interspersed_args": False}
_Command = Callable[..., Any]  # Any: whatever click hands over


def _config_options(command: _Command) -> _Command:
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


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="fastmta")
def main() -> None:
    """fastmta, a mail transfer agent."""


@main.command()
@_config_options
def run(path: str | None, overrides: tuple[str, ...]) -> None:
    """Run the server in the foreground."""
    config = _load(path, overrides, EXIT_CONFIG)
    from fastmta.daemon import run as run_daemon

    sys.exit(run_daemon(config))


@main.command()
@_config_options
def check(path: str | None, overrides: tuple[str, ...]) -> None:
    """Check the configuration; name every problem with file and line."""
    for problem in _load(path, overrides, 1).warnings:
        click.echo(f"warning: {problem}", err=True)


@main.command(context_settings=_PASSED_ON, add_help_option=False)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def demo(arguments: Sequence[str]) -> None:
    """Relay a small load on loopback and show what happens."""
    from fastmta.lab.demo import run_demo

    sys.exit(run_demo(list(arguments)))


@main.command(context_settings=_PASSED_ON, add_help_option=False)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def sink(arguments: Sequence[str]) -> None:
    """Receive mail on loopback and do with it what the recipient's address says."""
    from fastmta.lab.sink import run_sink

    sys.exit(run_sink(list(arguments)))


@main.command(context_settings=_PASSED_ON, add_help_option=False)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def bench(arguments: Sequence[str]) -> None:
    """Measure against Postfix on loopback."""
    from fastmta.lab.bench import run_bench

    sys.exit(run_bench(list(arguments)))


@main.command()
def version() -> None:
    """Print the version."""
    click.echo(__version__)


def _load(path: str | None, overrides: Sequence[str], status: int) -> "Config":
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
