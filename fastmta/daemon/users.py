"""`fastmta user ...`: changes to a users file, each of them whole and durable or not at all.

A change is made under a lock on the file's directory, so that none is lost when several are made at
once; comments, order and lines that we do not understand stay. A running server reads the file
again by itself.
"""

from __future__ import annotations

import errno
import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from fastmta.security.durable import replace_file
from fastmta.security.password import (
    BadPassword,
    hash_password,
    make_verifier,
    prepare_name,
    prepare_password,
    verify_password,
)
from fastmta.security.users import is_user_line, parse_file, read_file

LOCK_TIMEOUT_S: Final = 10.0
_LOCK_RETRY_S: Final = 0.05


class UserProblem(Exception):
    """Why nothing was done; `is_usage`: what was asked for can never be done."""

    def __init__(self, text: str, *, is_usage: bool = False) -> None:
        super().__init__(text)
        self.is_usage = is_usage


def add_user(
    path: str, name: str, password: str, *, may_replace: bool = False, with_scram: bool = False
) -> bool:
    """Give `name` that password; True: it is a new user. Raises UserProblem, OSError."""
    name = _checked(name)
    try:
        octets = prepare_password(password)
    except BadPassword as problem:
        raise UserProblem(str(problem), is_usage=True) from None
    fields = [name, hash_password(octets)]
    if with_scram:
        fields.append(make_verifier(octets).render())
    line = ":".join(fields)
    with _editing(path) as lines:
        places = _places(lines, name)
        if places and not may_replace:
            raise UserProblem(f"{name} is there already; --replace gives it another password")
        for place in reversed(places[1:]):
            del lines[place]
        if places:
            lines[places[0]] = line
        else:
            lines.append(line)
        return not places


def remove_user(path: str, name: str) -> None:
    """Take every line of `name` out. Raises UserProblem, OSError."""
    name = _checked(name)
    with _editing(path) as lines:
        places = _places(lines, name)
        if not places:
            raise UserProblem(f"{name} is not there")
        for place in reversed(places):
            del lines[place]


def list_users(path: str) -> tuple[list[tuple[str, bool]], list[str]]:
    """(name, whether it can use SCRAM) of every user, and what is wrong with the file.

    Raises OSError.
    """
    problems: list[str] = []
    users = parse_file(read_file(path), path, problems.append)
    return [(user.name, user.verifier is not None) for user in users], problems


def check_user(path: str, name: str, password: str) -> bool:
    """Whether that is the password of `name`. Raises UserProblem, OSError."""
    name = _checked(name)
    try:
        octets = prepare_password(password)
    except BadPassword:
        return False
    for user in parse_file(read_file(path), path, lambda text: None):
        if user.name == name and user.stored is not None:
            return verify_password(user.stored, octets)
    raise UserProblem(f"{name} is not there")


def _checked(name: str) -> str:
    """`name` as the file has it. Raises UserProblem."""
    try:
        prepared = prepare_name(name)
    except BadPassword as problem:
        raise UserProblem(str(problem), is_usage=True) from None
    if ":" in prepared or prepared.startswith("#") or prepared != prepared.strip():
        raise UserProblem(
            "a name must have no colon, no # in front and no space at its ends", is_usage=True
        )
    return prepared


def _places(lines: list[str], name: str) -> list[int]:
    """Indexes of the lines of `name`, also when the rest of the line is wrong."""
    return [
        index
        for index, line in enumerate(lines)
        if is_user_line(line) and line.partition(":")[0] == name
    ]


@contextmanager
def _editing(path: str) -> Iterator[list[str]]:
    """The lines, to be changed; written when the block ends well. Raises UserProblem, OSError."""
    path = os.path.realpath(path)
    with _locked(os.path.dirname(path)):
        try:
            octets = read_file(path)
            found = os.stat(path)
        except FileNotFoundError:
            octets, found = b"", None
        # Octets that are no text stay as they are.
        text = octets.decode("utf-8", "surrogateescape")
        lines = text.split("\n")
        if lines[-1] == "":
            lines.pop()
        yield lines
        content = "".join(f"{line}\n" for line in lines).encode("utf-8", "surrogateescape")
        replace_file(path, content, found)


@contextmanager
def _locked(directory: str) -> Iterator[None]:
    """One at a time. The directory is locked: the file itself is another one after each change."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        ends_s = time.monotonic() + LOCK_TIMEOUT_S
        while True:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= ends_s:
                    raise OSError(errno.EBUSY, "somebody else is changing it", directory) from None
                time.sleep(_LOCK_RETRY_S)
        yield
    finally:
        os.close(fd)
