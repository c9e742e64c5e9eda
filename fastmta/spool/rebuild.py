"""Making the index anew from the logs, while the shard is at work or before it is."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

from fastmta.event import Notice

from .index import Index
from .layout import Layout
from .recovery import Emit, Scanner, extent, quarantine, view_of
from .replay import Records, Replay
from .rows import RowMaker
from .segment import Logs, Segment

RECORDS_AT_ONCE = 500
_REST_S = 0.0002  # between these, so that other threads get their turn


class Extent(NamedTuple):
    """A segment, and how far it was part of the log when rebuilding was ordered."""

    segment: Segment
    proven: int  # offsets
    limit: int


class Rebuilt(NamedTuple):
    """What there is after a rebuilding."""

    messages: int  # live messages, those that were left out not included
    live: dict[int, tuple[int, int]]  # messages and octets by first position of a segment
    hops: list[tuple[bytes, int]]


class Stopped(Exception):
    """The shard is closed before the index is complete; the next start begins anew."""


class Rebuild:
    """One rebuilding. Made where segments come and go (the loop), run by the index thread.

    `end` and `cold_end` say how far the logs are durable (0: not known, as found on the disk);
    `skip` are messages that somebody else will write to the index afterwards.
    """

    def __init__(
        self,
        layout: Layout,
        logs: Logs,
        maker: RowMaker,
        emit: Emit,
        end: int = 0,
        cold_end: int = 0,
        skip: frozenset[bytes] = frozenset(),
        is_patient: bool = True,
    ) -> None:
        self.skip = skip
        self.end = end
        self._layout, self._logs, self._maker, self._emit = layout, logs, maker, emit
        self._is_patient = is_patient
        self._cold = _extents(list(logs.cold), cold_end)
        self._hot = _extents(list(logs.hot), end)

    def run(self, index: Index, is_stopping: Callable[[], bool]) -> Rebuilt:
        """Fill `index`, which is empty; it is not complete until the next commit after this.

        Raises Stopped, lmdb.Error, OSError.
        """
        replay = Replay(index, self._logs, self._maker, self._layout.big_path, skip=self.skip)
        applied = 0
        for extents in (self._cold, self._hot):
            for each in extents:
                for data, records in self._read(each):
                    if is_stopping():
                        raise Stopped
                    replay.apply(each.segment, data, records)
                    if extents is self._hot and records:
                        applied = each.segment.base + records[-1][1]
                    if replay.is_large:
                        index.commit(replay.take(applied, 0), is_complete=False)
                    if self._is_patient:
                        time.sleep(_REST_S)
        index.commit(replay.take(max(applied, self.end), 0), is_complete=False)
        return Rebuilt(index.count(), index.live(), index.hops())

    def _read(self, each: Extent) -> Iterator[tuple[memoryview, Records]]:
        segment, layout = each.segment, self._layout
        with view_of(segment) as data, data[:] as view:
            scanner = Scanner(view, segment, each.proven, each.limit, RECORDS_AT_ONCE)
            while not scanner.is_done:
                yield data, scanner.step()
            for hole in scanner.holes:
                quarantine(layout, segment, data, hole, self._emit)
            if scanner.dropped:
                text = f"the log ends at position {segment.base + scanner.end} with a torn group"
                self._emit(Notice("spool", f"{text}, of which nobody was told; dropped"))


def _extents(segments: list[Segment], end: int) -> list[Extent]:
    """How far each segment is to be read; the last one up to `end`, if that is known."""
    found = []
    for at, segment in enumerate(segments):
        proven, limit = extent(segments, at, end)
        if end and at == len(segments) - 1:
            limit = proven = min(max(end - segment.base, 0), limit)
        found.append(Extent(segment, proven, limit))
    return found
