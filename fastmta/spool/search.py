"""Look-ups for operators: messages by id or filter, page by page, and counts.

Every look is one short job of the index thread, between commits and fetches, and sees all that was
accepted before it: what the index does not have yet is taken from memory.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import TypeAlias

import msgspec

from fastmta.message import Message, RecipientState, RecipientStatus

from .census import CensusTaking
from .census import Taken as CensusTaken
from .clerk import Clerk
from .codec import is_final
from .entry import RECIPIENTS_MAX, Entered, Entering, Entry, RecipientEntry
from .filter import Filter
from .index import IndexedMessage
from .indexer import Indexer, Query
from .ledger import Ledger
from .problem import SpoolError
from .reading import ReadBack, Reading
from .reckoning import Reckoning, Sliced, Slicing
from .rows import RowMaker
from .sample import FirstDue, FirstRow, Sampled, Sampling
from .walking import sieve_of

ROWS_AT_ONCE = 200  # of messages looked at in one turn of the index thread
WALKED_AT_ONCE = 50_000  # rows that `_walk` goes over meanwhile: some 10 ms, without the GIL
IN_MEMORY_AT_ONCE = 500  # messages in memory that are looked at in one turn of the loop
_ID_OCTETS = 16
RECIPIENTS_SHOWN = 1_000  # of one message


class RecipientView(msgspec.Struct, frozen=True):
    """One recipient, for people."""

    forward_path: bytes
    next_hop: bytes
    state: RecipientState


class MessageView(msgspec.Struct, frozen=True):
    """One message, for people."""

    id: bytes
    reverse_path: bytes
    size_octets: int
    arrived_at_ns: int
    expires_at_ns: int
    tenant: str
    client: str
    recipient_count: int
    pending: int
    recipients: list[RecipientView]  # at most RECIPIENTS_SHOWN


class HopCount(msgspec.Struct, frozen=True):
    """What waits for one next hop; held mail waits for none."""

    next_hop: bytes
    messages: int
    recipients: int


class Page(msgspec.Struct):
    """Some of the messages that a filter means, by id."""

    ids: list[bytes]
    messages: list[Message]  # none if only ids were asked for; without content
    next: bytes | None  # where the next page begins; None: there is none
    error: SpoolError | None = None
    spent_s: float = 0.0  # of the index thread


Taken: TypeAlias = Callable[[list[Message]], None]
Paged: TypeAlias = Callable[[Page], None]
Counted: TypeAlias = Callable[[list[HopCount] | SpoolError], None]


class Search:
    """Asks the index thread. Loop thread only."""

    def __init__(self, clerk: Clerk, ledger: Ledger, maker: RowMaker) -> None:
        self._clerk = clerk
        self._ledger = ledger
        self._maker = maker

    def take(self, ids: Sequence[bytes], with_content: bool, done: Taken) -> None:
        """Call `done` with those of these messages that are not final.

        Whoever gets one that nobody else has in memory holds it, and releases it.
        """
        self._take(_possible(ids), with_content, [], done)

    def page(
        self,
        filter: Filter,
        now_ns: int,
        after: bytes,
        limit: int,
        ids_only: bool,
        done: Paged,
        is_backward: bool = False,
    ) -> None:
        """Call `done` with messages beyond id `after` that `filter` means, at most `limit`.

        One bounded step: a page may be empty and yet not be the last. Backward, pages go from the
        newest message, or what is before `after`, to the oldest.
        """
        if after:  # people may give anything
            after = after[:_ID_OCTETS].ljust(_ID_OCTETS, b"\0")
        what = (filter, now_ns, after, max(1, limit), ids_only)
        page = _Paging(self, what, done, is_backward=is_backward)
        self._clerk.ask(page, page.refused)

    def find(self, ids: Sequence[bytes], done: Paged) -> None:
        """Call `done` with one page of those of these messages that are live, without content.

        Nobody holds them: they are to be looked at.
        """
        page = _Paging(self, (Filter(), 0, b"", len(ids) + 1, False), done, _possible(ids))
        self._clerk.ask(page, page.refused)

    def count(self, done: Counted, next_hop: bytes | None = None) -> None:
        """Call `done` with what waits, by next hop (or for one). Looks at no message's rows."""
        counting = _Counting(self, next_hop, done)
        self._clerk.ask(counting, counting.refused)

    def first_due(self, next_hop: bytes, done: FirstDue) -> None:
        """Call `done` with the earliest due time of mail for `next_hop` (that it arrived, for
        what had no attempt yet), None when there is none."""
        looking = FirstRow(self, next_hop, done)
        self._clerk.ask(looking, looking.refused)

    def sample(self, next_hop: bytes, limit: int, done: Sampled) -> None:
        """Call `done` with ids of mail that waits for `next_hop`, and whether these are all: the
        first `limit` by due time, and as many that are in memory only."""
        sampling = Sampling(self, next_hop, limit, done)
        self._clerk.ask(sampling, sampling.refused)

    def entries(self, ids: Sequence[bytes], done: Entered) -> None:
        """Call `done` with entries of those of these messages that are live, in that order."""
        entering = Entering(self, _possible(ids), done)
        self._clerk.ask(entering, entering.refused)

    def reckon(
        self, filter: Filter, now_ns: int, after: bytes, sum: Reckoning, done: Sliced
    ) -> None:
        """Count messages beyond id `after` that `filter` means into `sum`, a bounded number;
        call `done` with what is left of that to the caller."""
        slicing = Slicing(self, filter, now_ns, after, sum, done)
        self._clerk.ask(slicing, slicing.refused)

    def reckon_in(self, message: Message, filter: Filter, sum: Reckoning) -> None:
        """Count one message in memory, which stands as `filter` knows, into `sum`."""
        sum.add(message, filter.situation, self._maker.next_hop)

    def read(self, id: bytes, done: ReadBack) -> None:
        """Call `done` with one message and its content, in memory or a file; None: there is no
        such message. Nobody holds it: it is to be looked at."""
        if len(id) != _ID_OCTETS:
            done(None)
            return
        reading = Reading(self, id, done)
        self._clerk.ask(reading, reading.refused)

    def enter(self, message: Message) -> Entry:
        """What lists show of a message in memory."""
        envelope, states = message.envelope, message.states
        recipients: list[RecipientEntry] = []
        for index, path in enumerate(envelope.forward_paths):
            state = states.get(index)
            if is_final(state):
                continue
            if len(recipients) == RECIPIENTS_MAX:
                break
            is_held = state is not None and state.status is RecipientStatus.HELD
            next_hop = b"" if is_held else self._maker.next_hop(path, envelope)
            recipients.append(RecipientEntry(path, next_hop, state))
        return Entry(
            message.id,
            message.arrived_at_ns,
            self._maker.expires_at_ns(message),
            message.size_octets,
            envelope.reverse_path,
            envelope.tenant,
            len(envelope.forward_paths),
            message.pending,
            recipients,
        )

    def census(self, next_hops: Sequence[bytes], done: CensusTaken) -> None:
        """Call `done` with a few numbers about the shard, and what waits for these next hops."""
        taking = CensusTaking(next_hops, done)
        self._clerk.ask(taking, taking.refused)

    def view(self, message: Message) -> MessageView:
        """What there is to say about `message`."""
        envelope, next_hop = message.envelope, self._maker.next_hop
        paths = envelope.forward_paths
        queued = RecipientStatus.QUEUED
        return MessageView(
            message.id,
            envelope.reverse_path,
            message.size_octets,
            message.arrived_at_ns,
            self._maker.expires_at_ns(message),
            envelope.tenant,
            f"{envelope.client.name}[{envelope.client.address}]",
            len(paths),
            message.pending,
            [
                RecipientView(
                    path,
                    next_hop(path, envelope),
                    message.states.get(index) or RecipientState(index, queued),
                )
                for index, path in enumerate(paths[:RECIPIENTS_SHOWN])
            ],
        )

    # For the questions below.

    @property
    def ledger(self) -> Ledger:
        """Which messages are in memory."""
        return self._ledger

    def accepts(self, filter: Filter, message: Message, now_ns: int) -> bool:
        """Whether `filter` means `message` as it is now."""
        return filter.accepts(message, now_ns, self._maker.next_hop)

    def in_memory(self, filter: Filter, after: bytes) -> dict[bytes, Message]:
        """Messages beyond id `after` of which the index does not know all that `filter` asks for:
        those that it does not have as they are, and those that are active."""
        ledger = self._ledger
        found = {one.id: one for one in ledger.unwritten() if one.id > after}
        for id in filter.situation.active:
            if id > after and (held := ledger.messages.get(id)) is not None:
                found[id] = held
        return found

    def waiting(self, message: Message) -> dict[bytes, int]:
        """How many of its recipients wait, by next hop."""
        found: dict[bytes, int] = {}
        envelope = message.envelope
        for index, path in enumerate(envelope.forward_paths):
            state = message.states.get(index)
            if state is None or not (state.status.is_final or state.status is RecipientStatus.HELD):
                next_hop = self._maker.next_hop(path, envelope)
                found[next_hop] = found.get(next_hop, 0) + 1
        return found

    def _take(
        self, ids: tuple[bytes, ...], with_content: bool, before: list[Message], done: Taken
    ) -> None:
        query = Query(None, 0, b"", 0, ids, with_content)
        self._clerk.ask(query, partial(self._taken, query, before, done))

    def _taken(
        self, query: Query, before: list[Message], done: Taken, messages: list[Message], _: object
    ) -> None:
        ledger = self._ledger
        found = {message.id: message for message in messages}
        again = []
        for id in query.ids or ():
            held = ledger.messages.get(id)
            if held is not None:
                found[id] = held
            elif id not in found and ledger.departed(id) is False:
                again.append(id)  # it was in memory only, and was released meanwhile
        taken = [*before, *found.values()]
        if again:
            self._take(tuple(again), query.with_content, taken, done)
        else:
            done(taken)


def _possible(ids: Sequence[bytes]) -> tuple[bytes, ...]:
    """Those that can be a key: they come from people, and must not look like a broken index."""
    return tuple(id for id in ids if len(id) == _ID_OCTETS)


class _Paging:
    """One page."""

    needs_commit = False

    def __init__(
        self,
        search: Search,
        what: tuple[Filter, int, bytes, int, bool],
        done: Paged,
        ids: tuple[bytes, ...] | None = None,
        is_backward: bool = False,
    ) -> None:
        self._search = search
        self._is_backward = is_backward
        self._ids = ids  # nothing but these
        self._filter, self._now_ns, self._after, self._limit, self._ids_only = what
        self._done = done
        self._unwritten: dict[bytes, Message] = {}
        self._ended: set[bytes] = set()
        self._found: list[tuple[bytes, Message | None]] = []
        self._last = b""  # how far it looked
        self._is_end = False
        self._has_looked = False
        self._spent_s = 0.0

    def refused(self, *_: object) -> None:
        """The spool has failed."""
        self._done(Page([], [], None, SpoolError("the spool has failed")))

    def begin(self) -> None:
        """Note what the index will not have."""
        ledger, ids, after = self._search.ledger, self._ids, self._after
        if ids is not None:
            self._unwritten = ledger.unwritten_of(ids)
        else:
            known = self._search.in_memory(self._filter, b"" if self._is_backward else after)
            is_within = self._is_backward and after
            self._unwritten = {
                id: message for id, message in known.items() if not is_within or id < after
            }
        self._ended = ledger.ended()

    def look(self, indexer: Indexer) -> None:
        """Look at a slice of the rows."""
        self._has_looked = True
        begin_s = time.thread_time()
        self._look(indexer)
        self._spent_s = time.thread_time() - begin_s

    def _look(self, indexer: Indexer) -> None:
        last = self._after
        for id, is_certain in self._candidates(indexer):
            if len(self._found) >= self._limit:
                self._is_end, self._last = False, last
                return
            last = id
            if is_certain and self._ids_only:
                self._found.append((id, None))
                continue
            for indexed in indexer.index.find([id]):
                self._examine(indexer, indexed)

    def _candidates(self, indexer: Indexer) -> list[tuple[bytes, bool]]:
        """Ids of messages that may be meant, and whether that is certain; how far that goes."""
        filter, index = self._filter, indexer.index
        if self._ids is not None:
            self._is_end = True
            return [(id, False) for id in self._ids]
        rows = index.walking.rows()
        if rows is not None:
            try:
                limit = min(self._limit, ROWS_AT_ONCE)
                sieve = sieve_of(filter, self._now_ns)
                *found, self._last, self._is_end = rows.find(
                    sieve, self._after, limit, WALKED_AT_ONCE, self._is_backward
                )
                return list(zip(*found, strict=True))
            except ValueError:
                index.walking.is_off = True
        page = index.page_before if self._is_backward else index.page
        slice = page(self._after, ROWS_AT_ONCE)
        self._is_end = len(slice) < ROWS_AT_ONCE
        self._last = slice[-1][0] if slice else self._after
        is_certain = not (filter.needs_states or filter.needs_envelope)
        return [
            (id, is_certain)
            for id, row in slice
            if filter.accepts_row(id, row.arrived_at_ns, row.size_octets, self._now_ns)
        ]

    def _examine(self, indexer: Indexer, indexed: IndexedMessage) -> None:
        """Look at a message more closely, as the index knows it."""
        filter = self._filter
        situation = filter.situation
        places = [(one.state, one.next_hop) for one in indexed.recipients.values()]
        if filter.needs_states and not (
            any(filter.accepts_state(situation, *place) for place in places)
            and filter.accepts_queue(indexed.id, places)
        ):
            return
        message = None
        if filter.needs_envelope or not self._ids_only:
            message = indexer.message(indexed)
            if message is None or not self._search.accepts(filter, message, self._now_ns):
                return
        self._found.append((indexed.id, message))

    def answer(self) -> None:
        """Put both together, as they are now."""
        if not self._has_looked:
            self.refused()
            return
        ledger, unwritten = self._search.ledger, self._unwritten
        here = self._in_order(id for id in unwritten if self._is_end or not self._is_past(id))
        if len(here) > IN_MEMORY_AT_ONCE:  # the rest is of the next page, whatever was found
            here = here[:IN_MEMORY_AT_ONCE]
            self._is_end, self._last = False, here[-1]
        found: dict[bytes, Message | None] = {}
        for id, message in self._found:
            if not self._is_end and self._is_past(id):
                break
            if not (id in unwritten or id in self._ended or ledger.departed(id)):
                found[id] = message
        in_memory = [ledger.messages.get(id) for id in found]
        for held in (*map(unwritten.__getitem__, here), *in_memory):
            if held is None:
                continue
            if held.pending and self._search.accepts(self._filter, held, self._now_ns):
                found[held.id] = held
            else:
                found.pop(held.id, None)
        ids = self._in_order(found)
        end: bytes | None = None if self._is_end else self._last
        if len(ids) > self._limit:
            ids = ids[: self._limit]
            end = ids[-1]
        messages = [message for message in map(found.get, ids) if message is not None]
        shown = [] if self._ids_only else messages
        self._done(Page(ids, shown, end, spent_s=self._spent_s))

    def _in_order(self, ids: Iterable[bytes]) -> list[bytes]:
        return sorted(ids, reverse=self._is_backward)

    def _is_past(self, id: bytes) -> bool:
        """Whether `id` comes behind the last one that was looked at."""
        return id < self._last if self._is_backward else id > self._last


class _Counting:
    """What waits, by next hop."""

    needs_commit = True

    def __init__(self, search: Search, next_hop: bytes | None, done: Counted) -> None:
        self._search = search
        self._next_hop = next_hop
        self._done = done
        self._counts: dict[bytes, tuple[int, int]] = {}
        self._rows: list[tuple[bytes, int, int]] | None = None

    def refused(self, *_: object) -> None:
        """The spool has failed."""
        self._done(SpoolError("the spool has failed"))

    def begin(self) -> None:
        """Count what the index will not have."""
        counts = self._counts
        for message in self._search.ledger.fresh():
            for next_hop, recipients in self._search.waiting(message).items():
                had = counts.get(next_hop, (0, 0))
                counts[next_hop] = (had[0] + 1, had[1] + recipients)

    def look(self, indexer: Indexer) -> None:
        """Read the counts."""
        if self._next_hop is None:
            self._rows = indexer.index.waiting()
        else:
            self._rows = [(self._next_hop, *indexer.index.waiting_for(self._next_hop))]

    def answer(self) -> None:
        """Put both together."""
        if self._rows is None:
            self.refused()
            return
        fresh = self._counts
        if self._next_hop is not None:
            fresh = {name: had for name, had in fresh.items() if name == self._next_hop}
        found = {name: (messages, recipients) for name, messages, recipients in self._rows}
        for name, (messages, recipients) in fresh.items():
            had = found.get(name, (0, 0))
            found[name] = (had[0] + messages, had[1] + recipients)
        self._done([HopCount(name, *count) for name, count in found.items() if count[0]])
