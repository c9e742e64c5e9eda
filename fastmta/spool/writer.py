"""The writer: groups of records go to the tail of the hot log, one flush at a time.

While the committer flushes one group, the next one fills: no timer, no lock. Only a group that
holds nothing but marks waits a little for company. A group that fails is kept and written anew
elsewhere: see `rescue.py`.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import TypeAlias

from fastmta.event import Event
from fastmta.message import Message, RecipientState

from ._log import Log
from .codec import encode
from .keeper import Keeper
from .option import Durability, SpoolOptions
from .problem import SpoolError, SpoolFull
from .rescue import Rescue
from .segment import HEADER_OCTETS, Segment, SegmentTable
from .statistic import Statistics
from .tail import Tail

GROUP_OCTETS_MAX = 4 * 1024 * 1024  # more waits for the next group
MARK_WAIT_S = 0.005  # how long a group of marks only waits for company

Done: TypeAlias = Callable[[Message, SpoolError | None], None]
# message, its callback, offset of its first record in the group, changes (None: accepted), DSN
Entry: TypeAlias = tuple[Message, Done, int, Sequence[RecipientState] | None, Message | None]


class Writer:
    """Appends records and says when they are durable. Loop thread only."""

    def __init__(
        self,
        options: SpoolOptions,
        segments: SegmentTable,
        keeper: Keeper,
        statistics: Statistics,
        emit: Callable[[Event], None],
    ) -> None:
        self._statistics = statistics
        self._go_fd = os.eventfd(0, os.EFD_CLOEXEC)
        self._done_fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        room = options.segment_octets - HEADER_OCTETS - 256
        self._log = Log(self._go_fd, self._done_fd, min(GROUP_OCTETS_MAX, room), room)
        self._thread = threading.Thread(target=self._log.run, name="spool-committer", daemon=True)
        self._loop: asyncio.AbstractEventLoop | None = None
        self.tail = Tail(self._log, segments, keeper, options.durability is Durability.FULL)
        self._rescue = Rescue(self, options.clean_s, emit)
        self.health = self._rescue.health
        self._flying: list[Entry] = []
        self._open: list[Entry] = []
        self._waiting: deque[tuple[Message, Done, Sequence[RecipientState] | None, Message | None]]
        self._waiting = deque()
        self._is_posting = False
        self._has_mail = False  # the open group holds more than marks
        self._mark_timer: asyncio.TimerHandle | None = None
        self._is_starved = False  # the disk refuses the next segment
        self._idle: asyncio.Future[None] | None = None
        self.failure: SpoolError | None = None

    def connect(
        self,
        on_group: Callable[[list[Entry], int, Segment], None],
        on_refused: Callable[[Message], None],
        on_untold: Callable[[Message], None],
    ) -> None:
        """Who is told of durable groups, of marks that never will be durable, and of mail that is
        refused though its record may be on the disk."""
        self._on_group, self._on_refused, self._on_untold = on_group, on_refused, on_untold

    def start(self, end: int, base: int, boot: int, number: int) -> None:
        """Begin behind `end` in a new segment at `base`, and start the committer."""
        self.tail.start(end, base, boot, number)
        self._thread.start()

    def attach(
        self, loop: asyncio.AbstractEventLoop, on_health: Callable[[str], None] | None = None
    ) -> None:
        """Call back on `loop`; `on_health` is told why the spool is not healthy, "" when it is."""
        self._loop = loop
        self._rescue.attach(loop, on_health)
        loop.add_reader(self._done_fd, self._on_done)

    @property
    def end(self) -> int:
        """Position where what is durable ends."""
        return self.tail.end

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The loop; raises when there is none yet."""
        if self._loop is None:
            raise RuntimeError("the spool is not attached to a loop")
        return self._loop

    @property
    def is_flying(self) -> bool:
        """Whether the committer has a group."""
        return bool(self._log.is_flying)

    def accept(self, message: Message, done: Done) -> None:
        """Append a MSG record."""
        if self.failure is not None:
            self.loop.call_soon(done, message, self.failure)
            return
        envelope = encode(message.envelope)
        file = message.file
        content = message.content if file is None else b""
        assert content is not None
        octets = len(envelope) + len(content)
        log = self._log
        if self._waiting or not log.has_room(octets):
            self._wait(message, done, None, None)
            return
        if not log.is_possible(octets):
            problem = SpoolFull("the message is larger than a segment of the spool")
            self.loop.call_soon(done, message, problem)
            return
        if file is None:
            offset = log.append_message(message.id, message.arrived_at_ns, envelope, content)
        else:
            offset = log.append_reference(
                message.id,
                message.arrived_at_ns,
                envelope,
                file.size_octets,
                file.checksum,
                file.boot,
            )
        self._open.append((message, done, offset, None, None))
        self._has_mail = True
        if not (log.is_flying or self._is_posting):
            self._is_posting = True
            self.loop.call_soon(self._post)

    def record(
        self, message: Message, done: Done, changes: Sequence[RecipientState], dsn: Message | None
    ) -> None:
        """Append a STATE record, behind the MSG record of `dsn`, both in one group."""
        if self.failure is not None:
            self.loop.call_soon(self._refuse, message, done, changes, self.failure)
            return
        states = encode(changes)
        octets = len(states)
        envelope = content = b""
        log = self._log
        if dsn is not None:
            envelope, content = encode(dsn.envelope), dsn.content or b""
            octets += len(envelope) + len(content)
        if self._waiting or not log.has_room(octets):
            self._wait(message, done, changes, dsn)
            return
        if not log.is_possible(octets):
            problem = SpoolFull("the record is larger than a segment of the spool")
            self.loop.call_soon(self._refuse, message, done, changes, problem)
            return
        offset = 0
        if dsn is not None:
            self._has_mail = True
            offset = log.append_message(dsn.id, dsn.arrived_at_ns, envelope, content)
        log.append_state(message.id, message.position, time.time_ns(), states)
        self._open.append((message, done, offset, changes, dsn))
        if not (log.is_flying or self._is_posting) and self._mark_timer is None:
            self._mark_timer = self.loop.call_later(MARK_WAIT_S, self._post_marks)

    def keeper_is_ready(self) -> None:
        """A segment has become available."""
        self._is_starved = False
        self._rescue.spare_is_ready()
        if not self._is_posting:
            self._post()

    def keeper_has_problem(self, problem: OSError) -> None:
        """No segment can be made: refuse the mail of the open group, keep its marks."""
        if self._log.is_flying or self.tail.has_place:
            return
        self._is_starved = True
        refused = SpoolFull(f"no room for a new segment: {problem.strerror}")
        held = [(message, done, changes, dsn) for message, done, _, changes, dsn in self._open]
        held.extend(self._waiting)
        self._open, self._has_mail = [], False
        self._waiting.clear()
        self._log.discard()
        for message, done, changes, dsn in held:
            if changes is None:
                self._refuse(message, done, None, refused)
            else:
                self.record(message, done, changes, dsn)
        self._wake()

    async def settle(self) -> None:
        """Return when what was appended is durable or refused, or waits for room on the disk."""
        while (
            self.failure is None
            and (self._open or self._log.is_flying or self._waiting)
            and not (self._is_starved and not self._log.is_flying)
        ):
            self._idle = self.loop.create_future()
            self._post()
            await self._idle

    def close(self) -> None:
        """End the committer. Nothing may be in flight unless the spool has failed."""
        if self._loop is not None:
            self._loop.remove_reader(self._done_fd)
        if self._mark_timer is not None:
            self._mark_timer.cancel()
        self._rescue.close()
        self._log.stop()
        self._thread.join()
        os.close(self._go_fd)
        os.close(self._done_fd)

    def _wait(
        self,
        message: Message,
        done: Done,
        changes: Sequence[RecipientState] | None,
        dsn: Message | None,
    ) -> None:
        """The open group is full: keep this for the next one."""
        self._waiting.append((message, done, changes, dsn))
        if not (self._log.is_flying or self._is_posting):
            self._is_posting = True
            self.loop.call_soon(self._post)

    def _refill(self) -> None:
        """Move what waits into the open group, as far as it has room."""
        waiting, self._waiting = self._waiting, deque()
        while waiting:
            message, done, changes, dsn = waiting.popleft()
            try:
                if changes is None:
                    self.accept(message, done)
                else:
                    self.record(message, done, changes, dsn)
            except MemoryError:
                self._refuse(message, done, changes, SpoolFull("no memory"))
            if self._waiting:
                self._waiting.extend(waiting)
                return

    def _post_marks(self) -> None:
        self._mark_timer = None
        self._post()

    def _post(self) -> None:
        """Hand the open group to the committer, if it is free and there is a segment for it."""
        self._is_posting = False
        if self._log.is_flying or self.failure is not None or not self._open:
            return
        if not self.tail.post():
            return  # the keeper calls keeper_is_ready
        if self._mark_timer is not None:
            self._mark_timer.cancel()
            self._mark_timer = None
        self._flying, self._open, self._has_mail = self._open, [], False
        if self._waiting:
            self._refill()

    def write_anew(self) -> bool:
        """Send the group that failed to another segment. False: none is ready."""
        return self.tail.post_again()

    def probe(self) -> None:
        """Write an empty group, to see whether that works; not if there is one to write anyway."""
        if not (self._log.is_flying or self._open or self.failure is not None):
            with contextlib.suppress(MemoryError):  # then the next one shows it
                self._log.prepare()
                self.tail.post()

    def _on_done(self) -> None:
        """The committer has finished a group: post the next one first, then tell its owners."""
        problem = self._log.finish()
        if problem < 0:
            return
        tail = self.tail
        start, segment = tail.flying_start, tail.segment
        assert segment is not None
        if problem:
            self._statistics.faults += 1
            self._rescue.fault(segment, problem)
            return
        entries, self._flying = self._flying, []
        self._statistics.count_group(tail.flying_end - start, self._log.flush_ns)
        tail.end = tail.flying_end
        if self._has_mail:
            self._post()
        elif self._open and self._mark_timer is None:
            self._mark_timer = self.loop.call_later(MARK_WAIT_S, self._post_marks)
        self._on_group(entries, start, segment)
        if not self.health.is_healthy and self.failure is None:
            self._rescue.written()
        self._wake()

    def _wake(self) -> None:
        if self._idle is not None and not self._idle.done():
            self._idle.set_result(None)

    def fail(self, failure: SpoolError) -> None:
        """Latch: nothing more is written, and nothing that is not durable is acknowledged."""
        self.failure = self.failure or failure
        entries, self._open, self._has_mail = self._open, [], False
        if self._log.is_failed:
            entries, self._flying = self._flying + entries, []
            self._log.abandon()
        waiting, self._waiting = self._waiting, deque()
        self._log.discard()
        self._rescue.lost(str(self.failure))
        for message, done, _, changes, _ in entries:
            self._refuse(message, done, changes, self.failure)
        for message, done, changes, _ in waiting:
            self._refuse(message, done, changes, self.failure)
        self._wake()

    def _refuse(
        self,
        message: Message,
        done: Done,
        changes: Sequence[RecipientState] | None,
        problem: SpoolError,
    ) -> None:
        if changes is not None:
            self._on_refused(message)
        elif not isinstance(problem, SpoolFull):
            self._on_untold(message)
        try:
            done(message, problem)
        except Exception as broken:
            self.report(broken)

    def report(self, broken: Exception) -> None:
        """A callback raised: say so, and go on with the others."""
        text = "a callback of the spool raised"
        self.loop.call_exception_handler({"message": text, "exception": broken})
