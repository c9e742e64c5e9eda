"""Verify: every record of a shard read and held against its checksum. Changes nothing.

The way of a sound segment is one pass in compiled code (ext/spool/verify.pyx), in two threads. Only
where that stops early a segment is read again and judged as recovery would judge it: by proof. Of a
shard in use a hole counts only if a second reading finds the same one in the same life of the file:
what was read before it was written, between what was written later, is no hole.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from ._scan import parse_fold, parse_id, parse_message, parse_reference, parse_state
from ._verify import Walker
from .bigverify import Reference, verify_big
from .layout import Layout, read_whole
from .recovery import Scan, _salvage_header, scan_segment
from .segment import LogKind, Segment
from .stored import KIND_FOLD, KIND_MESSAGE, KIND_REFERENCE, KIND_STATE, KIND_TOMB
from .survey import (
    Survey,
    is_same,
    only_reader,
    opened,
    proof_of,
    read_index_meta,
    survey,
)
from .verdict import KIND_NAMES, Problem, Report, cannot_read, damage_at

THREADS = 2
_READINGS_MAX = 5  # of a segment that is being written, until two agree
_BETWEEN_S = 0.05

_PARSE: dict[int, Callable[[memoryview, int, int], object]] = {
    KIND_MESSAGE: parse_message,
    KIND_REFERENCE: parse_reference,
    KIND_STATE: parse_state,
    KIND_FOLD: parse_fold,
    KIND_TOMB: parse_id,
}


class Checked(NamedTuple):
    """One segment."""

    octets: int
    counts: list[int]  # of valid records, by kind
    references: list[Reference]
    damage: list[Problem]
    unreadable: list[Problem]
    remark: str


def verify_shard(layout: Layout) -> Report:
    """Read all of a shard. Raises OSError when not even its directories can be listed."""
    began_s = time.monotonic()
    report = Report(shard=layout.number)
    with only_reader(layout) as is_free:
        meta = read_index_meta(layout) if is_free else None
    report.is_in_use = not is_free
    references: list[Reference] = []
    with ThreadPoolExecutor(THREADS) as pool:
        for kind in (LogKind.HOT, LogKind.COLD):
            checkpoint, proof = proof_of(meta, kind)
            found = survey(layout, kind)
            check = _SegmentCheck(_adopt_headless(found, checkpoint, report))
            _note_gaps(found, checkpoint, report)
            for checked in pool.map(check, found.extents(proof)):
                _add(report, checked)
                references.extend(checked.references)
        verify_big(layout, references, report, pool)
    report.seconds = time.monotonic() - began_s
    return report


def _add(report: Report, checked: Checked) -> None:
    report.segments += 1
    report.octets += checked.octets
    for kind, count in enumerate(checked.counts):
        if count:
            name = KIND_NAMES[kind]
            report.records[name] = report.records.get(name, 0) + count
    report.damage += checked.damage
    report.unreadable += checked.unreadable
    if checked.remark:
        report.remarks.append(checked.remark)


def _adopt_headless(found: Survey, checkpoint: int, report: Report) -> set[str]:
    """Segments without a header that belong to the log all the same, as recovery finds them."""
    adopted: set[str] = set()
    for paths, is_spare in ((found.suspects, False), (found.spares, True)):
        for path in list(paths):
            segment = Segment(path, -1, 0)
            try:
                with opened(path) as segment.fd:
                    segment.size_octets = os.fstat(segment.fd).st_size
                    is_part = _salvage_header(segment, found.segments, checkpoint, is_spare)
                    is_part = is_part and _is_lost(found, segment)
            except FileNotFoundError:
                continue
            if is_part:
                segment.fd = -1
                paths.remove(path)
                adopted.add(path)
                found.segments.append(segment)
                found.segments.sort(key=lambda each: each.base)
                text = "the header is lost; the first group tells the segment's place"
                advice = "none needed: the next start finds its place the same way"
                report.damage.append(Problem(file=path, text=text, advice=advice, offset=0))
    for path in found.suspects:
        text = f"{path} has a damaged header and no place in the log; the next start moves it"
        report.remarks.append(f"{text} to quarantine/")
    return adopted


def _is_lost(found: Survey, segment: Segment) -> bool:
    """Whether the log has a gap where this segment without a header belongs: it was not begun, nor
    given back, while the others were listed."""
    before = next((each for each in reversed(found.segments) if each.base < segment.base), None)
    after = next((each for each in found.segments if each.base > segment.base), None)
    if is_same(segment.fd, segment):
        return False
    return before is None or after is None or found.is_gap(before, after)


def _note_gaps(found: Survey, checkpoint: int, report: Report) -> None:
    for one, two in found.gaps(checkpoint):
        text = f"the log between position {one.end} and {two.base} is missing"
        advice = "look for the segment's file; without it the mail in it is lost"
        directory = os.path.dirname(found.segments[0].path)
        problem = Problem(file=directory, text=text, advice=advice, position=one.end)
        report.damage.append(problem)


class _SegmentCheck:
    """Checks segments, in any thread; one window per thread."""

    def __init__(self, headless: set[str]) -> None:
        """`headless`: segments of which no header can say whether they are still the same."""
        self._own = threading.local()
        self._headless = headless

    def __call__(self, extent: tuple[Segment, int, int]) -> Checked:
        segment, proven, limit = extent
        try:
            with opened(segment.path) as fd:
                is_headless = segment.path in self._headless
                if is_headless or is_same(fd, segment):
                    checked = self._check(fd, segment, proven, limit)
                    if is_headless or is_same(fd, segment):
                        return checked
        except FileNotFoundError:
            pass
        except OSError as problem:
            return Checked(0, [], [], [], [cannot_read(segment.path, problem)], "")
        text = f"{segment.path} was taken into use again while it was read: skipped"
        return Checked(0, [], [], [], [], text)

    def _check(self, fd: int, segment: Segment, proven: int, limit: int) -> Checked:
        walker: Walker | None = getattr(self._own, "walker", None)
        if walker is None:
            walker = self._own.walker = Walker()
        size = segment.size_octets
        stop, _, counts = walker.walk(fd, segment.base, segment.epoch, size, limit)
        if stop >= limit:
            return Checked(limit, counts, walker.references(), [], [], "")
        data, scan = read_and_judge(fd, segment, proven, limit)
        with data:
            damage = [damage_at(segment, data, hole) for hole in scan.holes]
            return _judged(segment, data, scan, damage)


def _judged(segment: Segment, data: memoryview, scan: Scan, damage: list[Problem]) -> Checked:
    counts = [0] * len(KIND_NAMES)
    references: list[Reference] = []
    for kind, offset, length in scan.records:
        counts[kind if kind < len(KIND_NAMES) else 0] += 1
        try:
            parse = _PARSE.get(kind)
            if parse is not None:
                parse(data, offset, length)
            if kind == KIND_REFERENCE:
                id, _, _, octets, checksum, boot = parse_reference(data, offset, length)
                references.append((id, segment.base + offset, octets, checksum, boot))
        except ValueError as problem:
            text = f"a record with a right checksum that is wrong in itself: {problem}"
            advice = "this is a defect of ours: report it, with a copy of the segment"
            damage.append(
                Problem(
                    file=segment.path,
                    text=text,
                    advice=advice,
                    offset=offset,
                    position=segment.base + offset,
                    octets=length,
                    kind=KIND_NAMES[kind],
                )
            )
    remark = ""
    if scan.dropped:
        remark = f"the log ends at position {segment.base + scan.end} with a torn group"
        remark += ", of which nobody was told"
    return Checked(scan.end, counts, references, damage, [], remark)


def read_and_judge(fd: int, segment: Segment, proven: int, limit: int) -> tuple[memoryview, Scan]:
    """Read a segment and judge it, until two readings in a row see the same holes (or one none)."""
    before: Scan | None = None
    for _ in range(_READINGS_MAX):
        size = segment.size_octets
        data = memoryview(read_whole(fd, size, 0).ljust(size, b"\0"))
        scan = scan_segment(data, segment, proven, limit)
        if not scan.holes or (before is not None and before.holes == scan.holes):
            break
        before = scan
        time.sleep(_BETWEEN_S)
    return data, scan
