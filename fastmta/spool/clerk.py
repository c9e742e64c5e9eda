"""The clerk: when the index is committed, and how questions to it are answered. Loop thread only.

A fetch sees everything that was released before it: if rows are waiting to be written they are
committed first, but not more often than every COMMIT_GAP_S, so that a large backlog costs tens of
commits a second and not one for each fetch.

The index may be missing: when the shard was opened without a good one, or when it fails later. Then
it is rebuilt; questions wait, what would be written to it waits in the ledger, and mail is accepted
and delivered from memory.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeAlias

from fastmta.event import Event, Notice, Severity
from fastmta.message import Message

from .indexer import Answer, Found, Indexer, Query, Question
from .keeper import Keeper
from .ledger import Ledger
from .problem import SpoolError
from .rebuild import Rebuild, Rebuilt
from .rows import Batch
from .segment import Logs, SegmentTable
from .statistic import Statistics
from .trim import Step, Trim
from .trimmer import Trimmer
from .writer import Writer

COMMIT_INTERVAL_S = 0.2
COMMIT_GAP_S = 0.05  # at least, between two commits that a question asked for
CHECKPOINT_INTERVAL_S = 1.0  # between commits that move nothing but the checkpoint
REBUILD_AGAIN_S = 5.0  # after the disk refused it
REBUILDS_MAX = 5  # that failed one after the other
CHECKPOINT_OCTETS = 8 * 1024 * 1024  # ... unless it moves this far


Ordered: TypeAlias = Callable[[int, int, frozenset[bytes]], Rebuild]
Indexed: TypeAlias = Callable[[Rebuilt], None]


class Clerk:
    """The loop's side of the index thread; it is the `Owner` of the indexer."""

    def __init__(
        self,
        indexer: Indexer,
        ledger: Ledger,
        writer: Writer,
        keepers: tuple[Keeper, Keeper],
        statistics: Statistics,
        trimmer: Trimmer,
        is_indexed: bool,
    ) -> None:
        self.is_indexed = is_indexed  # the index is complete, or will be with the next commit
        self._indexer = indexer
        self._ledger = ledger
        self._writer = writer
        self._keeper, self._cold_keeper = keepers
        self._statistics = statistics
        self._trimmer = trimmer
        self.checkpoint = writer.end  # without an index: where the log was when it was lost
        self._committed_at_s = float("-inf")
        self._is_committing = False
        self._is_stuck = False
        self._failed_rebuilds = 0
        self._wanted: dict[str, int] | None = None  # of the index that is to come after the next
        self._timer: asyncio.TimerHandle | None = None
        self._serving: asyncio.Handle | None = None
        self._asking: list[tuple[Query | Question, Answer]] = []
        self._idle: asyncio.Future[None] | None = None

    def attach(
        self,
        loop: asyncio.AbstractEventLoop,
        logs: Logs,
        emit: Callable[[Event], None],
        order: Ordered,
        on_indexed: Indexed,
    ) -> None:
        """Work on `loop`. `order` makes a rebuilding of the logs up to two positions, without some
        messages; `on_indexed` hears what the index holds after it."""
        self._loop = loop
        self._logs = logs
        self._emit = emit
        self._order = order
        self._on_indexed = on_indexed
        self._trimmer.attach(loop, emit, self.arm)
        self._indexer.attach(loop, self)
        if not self.is_indexed:
            self._indexer.rebuild(order(0, 0, frozenset()))

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
        if needs_commit or self._writer.failure is not None or not self.is_indexed:
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
        self._trimmer.stop()
        if self._writer.failure is None and self.is_indexed:
            self._ledger.drain()
            self._submit(self._prepare())

    @property
    def _is_busy(self) -> bool:
        if self._writer.failure is not None or not self.is_indexed or self._is_stuck:
            return False
        return bool(self._is_committing or self._asking or self._ledger.is_asked)

    def _tick(self) -> None:
        self._timer = None
        ledger, end, now_s = self._ledger, self._writer.end, self._loop.time()
        if self._writer.failure is not None or not self.is_indexed:
            return
        if not self._is_committing:
            batch = self._prepare()
            moved = batch.checkpoint - self.checkpoint
            is_late = now_s - self._committed_at_s >= CHECKPOINT_INTERVAL_S
            if (
                batch.operations
                or batch.freeable
                or batch.freeable_cold
                or batch.moves
                or moved >= CHECKPOINT_OCTETS
                or (moved and is_late)
            ):
                self._submit(batch)
            else:
                self._trimmer.consider(self.checkpoint, self._is_cold_void)
        if self._is_committing or ledger.has_fresh or self.checkpoint < end:
            self.arm()

    @property
    def _is_cold_void(self) -> bool:
        """Whether nothing of the cold log could come back after a crash."""
        if self._trimmer.is_active:  # its first group may be on the way to the disk
            return False
        return not len(self._logs.cold) and not self._cold_keeper.is_voiding

    def _prepare(self) -> Batch:
        """What the ledger has for the index. If it cannot be made (no memory) only the log has it:
        the process must end before a checkpoint passes it."""
        try:
            batch = self._ledger.prepare(
                self._writer.end, self._loop.time(), self._is_cold_void, not self._trimmer.is_active
            )
        except Exception as problem:
            self._writer.fail(SpoolError(f"the changes of the index cannot be made: {problem!r}"))
            raise
        batch.cold_end = self._trimmer.cold_end
        return batch

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
        if not self.is_indexed:
            return  # rebuilt() comes back here
        if self._ledger.has_changes:
            if self._is_committing:
                return  # _on_commit comes back here
            wait_s = self._committed_at_s + COMMIT_GAP_S - self._loop.time()
            if wait_s > 0:
                self._serving = self._loop.call_later(wait_s, self._serve)
                return
            self._submit(self._prepare())
            self.arm()
        asking, self._asking = self._asking, []
        for query, done in asking:
            self._put(query, done)

    # What the index thread says.

    def committed(self, batch: Batch) -> None:
        """`batch` is in the index."""
        if self._is_stuck:
            self._is_stuck = False
            self._emit(Notice("spool", "the index has room again", Severity.WARNING))
        if not self.is_indexed:  # it was lost right after that
            return
        self._is_committing = False
        self.checkpoint = batch.checkpoint
        self._statistics.index_commits += 1
        self._statistics.index_operations += batch.operations
        self._trimmer.settled(batch.moves)
        self._free(self._logs.hot, batch.freeable, self._keeper)
        if batch.freeable_cold:
            self._free(self._logs.cold, batch.freeable_cold, self._cold_keeper)
            if not len(self._logs.cold):
                self._indexer.reset_cold()
            self.arm()  # more may be free now
        self._trimmer.consider(self.checkpoint, self._is_cold_void)
        if self._asking and self._serving is None:
            self._serve()
        self._wake()

    def stuck(self, problem: Exception) -> None:
        """There is no room for a commit."""
        if not self._is_stuck:
            self._is_stuck = True
            text = f"the index cannot be written ({problem}); it is tried again every second"
            self._emit(Notice("spool", text, Severity.ERROR))
            self._wake()

    def stepped(self, trim: Trim, step: Step) -> None:
        """The trimmer has got on."""
        if self.is_indexed:
            self._trimmer.stepped(trim, step)

    def step_failed(self, trim: Trim, problem: Exception | None) -> None:
        """The trimmer has not."""
        if self.is_indexed:
            self._trimmer.failed(trim, problem)

    def broken(self, problem: Exception) -> None:
        """The index failed: rebuild it from the logs."""
        text = f"the index failed ({problem}) and is being rebuilt from the log"
        self._emit(Notice("spool", text, Severity.ERROR))
        self._begin_anew()

    def remake(self, identity: dict[str, int]) -> None:
        """Rows are made otherwise from now on: make the index anew; it says `identity` of itself.

        One that is being rebuilt may have rows of both kinds: it is made once more.
        """
        if self.is_indexed:
            self._indexer.discard(identity)
        else:
            self._wanted = identity

    def discarded(self) -> None:
        """There is no index any more, and every answer that came of it is here."""
        if self.is_indexed:
            self._begin_anew()

    def _begin_anew(self) -> None:
        self.is_indexed = self._is_committing = self._is_stuck = False
        self.checkpoint = self._writer.end
        self._trimmer.stop()
        self._rebuild()
        self._wake()

    def rebuild_failed(self, problem: Exception) -> None:
        """There is still no index."""
        self._failed_rebuilds += 1
        text = f"the index could not be rebuilt: {problem}"
        self._emit(Notice("spool", text, Severity.ERROR))
        if self._failed_rebuilds >= REBUILDS_MAX:
            self._writer.fail(SpoolError(text))
            self._refuse()
        else:
            self._loop.call_later(REBUILD_AGAIN_S, self._rebuild)

    def _rebuild(self) -> None:
        if self._writer.failure is None:
            skip = self._ledger.unindex()
            work = self._order(self._writer.end, self._trimmer.cold_end, skip)
            self._indexer.rebuild(work)

    def rebuilt(self, result: Rebuilt) -> None:
        """The index is back: write what the ledger kept, then answer what was asked."""
        self._failed_rebuilds = 0
        self.is_indexed = True
        self._on_indexed(result)
        self._submit(self._prepare())
        if self._asking and self._serving is None:
            self._serving = self._loop.call_soon(self._serve)
        self.arm()
        if self._wanted is not None:
            wanted, self._wanted = self._wanted, None
            self.remake(wanted)

    def unanswered(self, query: Query | Question, done: Answer) -> None:
        """The index was lost before it answered."""
        self._ledger.answered()
        self._asking.append((query, done))
        self._ledger.forget_departures()

    def _free(self, table: SegmentTable, count: int, keeper: Keeper) -> None:
        """Give the oldest segments back, as far as nobody reads them."""
        free = 0
        for segment in table:
            if free == count or segment.pins:
                break
            free += 1
        if free:
            self._statistics.segments_freed += free
            keeper.free(table.take_oldest(free))

    def answered(
        self, query: Query | Question, found: list[Found], later: int | None, done: Answer
    ) -> None:
        """The index has answered; what it found may have changed since."""
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
            ledger.lost(item.id, item.keys, item.position, item.octets)
            self.arm()
            text = f"the record at position {item.position} is damaged; the message is lost"
            self._emit(Notice("spool", text, Severity.ERROR, item.id))
            return None
        assert item.message is not None
        ledger.fetched(item.message, item.keys)
        return item.message

    def _refuse(self) -> None:
        """The spool has failed: there are no answers any more."""
        asking, self._asking = self._asking, []
        for _, done in asking:
            done([], None)

    def _wake(self) -> None:
        if self._idle is not None and not self._idle.done() and not self._is_busy:
            self._idle.set_result(None)
