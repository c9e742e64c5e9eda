"""`fastmta completion`: what a shell reads to complete our commands, and what completes names."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

PROGRAM = "fastmta"
VARIABLE = "_FASTMTA_COMPLETE"  # by which a shell asks; click knows it from the program's name


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print what makes a shell complete fastmta's commands.

    \b
    bash:  fastmta completion bash > /etc/bash_completion.d/fastmta
    zsh:   fastmta completion zsh > /usr/share/zsh/vendor-completions/_fastmta
    fish:  fastmta completion fish > /etc/fish/completions/fastmta.fish

    Or for one session: source <(fastmta completion bash). Commands and options are completed, and
    ids and destinations of a server that runs here.
    """
    kind = get_completion_class(shell)
    assert kind is not None  # click has these three
    root = click.get_current_context().find_root().command
    click.echo(kind(root, {}, PROGRAM, VARIABLE).source())
