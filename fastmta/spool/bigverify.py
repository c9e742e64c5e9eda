"""Large contents against the records that refer to them.

A file that is missing, or not what its record says, is damage only while its message is live: the
file goes once the mark that made the message final is durable, and the record stays.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from concurrent.futures import Executor
from functools import partial
from typing import TypeAlias

from fastmta.message import RecipientState

from ._log import checksum
from ._scan import parse_fold, parse_id, parse_message, parse_reference, parse_state
from .codec import apply_states, decode_envelope, decode_states
from .layout import Layout, read_whole
from .recovery import scan_segment
from .segment import LogKind
from .stored import KIND_FOLD, KIND_MESSAGE, KIND_REFERENCE, KIND_STATE, KIND_TOMB
from .survey import is_same, opened, survey
from .verdict import Problem, Report, cannot_read

_PIECE_OCTETS = 256 * 1024
_OF_MESSAGES = (KIND_MESSAGE, KIND_REFERENCE, KIND_STATE, KIND_FOLD, KIND_TOMB)

Reference: TypeAlias = tuple[bytes, int, int, int, int]  # id, position, octets, checksum, boot


def verify_big(
    layout: Layout, references: Iterable[Reference], report: Report, pool: Executor
) -> None:
    """Read each file that a record refers to, and note what is wrong in `report`."""
    by_id = {reference[0]: reference for reference in references}  # a copy says the same
    wrong: dict[bytes, Problem] = {}
    for reference, (octets, problem) in zip(
        by_id.values(), pool.map(partial(_check, layout), by_id.values()), strict=True
    ):
        report.octets += octets
        report.big += octets > 0
        if problem is not None:
            wrong[reference[0]] = problem
    if not wrong:
        return
    pending = pending_of(layout, wrong)
    for id, problem in wrong.items():
        if pending.get(id):
            is_lost = problem.text.startswith("cannot be read")
            (report.unreadable if is_lost else report.damage).append(problem)


def _check(layout: Layout, reference: Reference) -> tuple[int, Problem | None]:
    """How many octets its file has, and what is wrong with it."""
    id, position, octets, wanted, boot = reference
    path = layout.big_path(boot, id)
    sum = count = 0
    text = "is missing"
    try:
        with opened(path) as fd:
            while piece := read_whole(fd, _PIECE_OCTETS, count):
                sum = checksum(piece, sum)
                count += len(piece)
        if (count, sum) == (octets, wanted):
            return count, None
        text = f"has {count} octets, not {octets}" if count != octets else "is damaged"
    except FileNotFoundError:
        pass
    except OSError as problem:
        return count, cannot_read(path, problem)
    return count, Problem(
        file=path,
        text=f"the content of a waiting message {text}",
        advice="whoever sent it has to send it again; delete the message, or let it expire",
        position=position,
        octets=octets,
        kind="REF",
        queue_id=id.decode("ascii", "replace"),
    )


def pending_of(layout: Layout, ids: Collection[bytes]) -> dict[bytes, int]:
    """How many recipients of each of these messages are not final, as the logs have it now.

    A message that is in no log is not in the answer.
    """
    folding = _Folding(ids)
    for kind in (LogKind.COLD, LogKind.HOT):
        for segment, proven, limit in survey(layout, kind).extents(0):
            try:
                with opened(segment.path) as fd:
                    size = segment.size_octets
                    data = memoryview(read_whole(fd, size, 0).ljust(size, b"\0"))
                    if not is_same(fd, segment):
                        continue  # it was trimmed: what was live of it is in the cold log
            except FileNotFoundError:
                continue
            with data:
                for record in scan_segment(data, segment, proven, limit).records:
                    folding.apply(segment.base + record[1], data, record)
    return {id: known.pending for id, known in folding.known.items()}


class _Known:
    """What the records so far say of a message."""

    def __init__(self, recipients: int) -> None:
        self.recipients = self.pending = recipients
        self.states: dict[int, RecipientState] = {}
        self.applied = 0  # the position in the hot log below which all is in

    def fold(self, octets: bytes) -> None:
        self.pending = apply_states(self.states, self.pending, decode_states(octets))


class _Folding:
    """A few messages, told by all records in order, the cold log first."""

    def __init__(self, ids: Collection[bytes]) -> None:
        self.known: dict[bytes, _Known] = {}
        self._ids = ids

    def apply(self, position: int, data: memoryview, record: tuple[int, int, int]) -> None:
        """One valid record."""
        kind, offset, length = record
        if kind not in _OF_MESSAGES or (id := parse_id(data, offset, length)) not in self._ids:
            return
        known = self.known.get(id)
        if kind in (KIND_MESSAGE, KIND_REFERENCE):
            parse = parse_message if kind == KIND_MESSAGE else parse_reference
            if known is None:
                envelope = decode_envelope(parse(data, offset, length)[2])
                self.known[id] = _Known(len(envelope.forward_paths))
        elif known is None:
            return
        elif kind == KIND_TOMB:
            known.pending = 0
        elif kind == KIND_FOLD:
            _, known.applied, states = parse_fold(data, offset, length)
            known.states.clear()
            known.pending = known.recipients
            known.fold(states)
        elif position >= known.applied:
            known.fold(parse_state(data, offset, length)[3])
