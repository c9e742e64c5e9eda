"""What a crash left in big/: contents of earlier starts that no live message refers to."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, TypeAlias

from fastmta.event import Severity

if TYPE_CHECKING:
    from .big import BigFiles

SWEEP_STEP = 256  # files looked at in one go
_ID_OCTETS = 16

Live: TypeAlias = Callable[[Sequence[bytes], Callable[[set[bytes]], None]], None]


class Sweep:
    """One pass over big/: the thread lists, the loop asks who is live, the thread removes."""

    def __init__(
        self, files: BigFiles, directory: str, live: Live, done: Callable[[int], None] | None
    ) -> None:
        self._files = files
        self._directory = directory
        self._live = live
        self._done = done
        self._names: Iterator[os.DirEntry[str]] | None = None  # the thread's
        self._count = 0

    def step(self) -> None:
        """Look at a few more."""
        self._files.ask(self._list)

    def _list(self) -> None:
        found: dict[bytes, str] = {}
        try:
            if self._names is None:
                self._names = os.scandir(self._directory)
            for entry in self._names:
                boot, dash, id = entry.name.partition("-")
                try:
                    is_earlier = bool(dash and id) and int(boot, 16) < self._files.boot
                except ValueError:
                    continue  # not ours
                if is_earlier and len(id) == _ID_OCTETS:
                    found[id.encode("ascii", "replace")] = entry.path
                if len(found) == SWEEP_STEP:
                    break
        except OSError as problem:
            self._files.report(f"{self._directory} cannot be searched: {problem.strerror}")
            found.clear()
        self._files.tell(self._ask, found)

    def _ask(self, found: dict[bytes, str]) -> None:
        if not found:
            self._end()
            return
        self._live(list(found), lambda live: self._remove(found, live))

    def _remove(self, found: dict[bytes, str], live: set[bytes]) -> None:
        orphans = [path for id, path in found.items() if id not in live]
        self._count += len(orphans)
        if orphans:
            self._files.ask(lambda: self._files.take_orphans(orphans))
        self.step()

    def _end(self) -> None:
        if self._count:
            what = "moved to quarantine" if self._files.is_keeping_orphans else "removed"
            text = f"{self._count} large contents of earlier starts had no message: {what}"
            self._files.report(text, Severity.INFO)
        if self._done is not None:
            self._done(self._count)
