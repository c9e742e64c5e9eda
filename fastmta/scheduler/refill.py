"""How mail comes back from the spool, a bounded number at a time.

An open path reads ahead while the pool has room, so that its jobs never wait for the disk; without
room it reads up to two windows when it has less than one, or, when RAM is overfull, only when it
has nothing else, as many as it can start, in slots that it reserves for them. Where paths stand in
line for slots that is one slot, and one turn of it (see `Path`). A probing path reads one. The hops
of a path take turns; at most one read per hop and FETCHES_MAX per path are under way.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from fastmta.message import Message

from .cursor import position
from .engine import Engine
from .health import PathState
from .hop import Hop, HopState
from .path import Path
from .residence import WINDOWS_GUARANTEED
from .retry import NS

if TYPE_CHECKING:
    from .table import Table

FETCH_MIN = 50  # to read ahead for less is not worth the while
FETCH_MAX = 200
FETCHES_MAX = 4
RECHECK_NS = 60 * NS

TURN_READ = 10  # messages read at once where paths stand in line for slots
TURN_READ_TIGHT = 4  # ... where the pool is full
TURN_LOW = 4  # left of them when more are read
TURN_OCTETS = 64 * 1024  # ... and of content
HOPS_TRIED = 16  # in search of one that may be read
LOW_WATER = 100  # jobs from the backlog that an open path likes to have ready


class Refill:
    """Reads the backlog."""

    __slots__ = ("_engine", "_table")

    def __init__(self, engine: Engine, table: Table) -> None:
        self._engine = engine
        self._table = table

    def refill(self, path: Path) -> None:
        """Read for `path`, which has hops that are behind, as much as it may have."""
        if path.holdup is not None and (path.gate.is_paused or path.ready.backlog_count):
            return  # it has enough for when it may go on
        # While nothing is under way nobody else may bring us back to those not tried now.
        is_at_rest = path.in_flight == 0 and path.fetches == 0
        for _ in range(len(path.behind) if is_at_rest else min(len(path.behind), HOPS_TRIED)):
            if not path.behind or path.fetches >= FETCHES_MAX:
                return
            hop = next(iter(path.behind))
            limit = 0 if path.gate.is_parked(hop) else self._allowance(path, hop)
            if limit:
                del path.behind[hop]
                self._fetch(hop, path, limit)
            elif path.ready.parked or path.gate.has_own_lane(hop):
                path.behind[hop] = path.behind.pop(hop)  # to the end: others may be read
            else:
                return

    def read(self, hop: Hop) -> None:
        """Read for a next hop without a path: its mail will fail."""
        if hop.reading.limit == 0:
            self._fetch(hop, None, FETCH_MAX)

    def _allowance(self, path: Path, hop: Hop) -> int:
        if path.is_hanging:
            return 0  # the end of what hangs brings us back
        health, slots, residence = path.health, self._engine.slots, self._table.residence
        has_slot = slots.is_free
        can_start = health.limit - path.in_flight
        waiting = path.gate.waiting_at(hop)
        if path.in_flight and slots.is_contended:
            is_short = path.ready.backlog_count <= TURN_LOW and not path.fetches
            # A turn does not end because it was not read ahead; who has none reads nothing.
            if not is_short or residence.is_overfull:
                return 0
            return TURN_READ if residence.has_room else TURN_READ_TIGHT
        if health.state is PathState.OPEN and waiting < LOW_WATER and not slots.is_contended:
            room = residence.room
            if room >= min(FETCH_MIN, residence.messages_max // 8 + 1):
                return min(room, FETCH_MAX)
            window_max = health.window.limit
            held = path.in_flight + len(path.ready)
            if path.gate.has_own_lane(hop):
                held = waiting  # others fill the pool, or the path: it has windows of its own
            if held < window_max and (has_slot or path.in_flight) and not residence.is_overfull:
                return 0 if path.fetches else WINDOWS_GUARANTEED * window_max - held
        if can_start <= 0 or path.ready.is_open or path.fetches:
            return 0
        is_much = waiting >= WINDOWS_GUARANTEED * health.window.limit and not residence.has_room
        if waiting and (is_much or residence.is_overfull):
            return 0  # all of it is parked, and what is read now may have to join it
        if not slots.free:
            slots.wait(path)
            return 0
        if slots.is_contended:
            hop.reading.reserved = 1
            # What turns leave behind must not add up over all paths, nor what waits while sites are
            # silent: it would take the RAM from those that answer.
            if residence.is_overfull or not path.is_proved:
                return 1
            return max(1, min(TURN_READ, TURN_OCTETS // (residence.mean_octets + 1)))
        hop.reading.reserved = min(can_start, slots.free)
        return hop.reading.reserved

    def _fetch(self, hop: Hop, path: Path | None, limit: int) -> None:
        reading = hop.reading
        assert reading.limit == 0
        assert hop.is_behind
        reading.limit = limit
        self._engine.slots.reserve(reading.reserved)
        self._table.residence.expected += limit
        if path is not None:
            path.fetches += 1
        ports = self._engine.ports
        now_ns = ports.clock.wall_ns()
        done = partial(self._fetched, hop, path, now_ns)
        ports.backlog.fetch(hop.next_hop, now_ns, reading.cursor, limit, done)

    def _fetched(
        self,
        hop: Hop,
        path: Path | None,
        now_ns: int,
        messages: list[Message],
        next_due_ns: int | None,
    ) -> None:
        reading, slots = hop.reading, self._engine.slots
        slots.end_reservation(reading.reserved)
        reading.reserved = 0
        self._table.residence.expected -= reading.limit
        is_full = len(messages) >= reading.limit
        hop.is_behind = is_full or reading.is_stale or reading.has_departed
        hop_of = self._engine.ports.next_hop
        departed = reading.end(position(messages, hop.next_hop, hop_of, reading.cursor))
        if path is not None:
            path.fetches -= 1
        if next_due_ns is not None:
            self._table.due.note(hop, next_due_ns)
        if messages and not hop.is_behind:
            # Were the read short for another reason than the end, the rest would never be read.
            self._table.due.note(hop, now_ns + RECHECK_NS, is_mail=False)
        for message in messages:
            if message.id not in departed:
                self._table.lifecycle.fetched(message, hop, now_ns)
            elif self._table.residence.find(message.id) is None:
                self._table.release(message)  # what was read may be older than what is recorded
        self._continue(hop)
        slots.wake()

    def _continue(self, hop: Hop) -> None:
        path = hop.path
        if hop.reading.limit:
            return  # a look-up that what was read had to wait for has begun the next one
        if path is not None:
            if hop.is_behind:
                path.behind[hop] = None
            path.pump()
        elif hop.is_behind and hop.state is HopState.UNRESOLVED:
            self._table.routing.resolve(hop)
