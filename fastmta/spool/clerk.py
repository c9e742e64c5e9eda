"""The clerk: when the index is committed, and how questions to it are answered. Loop thread only.

A fetch sees everything that was released before it: if rows are waiting to be written they are
committed first, but not more often than every COMMIT_GAP_S, so that a large backlog costs tens of
commits a second and not one for each fetch.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from fastmta.event import Event, Notice, Severity
from fastmta.message import Message

from .indexer import Answer, Found, Indexer, Query, Question
from .keeper import Keeper
from .ledger import Ledger
from .problem import SpoolError
from .rows import Batch
from .segment import SegmentTable
from .statistic import Statistics
from .writer import Writer

COMMIT_INTERVAL_S = 0.2
COMMIT_GAP_S = 0.05  # at least, between two commits that a question asked for
CHECKPOINT_INTERVAL_S = 1.0  # between commits that move nothing but the checkpoint
CHECKPOINT_OCTETS = 8 * 1024 * 1024  # ... unless it moves this far


class Clerk:
    """The loop's side of the index thread."""

    def __init__(
        self,
        indexer: Indexer,
        ledger: Ledger,
        writer: Writer,
        keeper: Keeper,
        statistics: Statistics,
    ) -> None:
        self._indexer = indexer
        self._ledger = ledger
        self._writer = writer
        self._keeper = keeper
        self._statistics = statistics
        self.checkpoint = writer.end  # the index knows the log up to here
        self._committed_at_s = float("-inf")
        self._is_committing = False
        self._timer: asyncio.TimerHandle | None = None
        self._serving: asyncio.Handle | None = None
        self._asking: list[tuple[Query | Question, Answer]] = []
        self._idle: asyncio.Future[None] | None = None

    def attach(
        self, loop: asyncio.AbstractEventLoop, segments: SegmentTable, emit: Callable[[Event], None]
    ) -> None:
        """Work on `loop`."""
        self._loop = loop
        self._segments = segments
        self._emit = emit
        self._indexer.attach(loop, self._on_commit, self._on_answer, self._on_broken)

    def arm(self) -> None:
        """There may be something to commit."""
        if self._timer is None:
            self._timer = self._loop.call_later(COMMIT_INTERVAL_S, self._tick)

    def ask(self, query: Query | Question, done: Answer) -> None:
        """Answer `query` from the index, never before this call has returned.

        `done` of a question is called only when the spool has failed: it answers by itself.
        """
        if isinstance(query, Query) and query.ids is None:
            self._wait(query, done)
        else:
            self._loop.call_soon(self._pass_on, query, done)

    def _pass_on(self, query: Query | Question, done: Answer) -> None:
        """Ask at once if what is not committed yet does not matter, or can be told from memory."""
        if isinstance(query, Query):
            needs_commit = self._ledger.is_behind(query.ids or ())
        else:
            needs_commit = query.needs_commit
        if needs_commit or self._writer.failure is not None:
            self._wait(query, done)
        else:
            self._put(query, done)

    def _put(self, query: Query | Question, done: Answer) -> None:
        self._ledger.asked()
        if not isinstance(query, Query):
            query.begin()
        self._indexer.ask(query, done)

    def _wait(self, query: Query | Question, done: Answer) -> None:
        self._asking.append((query, done))
        if self._serving is None:
            self._serving = self._loop.call_soon(self._serve)

    async def settle(self) -> None:
        """Return when nothing is under way."""
        while self._is_busy:
            self._idle = self._loop.create_future()
            await self._idle

    def close(self) -> None:
        """Index all that is live, then end the index thread."""
        for handle in (self._timer, self._serving):
            if handle is not None:
                handle.cancel()
        if self._writer.failure is None:
            self._ledger.drain()
            self._submit(self._ledger.prepare(self._writer.end, self._loop.time()))

    @property
    def _is_busy(self) -> bool:
        if self._writer.failure is not None:
            return False
        return bool(self._is_committing or self._asking or self._ledger.is_asked)

    def _tick(self) -> None:
        self._timer = None
        ledger, end, now_s = self._ledger, self._writer.end, self._loop.time()
        if self._writer.failure is not None:
            return
        if not self._is_committing:
            batch = ledger.prepare(end, now_s)
            moved = batch.checkpoint - self.checkpoint
            is_late = now_s - self._committed_at_s >= CHECKPOINT_INTERVAL_S
            if (
                batch.operations
                or batch.freeable
                or moved >= CHECKPOINT_OCTETS
                or (moved and is_late)
            ):
                self._submit(batch)
        if self._is_committing or ledger.has_fresh or self.checkpoint < end:
            self.arm()

    def _submit(self, batch: Batch) -> None:
        self._is_committing = True
        self._committed_at_s = self._loop.time()
        self._indexer.commit(batch)

    def _serve(self) -> None:
        """Pass the questions on, behind a commit of what has been released."""
        self._serving = None
        if self._writer.failure is not None:
            self._refuse()
            return
        if self._ledger.has_changes:
            if self._is_committing:
                return  # _on_commit comes back here
            wait_s = self._committed_at_s + COMMIT_GAP_S - self._loop.time()
            if wait_s > 0:
                self._serving = self._loop.call_later(wait_s, self._serve)
                return
            self._submit(self._ledger.prepare(self._writer.end, self._loop.time()))
            self.arm()
        asking, self._asking = self._asking, []
        for query, done in asking:
            self._put(query, done)

    def _on_commit(self, batch: Batch) -> None:
        self._is_committing = False
        self.checkpoint = batch.checkpoint
        self._statistics.index_commits += 1
        self._statistics.index_operations += batch.operations
        self._free(batch.freeable)
        if self._asking and self._serving is None:
            self._serve()
        self._wake()

    def _free(self, count: int) -> None:
        """Give the oldest segments back, as far as nobody reads them."""
        free = 0
        for segment in self._segments:
            if free == count or segment.pins:
                break
            free += 1
        if free:
            self._statistics.segments_freed += free
            self._keeper.free(self._segments.take_oldest(free))

    def _on_answer(
        self, query: Query | Question, found: list[Found], later: int | None, done: Answer
    ) -> None:
        self._ledger.answered()
        if not isinstance(query, Query):
            query.answer()
            self._ledger.forget_departures()
            self._wake()
            return
        messages: list[Message] | None = None
        if not any(self._is_stale(item) for item in found):
            taken = [self._take(item) for item in found]
            messages = [message for message in taken if message is not None]
            if len(messages) < query.limit == len(found):
                messages = None  # fewer than asked for must mean that there are no more
        if messages is None:
            self.ask(query, done)
        else:
            done(messages, later)
        self._ledger.forget_departures()
        self._wake()

    def _is_stale(self, item: Found) -> bool:
        """Whether the message was released, changed or emptied after it was read."""
        held = self._ledger.messages.get(item.id)
        if held is not None:
            return not held.has_content and item.message is None
        is_final = self._ledger.departed(item.id)
        if is_final is None:
            return item.message is None and not item.is_damaged
        return not is_final

    def _take(self, item: Found) -> Message | None:
        """The one Message of this id; None when there is nothing left to deliver."""
        ledger = self._ledger
        held = ledger.messages.get(item.id)
        if held is not None:
            if not held.has_content and item.message is not None:
                held.content = item.message.content
            return held
        if ledger.departed(item.id):
            return None
        if item.is_damaged:
            ledger.lost(item.id, item.keys, item.position)
            self.arm()
            text = f"the record at position {item.position} is damaged; the message is lost"
            self._emit(Notice("spool", text, Severity.ERROR, item.id))
            return None
        assert item.message is not None
        ledger.fetched(item.message, item.keys)
        return item.message

    def _on_broken(self, problem: Exception) -> None:
        text = f"the index failed and will be rebuilt from the log: {problem}"
        self._emit(Notice("spool", text, Severity.FATAL))
        self._writer.fail(SpoolError(text))
        self._refuse()
        self._wake()

    def _refuse(self) -> None:
        """The spool has failed: there are no answers any more."""
        asking, self._asking = self._asking, []
        for _, done in asking:
            done([], None)

    def _wake(self) -> None:
        if self._idle is not None and not self._idle.done() and not self._is_busy:
            self._idle.set_result(None)
