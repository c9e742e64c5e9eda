"""Opening a shard: from its files to its exact state. The same after a crash and a clean end.

A shard with a good index is open as soon as the hot log is replayed from the checkpoint on, however
large the backlog is. Without one it is open as soon as the end of the log is found, and the index
is rebuilt while mail is accepted (a small log is replayed at once).
"""

from __future__ import annotations

import hashlib
import itertools
import os
import shutil
from typing import NamedTuple

import lmdb

from fastmta.event import Notice, Severity

from .index import FORMAT, Index, move_aside
from .layout import Layout
from .option import Durability, SpoolOptions
from .rebuild import Rebuild
from .recovery import Emit, Found, extent, find_segments, scan_all, scan_segment, view_of
from .replay import Replay
from .rows import RowMaker
from .segment import COLD_BASE, LogKind, Logs, Segment, SegmentTable

REBUILT_AT_ONCE_OCTETS = 8 * 1024 * 1024  # a smaller log is replayed before the shard opens
_PAGE = 4096


class Ends(NamedTuple):
    """Where a log goes on."""

    end: int  # of what is durable
    base: int  # of the next segment
    number: int  # of the last group
    spares: list[Segment]
    file_number: int  # highest


class Recovered(NamedTuple):
    """An open shard."""

    catalogue: Index
    logs: Logs
    hot: Ends
    cold: Ends
    boot: int
    live_count: int
    hops: list[tuple[bytes, int]]
    is_indexed: bool  # otherwise the index is empty, and to be rebuilt


def identity(options: SpoolOptions) -> dict[str, int]:
    """What an index must say of itself to be fit for use, and how its shard is flushed."""
    digest = hashlib.sha256(options.routing_token).digest()
    return {
        "format": FORMAT,
        "routing": int.from_bytes(digest[:8], "big"),
        "durable": int(options.durability is Durability.FULL),
    }


def open_index(
    layout: Layout, options: SpoolOptions, logs: Logs, emit: Emit
) -> tuple[Index, dict[str, int]]:
    """The index and its `meta`; a new one (no `meta`) when it is missing, bad or incomplete."""
    wanted = identity(options)
    try:
        index = Index(layout.index, logs, **wanted)
        try:
            meta = index.read_meta()
            is_empty = index.count() == 0
        except BaseException:
            index.close()
            raise
    except (lmdb.Error, ValueError) as problem:
        target = move_aside(layout.index)
        text = f"the index cannot be used ({problem}); it is now {target} and will be rebuilt"
        emit(Notice("spool", text, Severity.WARNING))
        return Index(layout.index, logs, **wanted), {}
    if all(meta.get(name) == wanted[name] for name in ("format", "routing")):
        return index, meta
    if is_empty and not meta:
        return index, {}
    index.close()
    shutil.rmtree(layout.index)
    reason = "was made for other routing" if meta.get("format") == FORMAT else "is not complete"
    if meta.get("format", FORMAT) != FORMAT:
        reason = "is of another release"
    emit(Notice("spool", f"the index {reason}; it will be rebuilt"))
    return Index(layout.index, logs, **wanted), {}


def recover(layout: Layout, options: SpoolOptions, maker: RowMaker, emit: Emit) -> Recovered:
    """Bring a shard to its exact state. Idempotent; raises OSError, lmdb.Error or SpoolError."""
    logs = Logs()
    index, meta = open_index(layout, options, logs, emit)
    try:
        hot = find_segments(layout, LogKind.HOT, meta.get("checkpoint", 0), emit)
        cold = find_segments(layout, LogKind.COLD, meta.get("cold_end", 0), emit)
        for segment in hot.segments:
            logs.hot.append(segment)
        for segment in cold.segments:
            logs.cold.append(segment)
        opening = Opening(layout, options, maker, emit, index, logs)
        if meta:
            ends = opening.replay(meta, hot, cold)
            is_indexed = True
        else:
            ends = opening.find_ends(hot, cold)
            is_indexed = _octets_between(logs, ends) <= REBUILT_AT_ONCE_OCTETS
        boot = layout.begin_boot(max((segment.boot for segment in logs.all()), default=0))
        if not meta and is_indexed:
            opening.rebuild(ends)
    except BaseException:
        index.close()
        raise
    count, hops = 0, []
    if is_indexed:
        count, hops = index.count(), index.hops()
        take_counts(logs, index.live())
    return Recovered(index, logs, *ends, boot, count, hops, is_indexed)


def take_counts(logs: Logs, live: dict[int, tuple[int, int]]) -> None:
    """What of each segment the index needs."""
    for segment in logs.all():
        count, octets = live.get(segment.base, (0, 0))
        segment.live += count
        segment.live_octets += octets


class Opening(NamedTuple):
    """What recovery works with."""

    layout: Layout
    options: SpoolOptions
    maker: RowMaker
    emit: Emit
    catalogue: Index
    logs: Logs

    def replay(self, meta: dict[str, int], hot: Found, cold: Found) -> tuple[Ends, Ends]:
        """Replay the hot log from the checkpoint of a good index."""
        index, layout = self.catalogue, self.layout
        checkpoint = meta["checkpoint"]
        was_durable = meta.get("durable", 1)
        proof = checkpoint if was_durable else 0
        scanned = [] if was_durable else self.logs.all()
        replay = Replay(index, self.logs, self.maker, layout.big_path, checkpoint)
        end, number = checkpoint, 0
        for segment, data, scan in scan_all(layout, hot.segments, checkpoint, proof, self.emit):
            replay.apply(segment, data, scan.records)
            end, number = max(end, segment.base + scan.end), max(number, scan.number)
            scanned.append(segment)
            if scan.dropped:
                self._tell_torn(segment.base + scan.end)
            if replay.is_large:
                _sync(scanned)
                index.commit(replay.take(segment.base + scan.end, checkpoint))
        _sync(scanned)
        batch = replay.take(end, end)
        index.commit(batch)
        cold_end = max(meta.get("cold_end", 0), COLD_BASE)
        return _ends(self.logs.hot, hot, end, number), _ends(self.logs.cold, cold, cold_end, 0)

    def find_ends(self, hot: Found, cold: Found) -> tuple[Ends, Ends]:
        """Where the logs end, without an index. Everything in them becomes durable here."""
        _sync(self.logs.all())
        return (
            _ends(self.logs.hot, hot, *self._end_of(hot.segments, 0)),
            _ends(self.logs.cold, cold, *self._end_of(cold.segments, COLD_BASE)),
        )

    def rebuild(self, ends: tuple[Ends, Ends]) -> None:
        """Replay both logs before the shard opens."""
        for segments in (list(self.logs.cold), list(self.logs.hot)):
            for before, after in itertools.pairwise(segments):
                if before.end < after.previous_end:
                    text = f"the log between position {before.end} and {after.base} is missing"
                    self.emit(Notice("spool", text, Severity.ERROR))
        work = Rebuild(self.layout, self.logs, self.maker, self.emit, is_patient=False)
        work.run(self.catalogue, lambda: False)
        batch = Replay(self.catalogue, self.logs, self.maker, self.layout.big_path).take(
            ends[0].end, ends[0].end
        )
        batch.cold_end = ends[1].end
        self.catalogue.commit(batch)

    def _end_of(self, segments: list[Segment], least: int) -> tuple[int, int]:
        if not segments:
            return least, 0
        last = segments[-1]
        with view_of(last) as data:
            scan = scan_segment(data, last, *extent(segments, len(segments) - 1, 0))
        return last.base + scan.end, scan.number

    def _tell_torn(self, position: int) -> None:
        text = f"the log ends at position {position} with a torn group"
        self.emit(Notice("spool", f"{text}, of which nobody was told; dropped"))


def _ends(table: SegmentTable, found: Found, end: int, number: int) -> Ends:
    base = max(table.last.end if table.last else 0, -(-end // _PAGE) * _PAGE)
    return Ends(end, base, number, found.spares, found.number)


def _octets_between(logs: Logs, ends: tuple[Ends, Ends]) -> int:
    """What there is to replay, near enough."""
    pairs = zip((logs.hot, logs.cold), ends, strict=True)
    return sum(max(end.end - segments[0].base, 0) for table, end in pairs if (segments := [*table]))


def _sync(segments: list[Segment]) -> None:
    """What was scanned may have been written but not flushed by the process that died."""
    for segment in segments:
        os.fdatasync(segment.fd)
    segments.clear()
