"""What all mail, or the mail that a filter means, comes to: a slice of the index at a time."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, TypeAlias

import msgspec

from fastmta.message import Envelope, Message, RecipientState, RecipientStatus
from fastmta.message.situation import NOWHERE, QUEUES, Situation, queue_of

from .filter import Filter
from .indexer import Indexer
from .problem import SpoolError
from .walking import sieve_of

if TYPE_CHECKING:
    from .search import Search

ROWS_AT_ONCE = 200  # of messages that need a closer look, in one turn of the index thread
WALKED_AT_ONCE = 50_000
_STATUSES = len(RecipientStatus)

Place: TypeAlias = tuple[RecipientState | None, bytes]  # of a recipient: state, next hop


class Reckoning:
    """Counts; they can be added up."""

    def __init__(self, arrived_by: Sequence[int]) -> None:
        """Ages are counted by these moments, the latest first: a message is of the first one that
        it did not arrive before."""
        self.arrived_by = list(arrived_by)
        self.messages = 0
        self.octets = 0
        self.recipients = [0] * _STATUSES  # by status
        self.queues = [0] * len(QUEUES)  # messages
        self.oldest_ns = [0] * len(QUEUES)  # 0: there is none
        self.ages = [0] * len(self.arrived_by)

    def add(
        self, message: Message, situation: Situation, next_hop: Callable[[bytes, Envelope], bytes]
    ) -> None:
        """Count one message in memory."""
        envelope, states = message.envelope, message.states
        is_active = message.id in situation.active
        there = NOWHERE if is_active else situation
        places = [
            (states.get(index), next_hop(path, envelope) if there.suspended else b"")
            for index, path in enumerate(envelope.forward_paths)
        ]
        size = message.size_octets
        self.note(message.arrived_at_ns, size, places, there, is_active=is_active)

    def note(
        self,
        arrived_at_ns: int,
        octets: int,
        places: Iterable[Place],
        situation: Situation,
        *,
        is_active: bool = False,
    ) -> None:
        """Count one message with these recipients."""
        statuses = [situation.of(*place).status for place in places]
        self.messages += 1
        self.octets += octets
        for status in statuses:
            self.recipients[status] += 1
        queue = queue_of(is_active, statuses)
        self.queues[queue] += 1
        for at, moment in enumerate(self.arrived_by):
            if arrived_at_ns >= moment:
                self.ages[at] += 1
                break
        self._note_oldest(queue, arrived_at_ns)

    def merge(self, messages: int, octets: int, rest: tuple[list[int], ...]) -> None:
        """Count what `_walk` has counted: it knows of nothing active."""
        recipients, queues, ages, oldest_ns = rest
        self.messages += messages
        self.octets += octets
        self.recipients = [one + two for one, two in zip(self.recipients, recipients, strict=True)]
        self.ages = [one + two for one, two in zip(self.ages, ages, strict=True)]
        for queue, count in enumerate(queues):
            self.queues[queue] += count
            if count:
                self._note_oldest(queue, oldest_ns[queue])

    def _note_oldest(self, queue: int, arrived_at_ns: int) -> None:
        known = self.oldest_ns[queue]
        if not known or arrived_at_ns < known:
            self.oldest_ns[queue] = arrived_at_ns


class Slice(msgspec.Struct):
    """Part of a reckoning; the index's share is counted."""

    messages: list[Message]  # of this part in memory; whoever asked counts those that are meant
    next: bytes | None  # where the next part begins; None: that was all
    error: SpoolError | None = None
    spent_s: float = 0.0  # of the index thread


Sliced: TypeAlias = Callable[[Slice], None]


class Slicing:
    """A question for the index thread: one slice, beyond an id."""

    needs_commit = False

    def __init__(
        self,
        search: Search,
        filter: Filter,
        now_ns: int,
        after: bytes,
        reckoning: Reckoning,
        done: Sliced,
    ) -> None:
        self._search = search
        self._filter = filter
        self._now_ns = now_ns
        self._after = after
        self._reckoning = reckoning
        self._done = done
        self._unwritten: dict[bytes, Message] = {}
        self._skipped: set[bytes] = set()
        self._last = b""
        self._is_end = False
        self._has_looked = False
        self._spent_s = 0.0

    def refused(self, *_: object) -> None:
        """The spool has failed."""
        self._done(Slice([], None, SpoolError("the spool has failed")))

    def begin(self) -> None:
        """Note what the index will not have, or not as it is."""
        self._unwritten = self._search.in_memory(self._filter, self._after)
        self._skipped = self._search.ledger.ended() | self._unwritten.keys()

    def look(self, indexer: Indexer) -> None:
        """Count a slice of the rows."""
        self._has_looked = True
        begin_s = time.thread_time()
        self._look(indexer)
        self._spent_s = time.thread_time() - begin_s

    def _look(self, indexer: Indexer) -> None:
        index = indexer.index
        rows = index.walking.rows()
        if rows is not None:
            try:
                skipped = b"".join(sorted(self._skipped))
                sieve = sieve_of(self._filter, self._now_ns)
                messages, octets, recipients, queues, ages, oldest, unsure, _, last, is_end = (
                    rows.count(
                        sieve,
                        self._after,
                        self._reckoning.arrived_by,
                        skipped,
                        ROWS_AT_ONCE,
                        WALKED_AT_ONCE,
                    )
                )
            except ValueError:
                index.walking.is_off = True
            else:
                self._reckoning.merge(messages, octets, (recipients, queues, ages, oldest))
                self._last, self._is_end = last, is_end
                self._examine(indexer, unsure)
                return
        slice = index.page(self._after, ROWS_AT_ONCE)
        self._is_end = len(slice) < ROWS_AT_ONCE
        self._last = slice[-1][0] if slice else self._after
        self._examine(indexer, [id for id, _ in slice if id not in self._skipped])

    def _examine(self, indexer: Indexer, ids: list[bytes]) -> None:
        """Look at messages one by one."""
        filter = self._filter
        for indexed in indexer.index.find(ids):
            row = indexed.row
            if filter.text:
                message = indexer.message(indexed)
                if message is None or not self._search.accepts(filter, message, self._now_ns):
                    continue
            places = [(one.state, one.next_hop) for one in indexed.recipients.values()]
            self._reckoning.note(row.arrived_at_ns, row.size_octets, places, filter.situation)

    def answer(self) -> None:
        """Hand out what is in memory."""
        if not self._has_looked:
            self.refused()
            return
        is_end, last = self._is_end, self._last
        here = [one for id, one in self._unwritten.items() if is_end or id <= last]
        self._done(Slice(here, None if is_end else last, spent_s=self._spent_s))
