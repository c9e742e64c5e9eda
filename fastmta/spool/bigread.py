"""Reading large contents: checked as a whole first, then piece by piece, in a thread of its own.

The thread does a little of each thing that is asked for in turn, so that checking one content does
not hold up the sending of others.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import queue
import threading
from collections.abc import Callable
from typing import TypeAlias

from fastmta.message import ContentFile

from ._log import checksum

PIECE_OCTETS = 128 * 1024  # handed out at once
_CHECK_OCTETS = 256 * 1024  # read at once while a content is checked
_CHECKS = 16  # of these before the next one's turn


class ContentDamaged(Exception):
    """The file of a content is missing, or its octets are not those that were received."""


Opened: TypeAlias = Callable[["BigSource | None", Exception | None], None]
Read: TypeAlias = Callable[[bytes, Exception | None], None]


class BigSource:
    """A content that was checked and can be read; any number of times, until `close`."""

    def __init__(self, readers: BigReaders, fd: int, file: ContentFile) -> None:
        self._readers = readers
        self.fd = fd
        self.file = file

    def stream(self) -> BigStream:
        """Begin at the first octet."""
        return BigStream(self._readers, self)

    def close(self) -> None:
        """Nothing more is read; a `read` under way still answers."""
        self._readers.ask(self._close)

    def _close(self) -> None:
        os.close(self.fd)


class BigStream:
    """One reading of a content, in order, checked once more on the way."""

    def __init__(self, readers: BigReaders, source: BigSource) -> None:
        self._readers = readers
        self._source = source
        self._offset = 0
        self._checksum = 0

    def read(self, done: Read) -> None:
        """`done(octets, None)` with the next piece, b"" at the end; or `done(b"", error)`.

        The last piece is handed out only if all of them were what was received.
        """
        self._readers.ask(lambda: self._read(done))

    def _read(self, done: Read) -> None:
        file = self._source.file
        wanted = min(PIECE_OCTETS, file.size_octets - self._offset)
        try:
            octets = os.pread(self._source.fd, wanted, self._offset)
        except (OSError, MemoryError) as problem:
            self._readers.tell(done, b"", problem)
            return
        self._offset += len(octets)
        self._checksum = checksum(octets, self._checksum)
        is_short = len(octets) < wanted
        if is_short or (self._offset == file.size_octets and self._checksum != file.checksum):
            problem_ = self._readers.damaged(file.path, "it has changed while it was read")
            self._readers.tell(done, b"", problem_)
        else:
            self._readers.tell(done, octets, None)


class _Check:
    """The whole of a file against what its record says."""

    def __init__(self, readers: BigReaders, file: ContentFile, done: Opened) -> None:
        self._readers = readers
        self._file = file
        self._done = done
        self._fd = -1
        self._offset = 0
        self._checksum = 0

    def step(self) -> None:
        try:
            is_over = self._go_on()
        except FileNotFoundError:
            self._give_up(self._readers.damaged(self._file.path, "it is missing"))
            return
        except (OSError, MemoryError) as problem:
            self._give_up(problem)
            return
        if not is_over:
            self._readers.ask(self.step)
        elif self._offset != self._file.size_octets or self._checksum != self._file.checksum:
            why = "its octets are not those that were received"
            self._give_up(self._readers.damaged(self._file.path, why))
        else:
            self._readers.trust(self._file.path)
            source = BigSource(self._readers, self._fd, self._file)
            self._readers.tell(self._done, source, None)

    def _go_on(self) -> bool:
        """Read a little more; whether that was all."""
        if self._fd < 0:
            self._fd = os.open(self._file.path, os.O_RDONLY | os.O_CLOEXEC)
            if os.fstat(self._fd).st_size != self._file.size_octets:
                return True
        buffer = self._readers.buffer
        for _ in range(_CHECKS):
            count = os.preadv(self._fd, [buffer], self._offset)
            if not count:
                return True
            self._checksum = checksum(buffer[:count], self._checksum)
            self._offset += count
        return False

    def _give_up(self, problem: Exception) -> None:
        if self._fd >= 0:
            os.close(self._fd)
        self._readers.tell(self._done, None, problem)


class BigReaders:
    """The reading thread. `open`, `head`, `forget` and `attach` are the loop's."""

    def __init__(self, quarantine: str) -> None:
        self._quarantine = quarantine
        self._jobs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="spool-big-reader", daemon=True)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._trusted: set[str] = set()  # paths written or checked since this start
        self.buffer = memoryview(bytearray(_CHECK_OCTETS))  # the thread's

    def attach(self, loop: asyncio.AbstractEventLoop) -> None:
        """Work on `loop` from now on."""
        self._loop = loop
        self._thread.start()

    def open(self, file: ContentFile, done: Opened) -> None:
        """See `BigFiles.open`."""
        self.ask(_Check(self, file, done).step)

    def head(self, file: ContentFile, octets: int) -> bytes:
        """See `BigFiles.head`. Reads at once: a report is rare, and this is little."""
        if file.path not in self._trusted:
            return b""
        try:
            fd = os.open(file.path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return b""
        try:
            return os.pread(fd, octets, 0)
        except OSError:
            return b""
        finally:
            os.close(fd)

    def close(self) -> None:
        """Do what was asked for, then end the thread."""
        self._jobs.put(None)
        if self._thread.is_alive():
            self._thread.join()

    # Any thread.

    def trust(self, path: str) -> None:
        """The file is as its record says."""
        self._trusted.add(path)

    def forget(self, path: str) -> None:
        """The file goes, or is not what it should be."""
        self._trusted.discard(path)

    def damaged(self, path: str, why: str) -> ContentDamaged:
        """A file is not what it should be: keep it for the operator under another name as well."""
        self.forget(path)
        kept = self.quarantine(path)
        return ContentDamaged(f"{path}: {why}" + (f"; kept as {kept}" if kept else ""))

    def quarantine(self, path: str) -> str:
        """Give the file a second name in quarantine/; "" when that cannot be done."""
        target = os.path.join(self._quarantine, "big-" + os.path.basename(path))
        try:
            os.link(path, target)
        except FileExistsError:
            return target
        except OSError:
            return ""
        return target

    def ask(self, job: Callable[[], None]) -> None:
        """Do it in the thread."""
        self._jobs.put(job)

    def tell(self, function: Callable[..., None], *values: object) -> None:
        """In the thread: call on the loop."""
        assert self._loop is not None
        with contextlib.suppress(RuntimeError):  # the loop was closed: nobody is there to hear
            self._loop.call_soon_threadsafe(function, *values)

    # In the thread.

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            job()
