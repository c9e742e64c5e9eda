"""Aliases of local names, from a file such as /etc/aliases.

    name: address, address          a line that begins with a blank goes on
    # a comment

Addresses are names of the file, or whole ones. `|command`, `/file` and `:include:/file` are not
supported: mail to a name that has one goes to the postmaster too, so that none is lost.
"""

from __future__ import annotations

import os
import re

from .address import parse_addresses

FILE_OCTETS_MAX = 1024 * 1024
EXPANSION_MAX = 1_000  # addresses that one name becomes
_ENTRY = re.compile(rb'[ \t]*("(?:[^"\\]|\\.)*"|[^:\s"#]+)[ \t]*:(.*)', re.DOTALL)
_SPECIAL = re.compile(rb'[ \t]*(?:"?[|/]|:include:)')
_TARGET = re.compile(rb'(?:"(?:[^"\\]|\\.)*"|[^,"])+')


class Aliases:
    """What stands in one file: targets by name in lower case, and lines that make no sense."""

    __slots__ = ("problems", "targets", "unsupported")

    def __init__(self) -> None:
        self.targets: dict[bytes, list[bytes]] = {}
        self.unsupported: set[bytes] = set()  # names that lead to a command, file or list
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
            if _SPECIAL.match(part):
                self.unsupported.add(name)
                self.problems.append(
                    f"line {number}: commands, files and :include: are not supported; mail to"
                    f" {name.decode('latin-1')} goes to the postmaster"
                )
            else:
                targets += [mailbox.octets for mailbox in parse_addresses(part)]
        if not targets and name not in self.unsupported:
            self.problems.append(f"line {number}: {name.decode('latin-1')} has no address")
            return
        self.targets[name] = targets

    def expand(self, name: bytes) -> tuple[list[bytes], bool] | None:
        """The addresses that `name` stands for, names without an alias as they are.

        And whether some of it leads where we cannot deliver. None: it has no alias.
        """
        if name.lower() not in self.targets:
            return None
        found: dict[bytes, None] = {}
        seen: set[bytes] = set()
        waiting = [name]
        is_lacking = False
        while waiting and len(found) < EXPANSION_MAX:
            one = waiting.pop(0)
            # A leading backslash, or an alias to itself, ends the look-up.
            bare = one.removeprefix(b"\\").lower()
            targets = None if one.startswith(b"\\") or b"@" in one else self.targets.get(bare)
            if targets is None:
                found[one.removeprefix(b"\\")] = None
                continue
            if bare in seen:
                continue
            seen.add(bare)
            is_lacking = is_lacking or bare in self.unsupported
            for target in targets:
                if target.lower() == bare:
                    found[target] = None
                else:
                    waiting.append(target)
        return list(found), is_lacking


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
