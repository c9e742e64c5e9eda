"""Trimming one segment: what is still needed of it is copied to the tail of the cold log.

Of each message in it that the index holds at this very place: its MSG or REF, and a FOLD with all
its states and the position in the hot log up to which they hold. If the segment is hot also, for
each message from before it that has a STATE here, a FOLD, or a TOMB if that message is final: the
cold log has a copy of it, and would else bring it back when the index is lost.

The index holds everything below its checkpoint, and a hot segment is trimmed only when the
checkpoint is past it. So a row and the checkpoint are all that a FOLD needs.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from ._scan import parse_id, parse_state
from .codec import encode
from .cold import ColdLog, Copied
from .index import Index, IndexedMessage
from .layout import Layout
from .recovery import Emit, Scanner, extent, quarantine, view_of
from .rows import Move
from .segment import LogKind, Segment, SegmentTable
from .stored import KIND_MESSAGE, KIND_REFERENCE, KIND_STATE

RECORDS_AT_ONCE = 1000
_RECORD_OCTETS = 32  # of the header of a record, see ext/pxd/logform.pxd


class Step(NamedTuple):
    """What one step did, durably."""

    moves: list[Move]
    octets: int  # written to the cold log
    cold_end: int
    is_done: bool


class Trim:
    """One segment on its way to the cold log. Made by the loop, worked by the index thread.

    `is_evacuation`: only its messages are to leave it, because the file is not to be trusted.
    """

    def __init__(
        self,
        segment: Segment,
        table: SegmentTable,
        layout: Layout,
        emit: Emit,
        is_evacuation: bool = False,
    ) -> None:
        self.segment = segment
        self.is_evacuation = is_evacuation
        segments = list(table)
        self._proven, self._limit = extent(segments, segments.index(segment), 0)
        self._layout, self._emit = layout, emit
        self._work: Iterator[None] | None = None
        self._copied: list[Copied] = []
        self._strays: dict[bytes, None] = {}
        self._handled: set[bytes] = set()

    def step(self, index: Index, cold: ColdLog) -> Step:
        """Go on until one group is full, or a thousand records have been looked at.

        Raises SpoolError, OSError, cold.NoSpare; the whole segment may then be tried again.
        """
        if self._work is None:
            self.segment.pins += 1
            self._work = self._walk(index, cold)
        is_done = next(self._work, self) is self
        start = cold.commit()
        moves = [Move(each.id, each.old, start + each.offset, each.octets) for each in self._copied]
        self._copied.clear()
        if is_done:
            self.close()
        return Step(moves, cold.end - start if start else 0, cold.end, is_done)

    def close(self) -> None:
        """Nobody reads the segment any more."""
        if self._work is not None:
            self._work = None
            self.segment.pins -= 1

    def _walk(self, index: Index, cold: ColdLog) -> Iterator[None]:
        """Append to the open group; yields when that is to be committed."""
        segment = self.segment
        strays = segment.strays
        self._strays = dict.fromkeys(strays or ())
        if segment.live or strays is None:
            with view_of(segment) as data, data[:] as view:
                scanner = Scanner(view, segment, self._proven, self._limit, RECORDS_AT_ONCE)
                while not scanner.is_done:
                    records = scanner.step()
                    yield from self._copy_live(index, cold, view, records)
                    if strays is None:
                        yield from self._fold_strays(index, cold)
                    yield
                for hole in scanner.holes:
                    quarantine(self._layout, segment, data, hole, self._emit)
        yield from self._fold_strays(index, cold)

    def _copy_live(
        self,
        index: Index,
        cold: ColdLog,
        view: memoryview,
        records: list[tuple[int, int, int]],
    ) -> Iterator[None]:
        segment = self.segment
        places: dict[bytes, tuple[int, int, int]] = {}
        for kind, offset, length in records:
            if kind in (KIND_MESSAGE, KIND_REFERENCE):
                places[parse_id(view, offset, length)] = (kind, offset, length)
            elif kind == KIND_STATE and segment.strays is None and segment.kind is LogKind.HOT:
                id, position, _, _ = parse_state(view, offset, length)
                if not segment.base <= position < segment.end:
                    self._strays[id] = None
        for found in index.find_at(places, segment.base, segment.end):
            kind, offset, length = places[found.id]
            if found.row.position != segment.base + offset:
                continue
            fold = self._fold_of(found)
            if not cold.has_room(length + len(fold)):
                yield
            begin = offset + _RECORD_OCTETS
            at = cold.append(kind, bytes(view[begin : begin + length]))
            if fold:
                cold.append_fold(found.id, max(found.row.applied, index.checkpoint), fold)
            self._copied.append(Copied(found.id, found.row.position, at, found.row.log_octets))

    def _fold_strays(self, index: Index, cold: ColdLog) -> Iterator[None]:
        """What became of messages from before this segment."""
        if self.is_evacuation or self.segment.kind is not LogKind.HOT:
            return
        ids = [id for id in self._strays if id not in self._handled]
        self._handled.update(ids)
        self._strays.clear()
        for begin in range(0, len(ids), RECORDS_AT_ONCE):
            some = ids[begin : begin + RECORDS_AT_ONCE]
            alive = {found.id: found for found in index.find(some)}
            for id in some:
                found = alive.get(id)
                fold = self._fold_of(found) if found else b""
                if not cold.has_room(len(fold)):
                    yield
                if found is None:
                    cold.append_tomb(id)
                else:
                    cold.append_fold(id, max(found.row.applied, index.checkpoint), fold)

    def _fold_of(self, found: IndexedMessage) -> bytes:
        """All states of a message; empty when no recipient was ever touched."""
        states = found.states
        return encode([states[index] for index in sorted(states)]) if states else b""
