"""`fastmta manual`: the manual pages, made from what the commands and the schema say themselves."""

from __future__ import annotations

import os

import click

from .lazy import LazyGroup
from .manconfig import config_page
from .manpage import command_page, main_page
from .manpostfix import postfix_pages
from .talk import EXIT_TEMPORARY, fail


@click.command()
@click.argument("directory", type=click.Path(file_okay=False))
def manual(directory: str) -> None:
    """Write the manual pages.

    They go to man1/ and man5/ below DIRECTORY, which are made. For all users of this machine that
    is /usr/local/share/man; man -M DIRECTORY fastmta shows them from anywhere.

    Exit status: 0 done; 2 wrong usage; 75 the directory cannot be written.
    """
    root = click.get_current_context().find_root().command
    assert isinstance(root, LazyGroup)
    try:
        for name, text in pages(root).items():
            path = os.path.join(directory, name)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "w", encoding="ascii") as file:
                file.write(text)
    except OSError as error:
        fail(f"{error.filename or directory}: {error.strerror}", EXIT_TEMPORARY)


def pages(root: LazyGroup) -> dict[str, str]:
    """Every page by its path below the manual's directory."""
    ctx = click.Context(root, info_name="fastmta")
    summaries = [(name, root.summary(name)) for name in root.list_commands(ctx)]
    found = {"man1/fastmta.1": main_page(summaries, root), "man5/fastmta.toml.5": config_page()}
    for name, summary in summaries:
        command = root.get_command(ctx, name)
        assert command is not None
        found[f"man1/fastmta-{name}.1"] = command_page(name, summary, command)
    return {**found, **postfix_pages()}
