"""Aliases of local names, from a file such as /etc/aliases.

    name: address, address          a line that begins with a blank goes on
    # a comment

Addresses are names of the file, or whole ones, or `:include:/path`: see `include`. `|command` and
`/file` are not supported: mail to a name that has one goes to the postmaster too, so that none is
lost; so does mail for a list that cannot be read.
"""

from __future__ import annotations

import os
import re
from collections import deque

from .address import parse_addresses
from .include import Lists, included

FILE_OCTETS_MAX = 1024 * 1024
EXPANSION_MAX = 10_000  # addresses that one name becomes
_ENTRY = re.compile(rb'[ \t]*("(?:[^"\\]|\\.)*"|[^:\s"#]+)[ \t]*:(.*)', re.DOTALL)
_SPECIAL = re.compile(rb'[ \t]*"?[|/]')
_UNSUPPORTED = "a command or file, which is not supported"
_TARGET = re.compile(rb'(?:"(?:[^"\\]|\\.)*"|[^,"])+')


class Aliases:
    """What stands in one file: targets by name in lower case, and lines that make no sense."""

    __slots__ = ("lists", "problems", "targets", "unsupported")

    def __init__(self) -> None:
        self.targets: dict[bytes, list[bytes]] = {}
        self.lists: dict[bytes, list[bytes]] = {}  # paths of lists, by the same
        self.unsupported: set[bytes] = set()  # names that lead to a command or file
        self.problems: list[str] = []

    @classmethod
    def parse(cls, octets: bytes) -> Aliases:
        """From the content of a file; what cannot be understood is a problem and nothing else."""
        found = cls()
        number, logical = 0, ""
        first = 1
        for number, line in enumerate([*octets.split(b"\n"), b"end:"], 1):
            text = line.rstrip(b"\r").decode("latin-1")
            if text[:1] in (" ", "\t") and text.strip(" \t") and logical:
                logical += " " + text
                continue
            if text[:1] == "#" or not text.strip(" \t"):
                continue
            found._take(logical.encode("latin-1"), first)
            logical, first = text, number
        return found

    def _take(self, line: bytes, number: int) -> None:
        if not line:
            return
        entry = _ENTRY.fullmatch(line)
        if entry is None:
            self.problems.append(f"line {number}: needs name: address")
            return
        name = entry[1].strip(b'"').lower()
        if name in self.targets:
            self.problems.append(f"line {number}: {name.decode('latin-1')} stands there twice")
            return
        targets: list[bytes] = []
        for part in _TARGET.findall(entry[2]):
            path = included(part)
            if path is not None:
                self.lists.setdefault(name, []).append(path)
            elif _SPECIAL.match(part):
                self.unsupported.add(name)
                self.problems.append(
                    f"line {number}: commands and files are not supported; mail to"
                    f" {name.decode('latin-1')} goes to the postmaster"
                )
            else:
                targets += [mailbox.octets for mailbox in parse_addresses(part)]
        if not targets and name not in self.unsupported and name not in self.lists:
            self.problems.append(f"line {number}: {name.decode('latin-1')} has no address")
            return
        self.targets[name] = targets

    def expand(self, name: bytes) -> tuple[list[bytes], list[str]] | None:
        """The addresses that `name` stands for, names without an alias as they are.

        And what else it leads to, where we cannot deliver. None: it has no alias.
        """
        if name.lower() not in self.targets:
            return None
        found: dict[bytes, None] = {}
        seen: set[bytes] = set()
        waiting = deque([name])
        lists = Lists()
        lacks: list[str] = []
        while waiting:
            if len(found) >= EXPANSION_MAX:
                lacks.append(f"more than {EXPANSION_MAX} addresses, not all of which get it")
                break
            one = waiting.popleft()
            # A leading backslash, or an alias to itself, ends the look-up.
            bare = one.removeprefix(b"\\").lower()
            targets = None if one.startswith(b"\\") or b"@" in one else self.targets.get(bare)
            if targets is None:
                found[one.removeprefix(b"\\")] = None
                continue
            if bare in seen:
                continue
            seen.add(bare)
            if bare in self.unsupported and _UNSUPPORTED not in lacks:
                lacks.append(_UNSUPPORTED)
            for path in self.lists.get(bare, ()):
                targets = targets + lists.read(path)
            for target in targets:
                if target.lower() == bare:
                    found[target] = None
                else:
                    waiting.append(target)
        return list(found), lacks + lists.problems


class AliasFile:
    """The aliases of a file, read again when it has changed."""

    def __init__(self, path: str) -> None:
        """An empty path: there are none."""
        self.path = path
        self.trouble = ""  # why it cannot be read
        self._mark: tuple[int, int, int] | None = None
        self._aliases = Aliases()

    def read(self) -> Aliases:
        """What it says now; what it said last while it cannot be read. A missing one is empty."""
        if not self.path:
            return self._aliases
        try:
            found = os.stat(self.path)
            mark = (found.st_mtime_ns, found.st_size, found.st_ino)
            if mark != self._mark:
                with open(self.path, "rb") as file:
                    octets = file.read(FILE_OCTETS_MAX + 1)
                if len(octets) > FILE_OCTETS_MAX:
                    self.trouble = f"it is larger than {FILE_OCTETS_MAX} octets"
                    return self._aliases
                self._aliases, self._mark, self.trouble = Aliases.parse(octets), mark, ""
        except FileNotFoundError:
            self._aliases, self._mark, self.trouble = Aliases(), None, ""
        except OSError as problem:
            self.trouble = problem.strerror or "it cannot be read"
        return self._aliases
