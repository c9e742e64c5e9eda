"""One large content on its way to its file."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

from fastmta.message import ContentFile

from ._log import checksum
from .layout import FILE_MODE

if TYPE_CHECKING:
    from .big import BigFiles

SPILL_OCTETS_MAX = 512 * 1024  # not yet written, of one content; beyond that its client waits
ALL_OCTETS_MAX = 16 * 1024 * 1024  # the same of all contents together
FLUSH_OCTETS = 8 * 1024 * 1024  # a flush of more at once would hold those of the log up for long
_PIECES_MAX = 512  # in one call of writev; the kernel takes 1,024

Finished: TypeAlias = Callable[[ContentFile | None, OSError | None], None]


class Spill:
    """One large content on its way to its file. Loop thread only, but for `_work` and below.

    `write` never blocks and never raises: an error is told by `finish`, and from then on octets are
    dropped. While `is_behind` its owner should write no more; `caught_up` is called when it may.
    """

    def __init__(self, files: BigFiles, path: str, caught_up: Callable[[], None]) -> None:
        self.is_behind = False
        self._files = files
        self._path = path
        self._caught_up = caught_up
        self._waiting: list[bytes] = []
        self._unwritten = 0  # octets of it, and of what the thread has taken
        self._is_asked = False  # `_work` is queued
        self._is_abandoned = False
        self._done: Finished | None = None
        # The thread's own; `_problem` is read by the loop.
        self._is_over = False
        self._fd = -1
        self._problem: OSError | None = None
        self._size_octets = 0
        self._unflushed = 0
        self._checksum = 0

    def write(self, octets: bytes) -> None:
        """Append canonical content."""
        assert self._done is None
        if self._problem is not None or not octets:
            return
        self._waiting.append(octets)
        self._unwritten += len(octets)
        self._files.unwritten += len(octets)
        if self._unwritten >= SPILL_OCTETS_MAX or self._files.unwritten >= ALL_OCTETS_MAX:
            self.is_behind = True
            self._files.behind[self] = None
        self._ask()

    def finish(self, done: Finished) -> None:
        """Nothing follows: `done(file, None)` when it is durable, `done(None, error)` if not."""
        self._done = done
        self._leave()
        self._ask()

    def abandon(self) -> None:
        """Nobody wants it any more: close and remove it. Not after `finish`."""
        assert self._done is None
        self._is_abandoned = True
        self._leave()
        self._ask()

    def _ask(self) -> None:
        if not self._is_asked:
            self._is_asked = True
            self._files.ask(self._work)

    def written(self, octets: int) -> None:
        """The thread has dealt with this many."""
        self._unwritten -= octets
        self._files.unwritten -= octets

    def go_on(self) -> None:
        """It was behind: tell its owner if it is not any more."""
        if self.is_behind and self._unwritten <= SPILL_OCTETS_MAX // 2:
            self._leave()
            self._caught_up()

    def _leave(self) -> None:
        self.is_behind = False
        self._files.behind.pop(self, None)

    def report(self, file: ContentFile | None) -> None:
        """The end, on the loop."""
        assert self._done is not None
        self._done(file, self._problem)

    # In the thread.

    def _work(self) -> None:
        self._is_asked = False  # first: what is asked from here on is another job
        if self._is_over:
            return
        # Before the octets are taken, so that none can follow.
        self._is_over = self._is_abandoned or self._done is not None
        pieces, self._waiting = self._waiting, []
        if self._problem is None and not self._is_abandoned:
            try:
                self._write(pieces)
            except OSError as problem:
                self._fail(problem)
            except Exception as problem:  # no memory, or ours: its session must hear of it anyhow
                self._fail(OSError(errno.EIO, repr(problem)))
        if pieces:
            self._files.tell(self._files.was_written, self, sum(map(len, pieces)))
        if self._is_abandoned:
            self._is_over = True
            self._discard()
        elif self._is_over:
            self._files.finish_soon(self)

    def _write(self, pieces: list[bytes]) -> None:
        if self._fd < 0:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            self._fd = os.open(self._path, flags, FILE_MODE)
        for at in range(0, len(pieces), _PIECES_MAX):
            self._write_whole(pieces[at : at + _PIECES_MAX])
        if self._files.is_flushing and self._unflushed >= FLUSH_OCTETS:
            os.fdatasync(self._fd)
            self._unflushed = 0

    def _write_whole(self, pieces: list[bytes]) -> None:
        octets = sum(map(len, pieces))
        for piece in pieces:
            self._checksum = checksum(piece, self._checksum)
        rest = octets - os.writev(self._fd, pieces)
        if rest:  # a short write; what the disk refuses is told by the next one
            tail = memoryview(b"".join(pieces))[-rest:]
            while tail:
                tail = tail[os.write(self._fd, tail) :]
        self._size_octets += octets
        self._unflushed += octets

    def flush(self) -> bool:
        """Make its octets durable and close it; whether the name is still to be made durable."""
        if self._problem is None:
            try:
                if self._files.is_flushing:
                    os.fdatasync(self._fd)
            except OSError as problem:
                self._fail(problem)
            else:
                os.close(self._fd)
                self._fd = -1
        return self._problem is None

    def seal(self, problem: OSError | None, boot: int) -> ContentFile | None:
        """The directory is durable, or (problem) is not."""
        if problem is not None and self._problem is None:
            self._fail(problem)
        if self._problem is not None:
            return None
        return ContentFile(self._path, self._size_octets, self._checksum, boot)

    def _fail(self, problem: OSError) -> None:
        self._problem = problem
        self._discard()

    def _discard(self) -> None:
        """Close and remove what there is of it. A leftover is the next start's to sweep."""
        was_made = self._fd >= 0 or self._size_octets
        if self._fd >= 0:
            with contextlib.suppress(OSError):
                os.close(self._fd)
            self._fd = -1
        if was_made:
            with contextlib.suppress(OSError):
                os.unlink(self._path)
