"""Recovery: from the files of a shard to its exact state. The same after a crash and a clean end.

Damage is judged by proof. What lies below the proven position (the end that the next segment's
header states, a later BATCH's durable position, or the index's checkpoint) was acknowledged:
damage there is rot, it is copied to quarantine/, named, and everything around it survives. What
lies beyond it is the torn end of the last group, which nobody was told of: it is dropped from the
first invalid octet on. Nothing is ever truncated or written in an old segment.
"""

from __future__ import annotations

import contextlib
import mmap
import os
from collections.abc import Callable, Iterator, Sequence
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
from .segment import HEADER_OCTETS, LogKind, Segment

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


def find_segments(layout: Layout, kind: LogKind, checkpoint: int, emit: Emit) -> Found:
    """Open every segment file of a log and sort out which hold it."""
    directory = layout.hot if kind is LogKind.HOT else layout.cold
    number = 0
    logs: list[Segment] = []
    spares: list[Segment] = []
    damaged: list[Segment] = []
    for name in sorted(os.listdir(directory)):
        if not name.endswith(".seg"):
            continue
        number = max(number, int(name[:-4], 16))
        path = os.path.join(directory, name)
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        segment = Segment(path, fd, os.fstat(fd).st_size, kind)
        segment.strays = None  # whoever wrote it did not say
        block = read_whole(fd, HEADER_OCTETS, 0)
        if segment.parse_header(block):
            logs.append(segment)
        else:
            (damaged if any(block) else spares).append(segment)
    logs.sort(key=_base)
    for segment in [*spares, *damaged]:
        is_spare = segment in spares
        if _salvage_header(segment, logs, checkpoint, is_spare):
            (spares if is_spare else damaged).remove(segment)
            logs.append(segment)
            logs.sort(key=_base)
            text = f"the header of {segment.path} was lost; its first group tells its place"
            emit(Notice("spool", text, Severity.ERROR))
    for segment in damaged:
        target = os.path.join(layout.quarantine, os.path.basename(segment.path))
        segment.close()
        os.rename(segment.path, target)
        text = f"{segment.path} has a damaged header and no place in the log; it is now {target}"
        emit(Notice("spool", text, Severity.WARNING))
    return Found(logs, spares, number)


def _base(segment: Segment) -> int:
    return segment.base


def _salvage_header(segment: Segment, logs: list[Segment], checkpoint: int, is_spare: bool) -> bool:
    """Whether this file without a header is a missing part of the log; then fill its fields in.

    It is if its first group stands where the log has a gap: between two segments, behind the last
    one but below the checkpoint, or, unless its header is a void, right before the oldest. (A spare
    keeps the octets of an older life, which ended before the log begins.)
    """
    block = read_whole(segment.fd, 2 * _PAGE, 0)
    if len(block) < 2 * _PAGE or not logs:
        return False
    epoch, position = parse_record_head(block, _PAGE)
    base = position - _PAGE
    before = max((s for s in logs if s.base <= base), key=_base, default=None)
    after = min((s for s in logs if s.base > base), key=_base, default=None)
    end = base + segment.size_octets
    if base < 0 or (before is None and (is_spare or after is None or after.base != end)):
        return False
    if before is not None and before.end > base:
        return False
    if (after.base < end) if after else checkpoint <= position:
        return False
    if after is not None and after.previous_end <= base:
        return False  # its only group failed: the log went on in the next one
    whole = read_whole(segment.fd, segment.size_octets, 0)
    if find_batch(whole, base, epoch, _PAGE) != _PAGE:
        return False
    segment.epoch, segment.base = epoch, base
    if before is not None:
        segment.boot, segment.sequence = before.boot, before.sequence + 1
    segment.previous_end = parse_batch(block, _PAGE)[1] or base
    return True


class Scanner:
    """Reads a segment piece by piece: below offset `proven` all must be there, from `limit` on
    nothing counts. `view` is the caller's and stays open until the last step."""

    def __init__(
        self, view: memoryview, segment: Segment, proven: int, limit: int, records_max: int = 0
    ) -> None:
        self.holes: list[Hole] = []
        self.number = 0  # of the last group seen
        self.dropped = 0  # octets of a torn end that were not zero
        self.is_done = limit <= HEADER_OCTETS
        self._view, self._segment = view, segment
        self._proven, self._limit, self._records_max = proven, limit, records_max
        self._pos, self._group_end = HEADER_OCTETS, 0

    @property
    def end(self) -> int:
        """Offset up to which the segment was read, where the log ends in it once that is done."""
        return min(self._pos, self._limit)

    def step(self) -> list[tuple[int, int, int]]:
        """The next records: kind, offset, payload octets. About `records_max` of them."""
        view, limit, segment = self._view, self._limit, self._segment
        base, epoch = segment.base, segment.epoch
        got, pos, group_end = scan_groups(
            view, base, epoch, self._pos, self._group_end, self._records_max
        )
        self._pos, self._group_end = pos, group_end
        batches = [offset for kind, offset, _ in got if kind == BATCH]
        self._look_at(batches[-1:])
        if pos >= limit:
            self.is_done = True
        elif not self._records_max or len(got) < self._records_max or group_end:
            self._step_over()
        return [record for record in got if record[1] < limit]

    def _look_at(self, batches: list[int]) -> None:
        for offset in batches:
            self.number, durable, _, _ = parse_batch(self._view, offset)
            self._proven = max(self._proven, min(durable - self._segment.base, self._limit))

    def _step_over(self) -> None:
        """What stands here is not valid: the end, or damage that is proven or followed by more."""
        view, segment, limit, pos = self._view, self._segment, self._limit, self._pos
        group_end = self._group_end
        base, epoch, size = segment.base, segment.epoch, segment.size_octets
        following = find_batch(view, base, epoch, group_end or min(pos + _PAGE, size))
        if following < limit:
            self._look_at([following])
        if pos >= self._proven and following >= limit:
            self.dropped = _torn_octets(view, segment, pos, group_end)
            self.is_done = True
            return
        stop = group_end or (following if following < limit else self._proven)
        resume = find_record(view, base, epoch, pos + 8, stop)
        if not is_padding(view, pos, resume) or resume - pos >= _PAGE:
            self.holes.append(Hole(pos, resume))
        self._pos, self._group_end = (resume, stop) if resume < stop else (stop, 0)
        self.is_done = self._pos >= limit


def scan_segment(data: memoryview, segment: Segment, proven: int, limit: int) -> Scan:
    """Read a whole segment; see `Scanner`."""
    records: list[tuple[int, int, int]] = []
    with data[:] as view:
        scanner = Scanner(view, segment, proven, limit)
        while not scanner.is_done:
            records += scanner.step()
        return Scan(records, scanner.holes, scanner.end, scanner.number, scanner.dropped)


def _torn_octets(view: memoryview, segment: Segment, pos: int, group_end: int) -> int:
    """How much of a last group that was not written whole stands at `pos`.

    Between groups there is one only if a BATCH of this segment was begun: what else stands there is
    from an older life of the file.
    """
    if group_end:
        return 0 if is_padding(view, pos, group_end) else group_end - pos
    if segment.size_octets - pos < _PAGE:  # no group fits
        return 0
    claim = parse_record_head(view, pos)
    return _PAGE if claim == (segment.epoch, segment.base + pos) else 0


def describe_hole(data: memoryview, hole: Hole) -> str:
    """What the damaged region may have been, for the operator: the id it seems to hold."""
    id = bytes(data[hole.start + 32 : hole.start + 48])
    if len(id) == 16 and all(octet in _QUEUE_ID for octet in id):
        return f" (seems to be of message {id.decode()})"
    return ""


def quarantine(layout: Layout, segment: Segment, data: memoryview, hole: Hole, emit: Emit) -> None:
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


def extent(segments: Sequence[Segment], at: int, proof: int) -> tuple[int, int]:
    """Offsets of segment number `at`: below the first all must be there, from the second on nothing
    counts. `proof` is a position that the log surely reached."""
    segment = segments[at]
    if at == len(segments) - 1 or segments[at + 1].previous_end > segment.end:
        limit = segment.size_octets  # nothing says where it ended
        return min(max(proof - segment.base, 0), limit), limit
    limit = min(max(segments[at + 1].previous_end - segment.base, 0), segment.size_octets)
    return limit, limit


def scan_all(
    layout: Layout, segments: Sequence[Segment], checkpoint: int, proof: int, emit: Emit
) -> Iterator[tuple[Segment, memoryview, Scan]]:
    """Scan every segment that reaches beyond `checkpoint`; `proof` is where the log surely went."""
    for at, segment in enumerate(segments):
        if at and segments[at - 1].end < segment.previous_end and segment.base > checkpoint:
            text = f"the log between position {segments[at - 1].end} and {segment.base} is missing"
            emit(Notice("spool", text, Severity.ERROR))
        if segment.end <= checkpoint and at < len(segments) - 1:
            continue
        proven, limit = extent(segments, at, proof)
        with view_of(segment) as data:
            scan = scan_segment(data, segment, proven, limit)
            for hole in scan.holes:
                quarantine(layout, segment, data, hole, emit)
            yield segment, data, scan


@contextlib.contextmanager
def view_of(segment: Segment) -> Iterator[memoryview]:
    """The octets of a segment; what is missing at the end of its file reads as zeros."""
    size = segment.size_octets
    if os.fstat(segment.fd).st_size < size:
        yield memoryview(read_whole(segment.fd, size, 0).ljust(size, b"\0"))
        return
    with mmap.mmap(segment.fd, size, prot=mmap.PROT_READ) as data, memoryview(data) as view:
        yield view
