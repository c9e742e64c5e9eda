"""The keeper: a thread that has the next segment file ready before it is needed."""

from __future__ import annotations

import asyncio
import contextlib
import os
import queue
import threading
from collections import deque
from collections.abc import Callable, Sequence

from .layout import FILE_MODE, sync_directory
from .segment import HEADER_OCTETS, LogKind, Segment

SPARES_WANTED = 2  # ready at any time, besides the segment in use
COLD_SPARES_WANTED = 1
SPARES_MAX = 4  # more are removed
RETRY_S = 1.0  # after the disk refused a new segment
_ZEROS = bytes(1024 * 1024)


def write_zeros(fd: int, count: int, is_flushing: bool) -> None:
    """Allocate every block of the file, so that later writes only overwrite.

    Flushed piece by piece: one flush of a whole segment holds those of the log up for long.
    """
    offset = 0
    while offset < count:
        offset += os.pwrite(fd, memoryview(_ZEROS)[: count - offset], offset)
        if is_flushing:
            os.fdatasync(fd)


class Keeper:
    """Makes, voids and removes segment files of one log in the background.

    `take` is called by the one thread that writes that log, `free` and `attach` on the loop's;
    `on_ready` is called there when a spare has become available, `on_problem` when the disk refused
    one.
    """

    def __init__(
        self,
        directory: str,
        segment_octets: int,
        is_flushing: bool,
        kind: LogKind = LogKind.HOT,
        wanted: int = SPARES_WANTED,
    ) -> None:
        self._kind = kind
        self._wanted = wanted
        self._freed = 0  # segments handed to `free`
        self._voided = 0  # of these, those that can never be taken for part of the log again
        self._directory = directory
        self._segment_octets = segment_octets
        self._is_flushing = is_flushing
        self._number = 0
        self._spares: deque[Segment] = deque()
        self._is_requested = False
        self._jobs: queue.SimpleQueue[list[Segment] | None] = queue.SimpleQueue()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._on_ready: Callable[[], None] | None = None
        self._on_problem: Callable[[OSError], None] | None = None
        self._is_stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="spool-keeper", daemon=True)

    def adopt(self, number_seen: int, spares: Sequence[Segment], is_needed: bool = True) -> None:
        """Take over what recovery found, before `start`; make the first spare if `is_needed`."""
        self._number = number_seen
        for spare in spares:
            if spare.size_octets == self._segment_octets and len(self._spares) < SPARES_MAX:
                self._spares.append(spare)
            else:
                self._remove(spare)
        if not self._spares and is_needed:
            self._spares.append(self._make())
        elif self._spares and self._is_flushing:
            # A file that was being made when the process died may have no durable name yet.
            for spare in self._spares:
                os.fsync(spare.fd)
            sync_directory(self._directory)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def attach(
        self,
        loop: asyncio.AbstractEventLoop,
        on_ready: Callable[[], None],
        on_problem: Callable[[OSError], None],
    ) -> None:
        """From now on tell the loop."""
        self._loop, self._on_ready, self._on_problem = loop, on_ready, on_problem
        self._request()

    def take(self) -> Segment | None:
        """A spare, or None when none is ready; then `on_ready` follows."""
        spare = self._spares.popleft() if self._spares else None
        self._request()
        return spare

    def put_back(self, spare: Segment) -> None:
        """A spare that was taken and not written to."""
        self._spares.appendleft(spare)

    def free(self, segments: list[Segment]) -> None:
        """Void these segments, in this order (oldest first), and keep them as spares."""
        self._freed += len(segments)
        self._jobs.put(segments)

    @property
    def is_voiding(self) -> bool:
        """Whether a freed segment might still be read as part of the log after a crash."""
        return self._voided < self._freed

    def stop(self) -> None:
        """End the thread and close the spares."""
        self._is_stopping.set()
        self._jobs.put(None)
        if self._thread.is_alive():
            self._thread.join()
        for spare in self._spares:
            spare.close()
        self._spares.clear()

    def _request(self) -> None:
        if len(self._spares) < self._wanted and not self._is_requested:
            self._is_requested = True
            self._jobs.put([])

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            for segment in job:
                self._try(self._void, segment)
                self._voided += 1
            self._is_requested = False  # a request after this line is another job
            while len(self._spares) < self._wanted and not self._is_stopping.is_set():
                self._try(self._make_spare, None)

    def _try(self, step: Callable[[Segment | None], None], segment: Segment | None) -> None:
        """Do `step` until the disk lets us; say each time that it did not. At the end of the shard
        what was freed is still voided, but nothing is tried again."""
        while True:
            try:
                step(segment)
            except OSError as problem:
                self._tell(self._on_problem, problem)
                if self._is_stopping.wait(RETRY_S):
                    break
            else:
                self._tell(self._on_ready)
                return
        if segment is not None:
            segment.close()  # its header stands: the next start gives it back

    def _tell(self, function: Callable[..., None] | None, *values: object) -> None:
        if self._loop is not None and function is not None and not self._is_stopping.is_set():
            self._loop.call_soon_threadsafe(function, *values)

    def _make_spare(self, _: Segment | None) -> None:
        self._spares.append(self._make())

    def _make(self) -> Segment:
        number = self._number + 1
        path = os.path.join(self._directory, f"{number:016x}.seg")
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        fd = os.open(path, flags, FILE_MODE)
        self._number = number
        try:
            write_zeros(fd, self._segment_octets, self._is_flushing)
            if self._is_flushing:
                os.fsync(fd)
                sync_directory(self._directory)
        except OSError:
            os.close(fd)
            os.unlink(path)
            raise
        return Segment(path, fd, self._segment_octets, self._kind)

    def _void(self, segment: Segment | None) -> None:
        assert segment is not None
        if segment.is_suspect:  # never written again; its name must be gone before younger ones
            with contextlib.suppress(FileNotFoundError):  # when this is tried again
                os.unlink(segment.path)
            sync_directory(self._directory)
            segment.close()
            return
        try:
            os.pwrite(segment.fd, bytes(HEADER_OCTETS), 0)
            if self._is_flushing:
                os.fdatasync(segment.fd)
        except OSError:
            segment.is_suspect = True
            raise
        if len(self._spares) >= SPARES_MAX or segment.size_octets != self._segment_octets:
            self._remove(segment)
        else:
            self._spares.append(Segment(segment.path, segment.fd, segment.size_octets, self._kind))

    def _remove(self, segment: Segment) -> None:
        os.unlink(segment.path)
        segment.close()
