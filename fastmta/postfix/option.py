"""Arguments as getopt(3) reads them for Postfix, and how its commands complain and end."""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False  # as mypy knows it: importing `typing` takes as long as all of ours
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import NoReturn

_INTERRUPTED, _BROKEN_PIPE = 130, 141  # as a shell has SIGINT and SIGPIPE
# sysexits.h
EX_USAGE, EX_UNAVAILABLE, EX_SOFTWARE, EX_TEMPFAIL, EX_NOPERM = 64, 69, 70, 75, 77


class Fatal(Exception):
    """The command ends: `text` is its last word. `status` is None where the command has one."""

    def __init__(self, text: str, status: int | None = None) -> None:
        super().__init__(text)
        self.status = status


class BadOption(Exception):
    """An option that does not exist, or without its argument; the text is getopt's."""


def read_options(arguments: Sequence[str], known: str) -> tuple[list[tuple[str, str]], list[str]]:
    """Options as (letter, argument), and what follows them: the first word that is none ends them.

    `known` is as for getopt(3). Raises BadOption.
    """
    found: list[tuple[str, str]] = []
    rest = list(arguments)
    while rest and rest[0].startswith("-") and rest[0] != "-":
        word = rest.pop(0)
        if word == "--":
            break
        letters = word[1:]
        while letters:
            letter, letters = letters[0], letters[1:]
            at = known.find(letter)
            if at < 0 or letter == ":":
                raise BadOption(f"invalid option -- '{letter}'")
            if known[at + 1 : at + 2] != ":":
                found.append((letter, ""))
                continue
            if not letters and not rest:
                raise BadOption(f"option requires an argument -- '{letter}'")
            found.append((letter, letters or rest.pop(0)))
            letters = ""
    return found, rest


def warn(name: str, text: str) -> None:
    """One line of standard error, behind what was printed."""
    sys.stdout.flush()
    sys.stderr.write(f"{name}: {text}\n")
    sys.stderr.flush()


def run(name: str, command: Callable[[Sequence[str]], int], status: int) -> NoReturn:
    """Run a command with the arguments of this process; what is fatal ends it with `status`.

    Whoever closes our standard output, as `mailq | head` does, ends us without a word.
    """
    try:
        code = command(sys.argv[1:])
        sys.stdout.flush()
    except Fatal as fatal:
        warn(name, f"fatal: {fatal}")
        code = status if fatal.status is None else fatal.status
    except KeyboardInterrupt:
        code = _INTERRUPTED
    except BrokenPipeError:
        code = _BROKEN_PIPE
    # Without the interpreter's way of cleaning up, which takes longer than the command.
    os._exit(code)
