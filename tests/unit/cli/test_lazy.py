"""What a command imports before it runs, and that the table of commands says what they say."""

from __future__ import annotations

import inspect
import subprocess
import sys

import click
import pytest

from fastmta.cli import main
from fastmta.cli.lazy import Later, LazyGroup

HEAVY = (
    "aiosmtpd", "asyncio", "cryptography", "dns", "lmdb", "msgspec", "multiprocessing", "ssl",
    "uvloop", "fastmta.config", "fastmta.control", "fastmta.daemon", "fastmta.lab",
)  # fmt: skip
OWN_MODULES_MAX = 12  # of `fastmta`: the package, cli, its table, and one command with its friends
PROBE = """\
import sys
from fastmta.cli import main
try:
    main(sys.argv[1:], prog_name="fastmta")
except SystemExit as end:
    assert not end.code, end.code
sys.stderr.write("\\n".join(sys.modules))
"""


def imported(*arguments: str) -> list[str]:
    """Names of the modules that are there when a command has run."""
    found = subprocess.run(
        [sys.executable, "-c", PROBE, *arguments], capture_output=True, text=True, timeout=30
    )
    assert found.returncode == 0, found.stderr
    return found.stderr.split("\n")


@pytest.mark.parametrize(
    "arguments",
    [
        ("version",),
        ("--help",),
        ("run", "--help"),
        ("dest", "pause", "--help"),
        ("queue", "--help"),
        ("spool", "--help"),
        ("user", "add", "--help"),
        ("completion", "zsh"),
    ],
    ids=" ".join,
)
def test_a_light_command_imports_little(arguments: tuple[str, ...]) -> None:
    names = imported(*arguments)
    heavy = [name for name in names if name.startswith(tuple(f"{one}." for one in HEAVY))]
    assert [name for name in HEAVY if name in names] + heavy == []
    assert len([name for name in names if name.startswith("fastmta")]) <= OWN_MODULES_MAX


def test_help_imports_no_command() -> None:
    names = [name for name in imported("--help") if name.startswith("fastmta.cli")]
    assert sorted(names) == [
        "fastmta.cli",
        *(f"fastmta.cli.{name}" for name in ("command", "lazy", "option", "table")),
    ]


def test_summaries_are_the_first_sentences_of_the_help() -> None:
    assert isinstance(main, LazyGroup)
    ctx = click.Context(main)
    for name in main.list_commands(ctx):
        command = main.get_command(ctx, name)
        assert command is not None
        paragraph = inspect.cleandoc(command.help or "").split("\n\n")[0]
        sentence = " ".join(paragraph.split()).split(". ")[0].removesuffix(".")
        assert main.summary(name) == sentence, name


def test_a_command_is_loaded_once_and_by_its_name() -> None:
    loads: list[str] = []

    def load() -> click.Command:
        loads.append("one")
        return click.Command("one", help="One. More.")

    group = LazyGroup("group", later={"one": Later("One", load)}, commands={})
    ctx = click.Context(group)
    assert group.list_commands(ctx) == ["one"]
    assert group.get_command(ctx, "two") is None
    assert loads == []
    assert group.get_command(ctx, "one") is group.get_command(ctx, "one")
    assert loads == ["one"]
