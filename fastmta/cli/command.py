"""The commands. Each imports what it needs when it runs, so that `--help` is quick."""

import os
import sys
from collections.abc import Sequence

import click

from fastmta import __version__

from .lazy import LazyGroup
from .option import EXIT_CONFIG, config_options, config_path, load_config
from .table import LATER

EXIT_PROBLEMS = 1
_PASSED_ON = {"ignore_unknown_options": True, "allow_interspersed_args": False}


@click.group(cls=LazyGroup, later=LATER, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="fastmta")
def main() -> None:
    """fastmta, a mail transfer agent."""


@main.command()
@config_options
def run(path: str | None, overrides: tuple[str, ...]) -> None:
    """Run the server in the foreground."""
    config = load_config(path, overrides, EXIT_CONFIG)
    from fastmta.config import load
    from fastmta.daemon import run as run_daemon

    file = config_path(path)
    sys.exit(run_daemon(config, lambda: load(file, os.environ, overrides)))


@main.command()
@config_options
def check(path: str | None, overrides: tuple[str, ...]) -> None:
    """Check the configuration; name every problem with file and line.

    Certificates, users, senders and hooks that it names are tried as a start would, which runs the
    hooks' modules; nothing is made, no address is bound.
    """
    config = load_config(path, overrides, EXIT_PROBLEMS)
    from fastmta.daemon.sockets import BadStart
    from fastmta.daemon.trial import try_start

    try:
        said = try_start(config, has_files=False)
    except BadStart as error:
        click.echo(str(error), err=True)
        sys.exit(EXIT_PROBLEMS)
    for problem in (*config.warnings, *said):
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
