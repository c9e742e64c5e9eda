"""Recovery: from the files of a shard to its exact state. The same after a crash and a clean end.

Damage is judged by proof. What lies below the proven position (the end that the next segment's
header states, a later BATCH's durable position, or the index's checkpoint) was acknowledged:
damage there is rot, it is copied to quarantine/, named, and everything around it survives. What
lies beyond it is the torn end of the last group, which nobody was told of: it is dropped from the
first invalid octet on. Nothing is ever truncated or written in an old segment.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Callable, Iterator
from typing import NamedTuple, TypeAlias

from fastmta.event import Event, Notice, Severity

from ._scan import (
    BATCH,
    find_batch,
    find_record,
    is_padding,
    parse_batch,
    parse_record_head,
    scan_groups,
)
from .layout import Layout, read_whole, write_file
from .segment import HEADER_OCTETS, Segment

Emit: TypeAlias = Callable[[Event], None]

_PAGE = 4096
_QUEUE_ID = frozenset(b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz")


class Hole(NamedTuple):
    """A damaged region of a segment, by offset."""

    start: int
    end: int


class Scan(NamedTuple):
    """What one segment holds from some offset on."""

    records: list[tuple[int, int, int]]  # kind, offset, payload octets; in order
    holes: list[Hole]  # proven damage
    end: int  # offset where the log ends in it
    number: int  # of its last group
    dropped: int  # octets of a torn end that were not zero


class Found(NamedTuple):
    """The segment files of a shard."""

    segments: list[Segment]  # in the order of the log
    spares: list[Segment]
    number: int  # highest file number


def find_segments(layout: Layout, checkpoint: int) -> Found:
    """Open every segment file and sort out which hold the log."""
    number = 0
    logs: list[Segment] = []
    others: list[Segment] = []
    for name in sorted(os.listdir(layout.hot)):
        if not name.endswith(".seg"):
            continue
        number = max(number, int(name[:-4], 16))
        path = os.path.join(layout.hot, name)
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        segment = Segment(path, fd, os.fstat(fd).st_size)
        is_log = segment.parse_header(read_whole(fd, HEADER_OCTETS, 0))
        (logs if is_log else others).append(segment)
    logs.sort(key=lambda segment: segment.base)
    for segment in [*others]:
        if _salvage_header(segment, logs, checkpoint):
            others.remove(segment)
            logs.append(segment)
            logs.sort(key=lambda segment: segment.base)
    return Found(logs, others, number)


def _salvage_header(segment: Segment, logs: list[Segment], checkpoint: int) -> bool:
    """Whether this file without a header is a missing part of the log; then fill its fields in.

    It is if its first group stands where the log has a gap: between two segments, or behind the
    last one but below the checkpoint. (A spare keeps the octets of an older life, whose positions
    lie before the log; a torn reuse lies behind it.)
    """
    block = read_whole(segment.fd, 2 * _PAGE, 0)
    if len(block) < 2 * _PAGE:
        return False
    epoch, position = parse_record_head(block, _PAGE)
    base = position - _PAGE
    whole = read_whole(segment.fd, segment.size_octets, 0)
    if not logs or base < 0 or find_batch(whole, base, epoch, _PAGE) != _PAGE:
        return False
    before = max((s for s in logs if s.base < base), key=lambda s: s.base, default=None)
    after = min((s for s in logs if s.base > base), key=lambda s: s.base, default=None)
    if before is None or before.end > base or any(s.base == base for s in logs):
        return False
    if (after.base < base + segment.size_octets) if after else checkpoint <= position:
        return False
    segment.epoch, segment.base, segment.boot = epoch, base, before.boot
    segment.sequence = before.sequence + 1
    segment.previous_end = parse_batch(block, _PAGE)[1]
    return True


def scan_segment(data: mmap.mmap | bytes, segment: Segment, proven: int, limit: int) -> Scan:
    """Read a segment: below offset `proven` all must be there, from `limit` on nothing counts."""
    records: list[tuple[int, int, int]] = []
    holes: list[Hole] = []
    base, epoch, size = segment.base, segment.epoch, segment.size_octets
    number = dropped = group_end = 0
    pos = HEADER_OCTETS
    with memoryview(data) as view:
        while pos < limit:
            got, pos, group_end = scan_groups(view, base, epoch, pos, group_end)
            records += got
            following = find_batch(view, base, epoch, group_end or min(pos + _PAGE, size))
            batches = [offset for kind, offset, _ in got if kind == BATCH]
            for offset in [*batches[-1:], *([following] if following < limit else [])]:
                number, durable, _, _ = parse_batch(view, offset)
                proven = max(proven, min(durable - base, limit))
            if pos >= proven and following >= limit:
                dropped = _torn_octets(view, segment, pos, group_end)
                break
            # Damage that is proven, or that later groups follow: step over it.
            stop = group_end or (following if following < limit else proven)
            resume = find_record(view, base, epoch, pos + 8, stop)
            if not is_padding(view, pos, resume) or resume - pos >= _PAGE:
                holes.append(Hole(pos, resume))
            pos, group_end = (resume, stop) if resume < stop else (stop, 0)
    records = [record for record in records if record[1] < limit]
    return Scan(records, holes, min(pos, limit), number, dropped)


def _torn_octets(view: memoryview, segment: Segment, pos: int, group_end: int) -> int:
    """How much of a last group that was not written whole stands at `pos`.

    Between groups there is one only if a BATCH of this segment was begun: what else stands there is
    from an older life of the file.
    """
    if group_end:
        return 0 if is_padding(view, pos, group_end) else group_end - pos
    if pos >= segment.size_octets:
        return 0
    claim = parse_record_head(view, pos)
    return _PAGE if claim == (segment.epoch, segment.base + pos) else 0


def describe_hole(data: mmap.mmap | bytes, hole: Hole) -> str:
    """What the damaged region may have been, for the operator: the id it seems to hold."""
    with memoryview(data) as view:
        id = bytes(view[hole.start + 32 : hole.start + 48])
    if len(id) == 16 and all(octet in _QUEUE_ID for octet in id):
        return f" (seems to be of message {id.decode()})"
    return ""


def quarantine(
    layout: Layout, segment: Segment, data: mmap.mmap | bytes, hole: Hole, emit: Emit
) -> None:
    """Keep a copy of a damaged region and tell the operator, once per region."""
    position, octets = segment.base + hole.start, hole.end - hole.start
    path = os.path.join(layout.quarantine, f"{position:016x}-{octets}")
    if os.path.exists(path):
        return
    write_file(path, bytes(data[hole.start : hole.end]))
    text = (
        f"{octets} octets at position {position} of {segment.path} are damaged"
        f"{describe_hole(data, hole)}; a copy is in {path}"
    )
    emit(Notice("spool", text, Severity.ERROR))


def scan_all(
    layout: Layout, segments: list[Segment], checkpoint: int, proof: int, emit: Emit
) -> Iterator[tuple[Segment, mmap.mmap, Scan]]:
    """Scan every segment that reaches beyond `checkpoint`; `proof` is where the log surely went."""
    for at, segment in enumerate(segments):
        if at and segments[at - 1].end != segment.base:
            text = f"the log between position {segments[at - 1].end} and {segment.base} is missing"
            emit(Notice("spool", text, Severity.ERROR))
        is_last = at == len(segments) - 1
        if segment.end <= checkpoint and not is_last:
            continue
        if is_last:
            limit = segment.size_octets
            proven = min(max(proof - segment.base, 0), limit)
        else:
            limit = min(max(segments[at + 1].previous_end - segment.base, 0), segment.size_octets)
            proven = limit
        with mmap.mmap(segment.fd, segment.size_octets, prot=mmap.PROT_READ) as data:
            scan = scan_segment(data, segment, proven, limit)
            for hole in scan.holes:
                quarantine(layout, segment, data, hole, emit)
            yield segment, data, scan
