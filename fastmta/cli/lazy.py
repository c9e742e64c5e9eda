"""A group of commands whose modules are imported when they are needed: one runs, or shows its help.

The names and one-line summaries stand in a table beside the functions that import, so that neither
`fastmta --help` nor the completion of a name imports what no one runs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import click
from click.shell_completion import CompletionItem


class Later(NamedTuple):
    """A command that is not imported yet."""

    summary: str  # the first sentence of its help, without the stop; a test compares them
    load: Callable[[], click.Command]


class LazyGroup(click.Group):
    """Commands of its own, which are there, and those of `later`."""

    def __init__(self, *arguments: Any, later: Mapping[str, Later], **attributes: Any) -> None:
        super().__init__(*arguments, **attributes)
        self.later = dict(later)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Every name, in alphabetical order."""
        return sorted({*self.later, *self.commands})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command, imported if need be."""
        if cmd_name not in self.commands and cmd_name in self.later:
            self.add_command(self.later[cmd_name].load(), cmd_name)
        return super().get_command(ctx, cmd_name)

    def summary(self, name: str) -> str:
        """What `--help` says of a command in one line."""
        if name in self.later:
            return self.later[name].summary
        return self.commands[name].get_short_help_str(limit=200).removesuffix(".")

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list of commands of `--help`."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, self.summary(name)) for name in self.list_commands(ctx)])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Names of commands that begin so, and our options."""
        names = [name for name in self.list_commands(ctx) if name.startswith(incomplete)]
        found = [CompletionItem(name, help=self.summary(name)) for name in names]
        return [*found, *click.Command.shell_complete(self, ctx, incomplete)]
