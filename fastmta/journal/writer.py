"""The thread that writes log blocks, so that a slow or full disk never holds up mail.

`write` only queues. When more is queued than the bound, or the file cannot be written, lines are
dropped and counted; `take_lost` hands the count over once, so that the log itself can say it.
"""

import os
import select
import threading
from queue import Empty, SimpleQueue
from typing import NamedTuple

STANDARD_OUTPUT = "-"
QUEUED_OCTETS_MAX = 16 * 1024 * 1024
_STALL_S = 1.0  # how long one wait for a full pipe lasts before closing is looked at again


class Lost(NamedTuple):
    """Lines that were dropped since the last report, and why."""

    line_count: int
    reason: str


class _Block(NamedTuple):
    octets: bytes
    line_count: int


class Writer:
    """Appends blocks to a file or standard output. Made after any fork; one owner calls it."""

    def __init__(self, path: str, queued_octets_max: int = QUEUED_OCTETS_MAX) -> None:
        """Opens `path` at once; raises OSError when that fails."""
        self._path = path
        self._queued_octets_max = queued_octets_max
        self._descriptor = _open(path)
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
            self._reason = self._reason or "the file cannot be written fast enough"
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
        """Open the path anew (a log rotation has moved the file); what is queued goes there."""
        self._must_reopen.set()
        self._queue.put(_Block(b"", 0))

    def close(self, deadline_s: float = 5.0) -> int:
        """Write what is queued, waiting at most `deadline_s`. Returns the lines not written."""
        self._is_closing.set()
        self._queue.put(None)
        self._thread.join(deadline_s)
        lost = self.take_lost()
        count = 0 if lost is None else lost.line_count
        if self._thread.is_alive():  # it holds the file; the process's end closes it
            return count + self._count_queued()
        if self._path != STANDARD_OUTPUT:
            os.close(self._descriptor)
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
                    self._reopen()
                self._write_all(block.octets)
            except OSError as error:
                self._reason = error.strerror or type(error).__name__
                self._lost_writing += block.line_count
            self._done_octets += len(block.octets)

    def _reopen(self) -> None:
        if self._path == STANDARD_OUTPUT:
            return
        try:
            descriptor = _open(self._path)
        except OSError as error:  # the old file still takes lines; better there than nowhere
            text = f"fastmta: cannot reopen {self._path}: {error.strerror}\n"
            self._write_all(text.encode("ascii", "replace"))
            return
        os.close(self._descriptor)
        self._descriptor = descriptor

    def _write_all(self, octets: bytes) -> None:
        rest = memoryview(octets)
        while rest:
            try:
                rest = rest[os.write(self._descriptor, rest) :]
            except BlockingIOError:  # standard output may be a pipe that others made non-blocking
                poll = select.poll()
                poll.register(self._descriptor, select.POLLOUT)
                if not poll.poll(_STALL_S * 1000) and self._is_closing.is_set():
                    raise


def check_file(path: str) -> None:
    """Raises OSError, with the path, when a log cannot be written there. May create the file."""
    if path != STANDARD_OUTPUT:
        os.close(_open(path))


def _open(path: str) -> int:
    if path == STANDARD_OUTPUT:
        return 1
    return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)
