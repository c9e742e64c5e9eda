"""The thread that writes log blocks, so that a slow or full disk never holds up mail.

`write` only queues. When more is queued than the bound, or the place does not take it, lines are
dropped and counted; `take_lost` hands the count over once, so that the log itself can say it.
"""

import threading
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import NamedTuple, Protocol

from .file import FilePlace

QUEUED_OCTETS_MAX = 16 * 1024 * 1024


class Lost(NamedTuple):
    """Lines that were dropped since the last report, and why."""

    line_count: int
    reason: str


class Place(Protocol):
    """What takes blocks in the end; `FilePlace` and `DatagramPlace` are some."""

    slow_text: str  # why lines are lost when it is too slow

    def put(self, octets: bytes, line_count: int, is_closing: Callable[[], bool]) -> int:
        """Take a block of whole lines, however long that takes; returns how many were lost.

        Raises OSError: all of them. Gives up soon once `is_closing()`.
        """

    def reopen(self) -> None:
        """Open anew."""

    def close(self) -> None:
        """Let go of what was opened."""


class _Block(NamedTuple):
    octets: bytes
    line_count: int


class Writer:
    """Appends blocks to a place. Made after any fork; one owner calls it."""

    def __init__(self, place: Place | str, queued_octets_max: int = QUEUED_OCTETS_MAX) -> None:
        """A path is that of a file, "-" is standard output; raises OSError if it cannot be."""
        self._place: Place = FilePlace(place) if isinstance(place, str) else place
        self._queued_octets_max = queued_octets_max
        self._queue: SimpleQueue[_Block | None] = SimpleQueue()
        self._queued_octets = 0  # grows in the owner's thread only
        self._done_octets = 0  # grows in the writing thread only
        self._lost_queueing = 0  # owner's thread only
        self._lost_writing = 0  # writing thread only
        self._lost_reported = 0
        self._reason = ""
        self._must_reopen = threading.Event()
        self._is_closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="journal", daemon=True)
        self._thread.start()

    def write(self, octets: bytes, line_count: int) -> None:
        """Queue a block of whole lines, or drop and count it when too much is queued."""
        assert octets.endswith(b"\n")
        if self._queued_octets - self._done_octets + len(octets) > self._queued_octets_max:
            self._lost_queueing += line_count
            self._reason = self._reason or self._place.slow_text
            return
        self._queued_octets += len(octets)
        self._queue.put(_Block(octets, line_count))

    def take_lost(self) -> Lost | None:
        """Lines dropped since the last call, or None."""
        count = self._lost_queueing + self._lost_writing - self._lost_reported
        if count == 0:
            return None
        self._lost_reported += count
        reason, self._reason = self._reason, ""
        return Lost(count, reason)

    def reopen(self) -> None:
        """Open the place anew (a log rotation has moved the file); what is queued goes there."""
        self._must_reopen.set()
        self._queue.put(_Block(b"", 0))

    def close(self, deadline_s: float = 5.0) -> int:
        """Write what is queued, waiting at most `deadline_s`. Returns the lines not written."""
        self._is_closing.set()
        self._queue.put(None)
        self._thread.join(deadline_s)
        lost = self.take_lost()
        count = 0 if lost is None else lost.line_count
        if self._thread.is_alive():  # it holds the place; the process's end closes it
            return count + self._count_queued()
        self._place.close()
        return count

    def _count_queued(self) -> int:
        count = 0
        while True:
            try:
                block = self._queue.get_nowait()
            except Empty:
                return count
            count += 0 if block is None else block.line_count

    def _run(self) -> None:
        while True:
            block = self._queue.get()
            if block is None:
                return
            try:
                if self._must_reopen.is_set():
                    self._must_reopen.clear()
                    self._place.reopen()
                if block.line_count:
                    lost = self._place.put(block.octets, block.line_count, self._is_closing.is_set)
                    if lost:
                        self._reason = self._place.slow_text
                        self._lost_writing += lost
            except OSError as error:
                self._reason = error.strerror or type(error).__name__
                self._lost_writing += block.line_count
            self._done_octets += len(block.octets)
