"""Counting events as they happen, in plain Python: the specification of ext/journal/tally.pyx.

`emit` takes the place of the append to the journal's list: it appends, and counts. It never raises;
what cannot be counted is counted as that. One writer, so a count is read, added to and stored; each
store is of one whole word. An event is counted when it was emitted, not when it was logged: a
process that is killed loses none of those.
"""

from __future__ import annotations

import struct

from fastmta.event import Event, MessageActive, MessageReceived, MessageRemoved, RecipientTried

from . import family as f
from .block import LOST, Block
from .book import STAGES, Book
from .family import BOUND_COUNT, BOUNDS_S, Bounds

PLACES_MAX = 8192  # sorts of attempts, and of mail that came, that are remembered
SECONDS_MAX = 1_000_000_000  # of one value in a histogram
_NS = 1_000_000_000
_MASK = (1 << 64) - 1
_DOUBLE = struct.Struct("<d")
_WORD = struct.Struct("<Q")


class _Place:
    """Where attempts of one sort count."""

    __slots__ = ("allotted", "left", "slots")

    def __init__(self, slots: tuple[int, ...], left: int) -> None:
        self.slots = slots
        self.left = left
        self.allotted = max(left, 0)  # without being asked again


class Tally:
    """Counts of one worker."""

    def __init__(self, block: Block, pending: list[Event], book: Book) -> None:
        """`pending` is where `emit` appends to."""
        self._slots = block.slots
        self._pending = pending
        self._book = book
        self._tried_places: dict[tuple[bytes, str, str, str, str], _Place] = {}
        self._received_places: dict[tuple[str, str], tuple[int, ...]] = {}
        self._removed = book.slot(f.REMOVED)
        self._delay = book.slot(f.DELIVERY_DELAY)
        self._stages = [book.slot(f.ATTEMPT_SECONDS, stage) for stage in STAGES]
        self._accept = book.slot(f.ACCEPT_SECONDS)

    def emit(self, event: Event) -> None:
        """Append it, and count it."""
        self._pending.append(event)
        try:
            self._count(event)
        except Exception:
            self.add(LOST, 1)

    def add(self, slot: int, amount: int) -> None:
        """Count `amount` more."""
        self._slots[slot] = (self._slots[slot] + amount) & _MASK

    def put(self, slot: int, value: float) -> None:
        """Set a gauge; NaN: it has no value now."""
        self._slots[slot] = _WORD.unpack(_DOUBLE.pack(value))[0]

    def observe(self, slot: int, bounds: int, seconds: float) -> None:
        """Count a value in a histogram."""
        seconds = min(seconds, SECONDS_MAX) if seconds > 0 else 0.0
        place = BOUND_COUNT
        for number, bound in enumerate(BOUNDS_S[Bounds(bounds)]):
            if seconds <= bound:
                place = number
                break
        self.add(slot + place, 1)
        self.add(slot + BOUND_COUNT + 1, int(seconds * _NS))

    def _count(self, event: Event) -> None:
        if isinstance(event, RecipientTried):
            self._tried(event)
        elif isinstance(event, MessageReceived):
            self._received(event)
        elif isinstance(event, MessageRemoved):
            self.add(self._removed, 1)
        elif not isinstance(event, MessageActive):
            slot = self._book.other(event)
            if slot >= 0:
                self.add(slot, 1)

    def _tried(self, event: RecipientTried) -> None:
        kind = event.kind
        reply = event.text if kind == "sent" and not event.reply else event.reply
        key = (event.next_hop, kind, event.status, reply[:3], event.category)
        place = self._tried_places.get(key)
        if place is None or place.left == 0:
            used = 0 if place is None else place.allotted
            place = _Place(*self._book.tried(event, reply[:3], used))
            if len(self._tried_places) >= PLACES_MAX:
                self._tried_places.clear()
            self._tried_places[key] = place
        elif place.left > 0:
            place.left -= 1
        for slot in place.slots:
            self.add(slot, 1)
        for slot, delay_s in zip(self._stages, event.delays_s, strict=True):
            self.observe(slot, Bounds.STAGE, delay_s)
        if kind in ("sent", "bounced"):
            total_s = sum(delay_s for delay_s in event.delays_s if delay_s > 0)
            self.observe(self._delay, Bounds.DELAY, total_s)

    def _received(self, event: MessageReceived) -> None:
        if not (event.client or event.listener):  # our own, a notification
            return
        key = (event.listener, event.tenant)
        place = self._received_places.get(key)
        if place is None:
            if len(self._received_places) >= PLACES_MAX:  # each client may be a tenant
                self._received_places.clear()
            place = self._received_places[key] = self._book.received(event)
        messages, recipients, octets = place
        self.add(messages, 1)
        self.add(recipients, event.recipient_count)
        self.add(octets, event.size_octets)
        self.observe(self._accept, Bounds.SHORT, event.stored_s)
