"""`newaliases`: the server sees changes itself, so what is left to do is to check the file."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import NoReturn

from fastmta.drop.alias import FILE_OCTETS_MAX, Aliases

from .file import config_file
from .option import EX_TEMPFAIL, EX_UNAVAILABLE, EX_USAGE, BadOption, Fatal, read_options, run, warn

NAME = "newaliases"


def newaliases(arguments: Sequence[str]) -> int:
    """The command. Raises Fatal."""
    try:
        options, rest = read_options(arguments, "A:B:C:F:GIL:N:O:R:U:V:X:b:ce:f:h:imno:p:r:q:tvx")
    except BadOption as problem:
        warn(NAME, str(problem))
        raise Fatal("usage: newaliases [options]", EX_USAGE) from None
    if rest:
        raise Fatal("alias initialization mode requires no recipient", EX_USAGE)
    chosen = aliases = None
    for letter, value in options:
        if letter == "C":
            chosen = value
        elif letter == "o" and value.startswith("A"):
            aliases = value[1:]
    return rebuild(chosen, aliases)


def rebuild(chosen: str | None, aliases: str | None) -> int:
    """Say what is wrong with the file of aliases. Raises Fatal when it cannot be read."""
    path = aliases or _configured(chosen)
    if not path:
        return 0
    path = path.rpartition(":")[2]  # `hash:/etc/aliases`
    try:
        with open(path, "rb") as file:
            octets = file.read(FILE_OCTETS_MAX + 1)
    except OSError as problem:
        raise Fatal(f"open {path}: {problem.strerror}", EX_UNAVAILABLE) from None
    if len(octets) > FILE_OCTETS_MAX:
        raise Fatal(f"{path} is larger than {FILE_OCTETS_MAX} octets", EX_UNAVAILABLE)
    for text in Aliases.parse(octets).problems:
        warn(NAME, f"warning: {path}: {text}")
    return 0


def _configured(chosen: str | None) -> str:
    from fastmta.config import ConfigError, load

    try:
        file = config_file(chosen, os.environ, EX_TEMPFAIL)
        return load(file, os.environ).aliases.file
    except ConfigError as error:
        raise Fatal(f"bad configuration: {error.problems[0]}") from None


def main() -> NoReturn:
    """The entry point."""
    run(NAME, newaliases, EX_UNAVAILABLE)
