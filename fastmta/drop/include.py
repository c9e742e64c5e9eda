"""Lists of addresses in files of their own, which aliases name as `:include:/path`.

They are read when mail for the alias comes. A file that others could have written is not believed:
it must be a file, of at most 1 MiB, that not everybody may write; nor may everybody replace it, in
a directory without the sticky bit. One that a list names must belong to the same user as that list,
unless that list is root's; and whoever has a directory or a link on the way to a list must be its
owner, but for root and our own user: else a user could have the server read what they may not.
"""

from __future__ import annotations

import errno
import os
import stat

from .address import parse_addresses

INCLUDE_OCTETS_MAX = 1024 * 1024
OCTETS_MAX = 4 * INCLUDE_OCTETS_MAX  # for one alias
FILES_MAX = 100  # the same
DEPTH_MAX = 5  # lists that name lists
_LINKS_MAX = 40  # as the kernel's
PREFIX = b":include:"
_PROBLEMS_MAX = 20  # each is a line of the log


class _Unusable(Exception):
    """A list cannot be used; the text says why."""


class Lists:
    """Reads the lists of one alias; `problems` says what of them is not in the mail."""

    __slots__ = ("_count", "_octets", "problems")

    def __init__(self) -> None:
        self.problems: list[str] = []
        self._count = self._octets = 0

    def read(self, path: bytes, depth: int = 1, reader: int = 0) -> list[bytes]:
        """Addresses in the list at `path`; `reader` owns the list that names it, 0 for aliases."""
        try:
            octets, owner = self._content(path, depth, reader)
        except _Unusable as problem:
            self._blame(path, str(problem))
            return []
        found: list[bytes] = []
        for line in octets.split(b"\n"):
            text = line.strip(b" \t\r")
            if not text or text.startswith(b"#"):
                continue
            target = included(text)
            if target is not None:
                found += self.read(target, depth + 1, owner)
            elif text.lstrip(b'"').startswith((b"|", b"/")):
                self._blame(path, "commands and files are not supported")
            else:
                found += [mailbox.octets for mailbox in parse_addresses(text)]
        return found

    def _content(self, path: bytes, depth: int, reader: int) -> tuple[bytes, int]:
        """What is in a list that may be believed, and whose it is. Raises _Unusable."""
        self._count += 1
        if depth > DEPTH_MAX or self._count > FILES_MAX:
            raise _Unusable("too many lists name lists")
        octets, owner = _content(path, reader)
        self._octets += len(octets)
        if self._octets > OCTETS_MAX:
            raise _Unusable(f"the lists are larger than {OCTETS_MAX} octets together")
        return octets, owner

    def _blame(self, path: bytes, why: str) -> None:
        text = f":include:{path.decode('ascii', 'replace')}: {why}"
        if text not in self.problems and len(self.problems) < _PROBLEMS_MAX:
            self.problems.append(text)


def included(text: bytes) -> bytes | None:
    """The path in `:include:/path`, perhaps in quotes; None: it is something else."""
    text = text.strip(b" \t")
    if len(text) > 1 and text.startswith(b'"') and text.endswith(b'"'):
        text = text[1:-1]
    if text[: len(PREFIX)].lower() != PREFIX:
        return None
    return text[len(PREFIX) :].strip(b' \t"')


def _content(path: bytes, reader: int) -> tuple[bytes, int]:
    """What is in a file, and whose it is. Raises _Unusable."""
    if not path.startswith(b"/") or b"\0" in path:
        raise _Unusable("it is not an absolute path")
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
        try:
            found = os.fstat(fd)
            around = os.stat(os.path.dirname(os.path.realpath(path)))
            why = _objection(found, around, reader)
            if _guides(path) - {0, os.geteuid(), found.st_uid}:
                why = why or "others than its owner have a directory or a link on the way to it"
            octets = b"" if why else _read(fd)
        finally:
            os.close(fd)
    except OSError as problem:
        raise _Unusable(problem.strerror or "it cannot be read") from None
    if len(octets) > INCLUDE_OCTETS_MAX:
        why = f"it is larger than {INCLUDE_OCTETS_MAX} octets"
    if why:
        raise _Unusable(why)
    return octets, found.st_uid


def _objection(found: os.stat_result, around: os.stat_result, reader: int) -> str:
    """Why a list is not believed, "" if it is."""
    if not stat.S_ISREG(found.st_mode):
        return "it is not a file"
    if found.st_mode & stat.S_IWOTH:
        return "everybody may write it"
    if around.st_mode & stat.S_IWOTH and not around.st_mode & stat.S_ISVTX:
        return "everybody may replace it"
    if reader not in (0, found.st_uid):
        return "it does not belong to the owner of the list that names it"
    return ""


def _guides(path: bytes) -> set[int]:
    """The users who have the directories and links on the way to `path`. Raises OSError."""
    users: set[int] = set()
    place, links = b"/", 0
    names = path.split(b"/")[::-1]
    while names:
        name = names.pop()
        if name in (b"", b"."):
            continue
        users.add(os.lstat(place).st_uid)
        here, place = place, os.path.join(place, name)
        found = os.lstat(place)
        if stat.S_ISLNK(found.st_mode):
            links += 1
            if links > _LINKS_MAX:
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
            users.add(found.st_uid)
            target = os.readlink(place)
            names += target.split(b"/")[::-1]
            place = b"/" if target.startswith(b"/") else here
    return users


def _read(fd: int) -> bytes:
    octets = b""
    while len(octets) <= INCLUDE_OCTETS_MAX:
        piece = os.read(fd, INCLUDE_OCTETS_MAX + 1 - len(octets))
        if not piece:
            break
        octets += piece
    return octets
