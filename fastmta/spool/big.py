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
import errno
import os
import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TypeAlias

from fastmta.event import Event, Notice, Severity
from fastmta.message import ContentFile

from ._log import checksum
from .bigread import BigReaders, Opened
from .layout import FILE_MODE, Layout, sync_directory

SPILL_OCTETS_MAX = 512 * 1024  # not yet written, of one content; beyond that its client waits
ALL_OCTETS_MAX = 16 * 1024 * 1024  # the same of all contents together
FLUSH_OCTETS = 8 * 1024 * 1024  # a flush of more at once would hold those of the log up for long
SWEEP_STEP = 256  # files looked at in one go
_ID_OCTETS = 16
_PIECES_MAX = 512  # in one call of writev; the kernel takes 1,024

Finished: TypeAlias = Callable[[ContentFile | None, OSError | None], None]
Live: TypeAlias = Callable[[Sequence[bytes], Callable[[set[bytes]], None]], None]


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
            except MemoryError:
                self._fail(OSError(errno.ENOMEM, os.strerror(errno.ENOMEM)))
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
        _Sweep(self, self._layout.big, live, done).step()

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
                    job()
            self._end()

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


class _Sweep:
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
