"""Large contents: each is a file of its own in big/, written while it is still being received.

Order of one content: its octets, fdatasync(file), close, fsync(directory), only then is it reported
and its REF record appended to the log. Its file goes when the mark that made its message final is
durable. What a crash leaves behind between those steps is found by the sweep of a later start.

Whatever may block (open, write, flush, unlink) is done by one thread, in the order asked for;
reading is the business of `bigread`. The loop's thread hears of it by callbacks.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import queue
import threading
from collections.abc import Callable
from functools import partial

from fastmta.event import Event, Notice, Severity
from fastmta.message import ContentFile

from .bigread import BigReaders, Opened
from .layout import Layout, sync_directory
from .spill import ALL_OCTETS_MAX, Spill
from .sweep import Live, Sweep


class BigFiles:
    """Large contents of one shard. Loop thread only, where nothing else is said."""

    def __init__(
        self, layout: Layout, boot: int, emit: Callable[[Event], None], *, is_flushing: bool
    ) -> None:
        """`boot` is the number of this start; `is_flushing` False gives up what a flush is for."""
        self._layout = layout
        self._boot = boot
        self._emit = emit
        self.is_flushing = is_flushing
        self.unwritten = 0  # octets of all contents that are not written yet
        self.behind: dict[Spill, None] = {}  # in the order in which they fell behind
        self.is_keeping_orphans = False  # the sweep moves to quarantine/ and removes nothing
        self._jobs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._ending: list[Spill] = []  # the thread's
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread(target=self._run, name="spool-big", daemon=True)
        self._readers = BigReaders(layout.quarantine)

    def attach(self, loop: asyncio.AbstractEventLoop) -> None:
        """Work on `loop` from now on."""
        self._loop = loop
        self._thread.start()
        self._readers.attach(loop)

    def begin(self, id: bytes, caught_up: Callable[[], None]) -> Spill:
        """The file of a new content; see `Spill`."""
        return Spill(self, self._layout.big_path(self._boot, id), caught_up)

    def open(self, file: ContentFile, done: Opened) -> None:
        """Check a whole content, then `done(source, None)`, or the OSError or ContentDamaged."""
        self._readers.open(file, done)

    def head(self, file: ContentFile, octets: int) -> bytes:
        """Its first octets; b"" when nobody has checked it since this start, or it is not there."""
        return self._readers.head(file, octets)

    def remove(self, file: ContentFile) -> None:
        """Its message is final, and that is durable."""
        self._readers.forget(file.path)
        self.ask(partial(self._unlink, file.path))

    def keep(self, id: bytes) -> None:
        """The record of message `id` is damaged: keep its content for the operator, if any."""
        self.ask(lambda: self._keep(id.decode("ascii", "replace")))

    def sweep(self, live: Live, done: Callable[[int], None] | None = None) -> None:
        """Remove contents that a crash left over, a few at a time; then `done(how many)`.

        Only those of earlier starts are looked at: what has no record yet in this one is being
        received. `live(ids, answer)` says which of those messages are live; it must know them all.
        """
        Sweep(self, self._layout.big, live, done).step()

    def close(self) -> None:
        """Do what was asked for, then end the threads. Contents under way are left to the sweep."""
        self._jobs.put(None)
        if self._thread.is_alive():
            self._thread.join()
        self._readers.close()

    # What spills and the sweep call.

    def ask(self, job: Callable[[], None]) -> None:
        """Do it in the thread."""
        self._jobs.put(job)

    def was_written(self, spill: Spill, octets: int) -> None:
        """The thread has written for a spill; those that waited for room go on."""
        spill.written(octets)
        if self.unwritten <= ALL_OCTETS_MAX // 2:
            for other in list(self.behind):
                other.go_on()

    def finish_soon(self, spill: Spill) -> None:
        """In the thread: flush it with the others that end now."""
        self._ending.append(spill)

    def tell(self, function: Callable[..., None], *values: object) -> None:
        """In the thread: call on the loop."""
        assert self._loop is not None
        with contextlib.suppress(RuntimeError):  # the loop was closed: nobody is there to hear
            self._loop.call_soon_threadsafe(function, *values)

    @property
    def boot(self) -> int:
        """The number of this start."""
        return self._boot

    def report(self, text: str, severity: Severity = Severity.WARNING) -> None:
        """In the thread: tell the operator."""
        self.tell(self._emit, Notice("spool", text, severity))

    # In the thread.

    def _run(self) -> None:
        is_open = True
        while is_open:
            jobs = [self._jobs.get()]
            while not self._jobs.empty():
                jobs.append(self._jobs.get())
            for job in jobs:
                if job is None:
                    is_open = False
                else:
                    self._do(job)
            self._do(self._end)

    def _do(self, job: Callable[[], None]) -> None:
        """One job, whose failure must not end the thread: every large content needs it."""
        try:
            job()
        except Exception as problem:
            self.report(f"a large content could not be worked on: {problem!r}", Severity.ERROR)

    def _end(self) -> None:
        """Make all contents that ended durable: each file, then the directory once for all."""
        ending, self._ending = self._ending, []
        if not ending:
            return
        problem: OSError | None = None
        flushed = [spill.flush() for spill in ending]
        if self.is_flushing and any(flushed):
            try:
                sync_directory(self._layout.big)
            except OSError as error:
                problem = error
        for spill in ending:
            file = spill.seal(problem, self._boot)
            if file is not None:
                self._readers.trust(file.path)
            self.tell(spill.report, file)

    def _keep(self, id: str) -> None:
        with contextlib.suppress(OSError):
            for name in os.listdir(self._layout.big):
                if name.partition("-")[2] == id:
                    self._readers.quarantine(os.path.join(self._layout.big, name))

    def _unlink(self, path: str) -> None:
        try:
            os.unlink(path)
        except FileNotFoundError:
            pass  # a second mark of the same message
        except OSError as problem:
            self.report(f"{path} cannot be removed: {problem.strerror}; the next start tries again")

    def take_orphans(self, paths: list[str]) -> None:
        """In the thread: away with them, or to quarantine/."""
        for path in paths:
            if self.is_keeping_orphans:
                self._readers.quarantine(path)
            self._unlink(path)
