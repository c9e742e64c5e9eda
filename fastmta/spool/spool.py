"""One shard of the spool, open."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TypeAlias

import lmdb

from fastmta.event import Event, Notice, Severity
from fastmta.message import Message, RecipientState
from fastmta.message.situation import Trouble

from ._log import encode_id
from .big import BigFiles
from .clerk import Clerk
from .cold import ColdLog
from .doubt import REFUSED, DoubtTable
from .indexer import Indexer, Lookup, Query
from .inquiry import candidates, tell
from .keeper import COLD_SPARES_WANTED, Keeper
from .known import Known
from .late import Late, Unwarned
from .layout import Layout, remove_tree
from .ledger import Ledger
from .opening import identity, recover, take_counts
from .option import Durability, SpoolOptions
from .problem import SpoolError, SpoolFull
from .rebuild import Rebuild, Rebuilt
from .rows import NextHop, RowMaker
from .search import Search
from .segment import LogKind, Segment
from .spill import Spill
from .statistic import Statistics
from .suspended import read_suspended, write_suspended
from .trimmer import Trimmer
from .writer import Done, Entry, Writer

Fetched: TypeAlias = Callable[[list[Message], int | None], None]
Expired: TypeAlias = Callable[[list[Message]], None]


class Spool:
    """Accepts messages durably, records outcomes, and finds mail again. Loop thread only."""

    def __init__(
        self,
        layout: Layout,
        options: SpoolOptions,
        maker: RowMaker,
        emit: Callable[[Event], None],
    ) -> None:
        """Use `Spool.open`."""
        self.options = options
        self.statistics = Statistics()
        self._layout = layout
        self._maker = maker
        self._emit = emit
        self._is_damaged = self._is_attached = False
        self._is_counted = False  # what of the backlog stands in which segment
        self.doubt = DoubtTable(layout.doubt, emit)
        try:
            self._candidates = candidates(layout, self.doubt.left)
            found = recover(layout, options, maker, self._heed)
        except BaseException:
            self.doubt.abandon()
            raise
        self.doubt.start(found.boot)
        self._boot = found.boot
        self._logs = logs = found.logs
        self._hops = found.hops
        self._is_counted = found.is_indexed
        self._told: Callable[[], None] | None = None
        self._reviewing: Callable[[list[bytes]], None] | None = None
        self._id_prefix = found.boot << 12 | options.shard
        self._id_count = 0
        self._ledger = Ledger(maker, logs, self.statistics, found.live_count)
        is_flushing = options.durability is Durability.FULL
        hot, cold = found.hot, found.cold
        self._keeper = Keeper(layout.hot, options.segment_octets, is_flushing)
        self._keeper.adopt(hot.file_number, hot.spares)
        self._cold_keeper = Keeper(
            layout.cold, options.segment_octets, is_flushing, LogKind.COLD, COLD_SPARES_WANTED
        )
        self._cold_keeper.adopt(cold.file_number, cold.spares, is_needed=False)
        self._writer = Writer(options, logs.hot, self._keeper, self.statistics, emit)
        self._writer.connect(self._on_group, self._on_refused, self._on_untold)
        self._writer.start(hot.end, hot.base, found.boot, hot.number)
        writing = ColdLog(logs, self._cold_keeper, options, found.boot, cold.end, cold.base)
        self._indexer = Indexer(found.catalogue, logs, self._ledger.messages, layout, writing)
        self._trimmer = Trimmer(
            logs, self._ledger, self._indexer, layout, self.statistics, cold.end
        )
        self._clerk = Clerk(
            self._indexer,
            self._ledger,
            self._writer,
            (self._keeper, self._cold_keeper),
            self.statistics,
            self._trimmer,
            found.is_indexed,
        )
        self.search = Search(self._clerk, self._ledger, maker)
        self._keeper.start()
        self._cold_keeper.start()
        self.contents = BigFiles(layout, found.boot, emit, is_flushing=is_flushing)
        self._is_closed = False

    @classmethod
    def open(
        cls,
        directory: str,
        options: SpoolOptions,
        next_hop: NextHop,
        emit: Callable[[Event], None],
    ) -> Spool:
        """Lock and recover shard `options.shard` below `directory`.

        Blocks until mail can be accepted; see `is_indexed` for what may still be going on then.

        Call it after any fork. Raises SpoolError: another process has it, a newer release wrote it
        (SpoolFormat), or the disk or memory fails.
        """
        layout = Layout(directory, options.shard)
        maker = RowMaker.of(next_hop, options)
        try:
            layout.prepare()
            return cls(layout, options, maker, emit)
        except (OSError, lmdb.Error, MemoryError) as problem:
            layout.release()
            raise SpoolError(f"{layout.shard} cannot be opened: {problem}") from problem
        except BaseException:
            layout.release()
            raise

    @classmethod
    def rebuild(
        cls,
        directory: str,
        options: SpoolOptions,
        next_hop: NextHop,
        emit: Callable[[Event], None],
    ) -> Spool:
        """As `open`, with the index made anew from the log. Raises SpoolError."""
        layout = Layout(directory, options.shard)
        layout.prepare()
        try:
            remove_tree(layout.index)
        except OSError as problem:
            raise SpoolError(f"{layout.index} cannot be removed: {problem.strerror}") from problem
        finally:
            layout.release()
        return cls.open(directory, options, next_hop, emit)

    def reroute(self, options: SpoolOptions, next_hop: NextHop) -> None:
        """Mail goes elsewhere, or lives longer, from now on: rows are made anew from the log.

        Of `options` only lifetimes and the routing token may be others. Meanwhile mail is accepted
        and delivered from memory, as after an index was lost; `on_indexed` says when it is back.
        """
        self.options = options
        self._maker.become(RowMaker.of(next_hop, options))
        self._clerk.remake(identity(options))

    def attach(
        self,
        loop: asyncio.AbstractEventLoop,
        on_health: Callable[[str], None] | None = None,
        on_indexed: Callable[[], None] | None = None,
    ) -> None:
        """Work on `loop` from now on; needed before anything is accepted or fetched.

        `on_health` is told why the spool has become unhealthy, or "" when it is healthy again.
        `on_indexed` is called whenever the index is back after it was rebuilt: `hops` has an answer
        then.
        """
        self._is_attached = True
        self._told = on_indexed
        self._writer.attach(loop, on_health)
        self._clerk.attach(loop, self._logs, self._heed, self._order_rebuild, self._on_indexed)
        self.contents.attach(loop)
        self._keeper.attach(loop, self._writer.keeper_is_ready, self._on_keeper_problem)
        self._cold_keeper.attach(loop, self._clerk.arm, self._on_cold_keeper_problem)
        if self._clerk.is_indexed:
            self.sweep()

    @property
    def is_indexed(self) -> bool:
        """Whether the index is complete. While it is not it is being rebuilt: what is asked of the
        backlog is answered afterwards, and `live_count` and `hops` may not know old mail."""
        return self._clerk.is_indexed

    @property
    def is_pressed(self) -> bool:
        """Whether the trimmer was told that the disk is short of space."""
        return self._trimmer.is_pressed

    @is_pressed.setter
    def is_pressed(self, is_pressed: bool) -> None:
        self._trimmer.is_pressed = is_pressed
        self._clerk.arm()

    @property
    def is_healthy(self) -> bool:
        """Whether mail should be taken and delivered. Marks are recorded while it is not."""
        return self._writer.health.is_healthy

    @property
    def has_failed(self) -> bool:
        """Whether nothing is written until the shard is opened again; the process should end."""
        return self._writer.failure is not None

    @property
    def is_flushing(self) -> bool:
        """Whether a group is being written and flushed."""
        return self._writer.is_flying

    @property
    def unindexed_octets(self) -> int:
        """Octets of the log that the index does not know yet."""
        return max(0, self._writer.end - self._clerk.checkpoint)

    @property
    def live_count(self) -> int:
        """Messages that are not final."""
        return self._ledger.live_count

    @property
    def live_octets(self) -> int:
        """Octets of the log that messages take which are not final."""
        return sum(segment.live_octets for segment in self._logs.all())

    def new_id(self) -> bytes:
        """A queue id that no message ever had: boot and shard number, then a counter."""
        self._id_count += 1
        return encode_id(self._id_prefix, self._id_count)

    def accept(self, message: Message, done: Done) -> None:
        """Store a message: `done(message, None)` once it is durable, or `done(message, error)`."""
        if message.file is not None:
            done = partial(self._accepted_big, done)
        self._writer.accept(message, done)

    def begin_big(self, id: bytes, caught_up: Callable[[], None]) -> Spill:
        """Begin the content of message `id`, which is too large for a record; see `Spill`."""
        return self.contents.begin(id, caught_up)

    def sweep(self, done: Callable[[int], None] | None = None) -> None:
        """Remove large contents that a crash left over, in the background; `done(how many)`."""
        self.contents.is_keeping_orphans = self._is_damaged
        self.contents.sweep(self._live, done)

    def record(
        self,
        message: Message,
        changes: Sequence[RecipientState],
        done: Done,
        dsn: Message | None = None,
    ) -> None:
        """Store `dsn`, then `changes`, in one group; then update the message and call `done`.

        Raises ValueError when the message is not in memory (final, released, or never accepted).
        """
        self._ledger.recording(message)
        self._writer.record(message, done, changes, dsn)

    def release(self, message: Message) -> None:
        """Nobody in memory needs this message any more. No-op for one that is final."""
        self._ledger.release(message)
        self._clerk.arm()

    def fetch(self, next_hop: bytes, now_ns: int, after: bytes, limit: int, done: Fetched) -> None:
        """Find mail due for `next_hop`; see `order_key` for `after`."""
        if len(after) not in (0, 24):
            raise ValueError("`after` is empty or an order key of 24 octets")
        self._clerk.ask(Query(next_hop, now_ns, after, limit), done)

    def expired(self, now_ns: int, limit: int, done: Expired) -> None:
        """Find messages whose lifetime ended by `now_ns`, oldest first."""
        self._clerk.ask(Query(None, now_ns, b"", limit), partial(_without_due, done))

    def unwarned(self, after: bytes, arrived_by_ns: int, done: Late) -> None:
        """Find messages that arrived by then and whose sender was not told, a page of ids."""
        page = Unwarned(self._ledger, after, arrived_by_ns, done)
        self._clerk.ask(page, page.refused)

    def which_live(self, ids: Sequence[bytes], done: Callable[[set[bytes] | None], None]) -> None:
        """Find out which of `ids` are live; waits for the index. None: the spool has failed."""
        known = Known(self._ledger, ids, done)
        self._clerk.ask(known, known.refused)

    def take(self, ids: Sequence[bytes], with_content: bool, done: Expired) -> None:
        """Find the messages `ids`, as `fetch` does; contents only if asked for, or in memory."""
        self.search.take(ids, with_content, done)

    @property
    def has_candidates(self) -> bool:
        """Whether messages may be in doubt since the last end: see `review_doubt`."""
        return bool(self._candidates)

    def review_doubt(self, done: Callable[[list[bytes]], None]) -> None:
        """List the live messages that are in doubt since the last end, durably; `done(ids)`.

        Waits for the index. Until `doubt.forget_left` is called the next start lists them again.
        """
        if not self.is_indexed:
            self._reviewing = done
            return
        self._live(list(self._candidates), partial(self._doubt_reviewed, done))

    def order_key(self, message: Message, next_hop: bytes) -> bytes:
        """Where `message` stands among the mail for `next_hop`: its earliest due time and id."""
        return self._ledger.order_key(message, next_hop)

    def hops(self) -> list[tuple[bytes, int]]:
        """When the shard was opened, or its index was rebuilt: every next hop with mail waiting,
        and its first due time."""
        return self._hops

    def note_suspended(self, suspended: Mapping[bytes, Trouble]) -> None:
        """For lists, until the next start: nothing goes to these next hops. Raises OSError."""
        if suspended:
            write_suspended(self._layout, suspended)

    def read_suspended(self, *, is_last: bool) -> dict[bytes, Trouble]:
        """What the last process noted; `is_last`: nobody will ask again."""
        return read_suspended(self._layout, is_last=is_last)

    async def close(self) -> None:
        """Make durable what was appended, index everything, and give the shard up."""
        if self._is_closed:
            return
        self._is_closed = True
        if self._is_attached:
            await self._writer.settle()
            await self._clerk.settle()
            self._clerk.close()
        self._writer.close()
        self.contents.close()
        self._indexer.close()
        self._keeper.stop()
        self._cold_keeper.stop()
        for segment in self._logs.all():
            segment.close()
        self.doubt.close()
        self._layout.release()

    def _on_group(self, entries: list[Entry], start: int, segment: Segment) -> None:
        """A group is durable: note it all, and tell its owners."""
        ledger = self._ledger
        for message, done, offset, changes, dsn in entries:
            if changes is None:
                message.position = start + offset
                ledger.accepted(message, segment)
            else:
                if dsn is not None:
                    dsn.position = start + offset
                    ledger.accepted(dsn, segment)
                ledger.recorded(message, changes, segment)
                if message.file is not None and message.pending == 0:
                    self.contents.remove(message.file)
            try:
                done(message, None)
            except Exception as problem:
                self._writer.report(problem)
        self._clerk.arm()

    def _accepted_big(self, done: Done, message: Message, problem: SpoolError | None) -> None:
        """Of a refused message no record was written only if there was no room for it; else its
        content waits for the next start, which knows what became of the record."""
        if isinstance(problem, SpoolFull) and message.file is not None:
            self.contents.remove(message.file)
        done(message, problem)

    def _heed(self, event: Event) -> None:
        """Tell the operator; what is damaged in the log may leave a large content behind."""
        if isinstance(event, Notice) and event.severity is Severity.ERROR:
            self._is_damaged = True
            if event.queue_id and self._is_attached:
                self.contents.keep(event.queue_id)
        self._emit(event)

    def _live(self, ids: Sequence[bytes], answer: Callable[[set[bytes]], None]) -> None:
        """Which of these messages of earlier starts are live."""
        known = {id for id in ids if self._ledger.knows(id)}
        self._indexer.look(Lookup(ids, lambda found: answer(found | known)))

    def _doubt_reviewed(self, done: Callable[[list[bytes]], None], live: set[bytes]) -> None:
        doubtful = {id: why for id, why in self._candidates.items() if id in live}
        self._candidates = {}
        if doubtful:
            try:
                tell(self._layout, self._boot, doubtful, self._emit)
            except OSError as problem:
                text = f"the list of messages in doubt cannot be written: {problem.strerror}"
                self._emit(Notice("spool", text, Severity.WARNING))
        done(list(doubtful))

    def _on_untold(self, message: Message) -> None:
        """The next start finds out whether its record is on the disk; its client sends it again."""
        self.doubt.begin(message.id, REFUSED)

    def _on_refused(self, message: Message) -> None:
        self._ledger.recorded(message, None)

    def _on_keeper_problem(self, problem: OSError) -> None:
        text = f"a segment of {self._layout.hot} could not be made ready: {problem.strerror}"
        self._emit(Notice("spool", text, Severity.WARNING))
        self._writer.keeper_has_problem(problem)

    def _on_cold_keeper_problem(self, problem: OSError) -> None:
        text = f"a segment of {self._layout.cold} could not be made ready: {problem.strerror}"
        self._emit(Notice("spool", text, Severity.WARNING))

    def _order_rebuild(self, end: int, cold_end: int, skip: frozenset[bytes]) -> Rebuild:
        return Rebuild(self._layout, self._logs, self._maker, self._heed_soon, end, cold_end, skip)

    def _heed_soon(self, event: Event) -> None:
        """As `_heed`, from another thread."""
        self._writer.loop.call_soon_threadsafe(self._heed, event)

    def _on_indexed(self, result: Rebuilt) -> None:
        self._hops = result.hops
        if not self._is_counted:  # it may have taken more than one try
            self._is_counted = True
            self._ledger.live_count += result.messages
            take_counts(self._logs, result.live)
        text = f"the index was rebuilt from the log: {result.messages} messages"
        self._emit(Notice("spool", text))
        self.sweep()
        if self._reviewing is not None:
            reviewing, self._reviewing = self._reviewing, None
            self.review_doubt(reviewing)
        if self._told is not None:
            self._told()


def _without_due(done: Expired, messages: list[Message], _: int | None) -> None:
    done(messages)
