"""At a start: which messages may be delivered twice, or be sent twice, because of the last end.

    why               what is known
    attempt           an attempt was under way: its peer may have the message
    refused           its record was written though its client was told 451: it may come again
    not told          it stands in the last group, perhaps nobody was told before the end
    power             the machine stopped: what was recorded in the last WINDOW_S may be older
                      than what happened

All but the live ones drop out. What remains is in doubt: it is listed, and the policy
`spool.in_doubt` says whether it is delivered (perhaps once more) or held.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator

from fastmta.event import Event, Notice, Severity

from ._scan import parse_batch, parse_id, parse_message, parse_reference, parse_state
from .doubt import REFUSED, Left
from .layout import Layout, read_whole, write_file
from .recovery import Scan, scan_segment
from .segment import LogKind, Segment
from .stored import KIND_BATCH, KIND_MESSAGE, KIND_REFERENCE, KIND_STATE
from .survey import opened, read_index_meta, survey

WINDOW_S = 30.0
NOTICES_MAX = 1_000  # lines in the log; the file has all
FILES_KEPT = 10

_ATTEMPT = "an attempt was under way when the last process ended; its peer may have the message"
_REFUSED = "its record was written, but its client was told to send it again"
_UNTOLD = "it was stored right before the last process ended; its client may send it again"
_POWER = (
    "possibly: the machine stopped within 30 s of its last record, perhaps before an outcome of it"
    " was on the disk"
)

Candidates = dict[bytes, str]  # why, by id


def candidates(layout: Layout, left: Left) -> Candidates:
    """Ids that may be in doubt, before the index of the shard is opened.

    Reads the end of the hot log when the last end was not clean.
    """
    found: Candidates = {}
    if not left.was_clean:
        if left.was_rebooted:
            found.update((id, _POWER) for id in _recent(layout))
        # What the index has was durable, and its clients told, some time before.
        checkpoint = (read_index_meta(layout) or {}).get("checkpoint", 0)
        found.update((id, _UNTOLD) for id in _last_group(layout, checkpoint))
    for id, kind in left.ids.items():
        found[id] = _REFUSED if kind == REFUSED else _ATTEMPT
    return found


def tell(layout: Layout, boot: int, doubtful: Candidates, emit: Callable[[Event], None]) -> str:
    """List them in the log, and durably in a file of their own; its path. Raises OSError."""
    path = f"{_prefix(layout)}{boot}.txt"
    lines = (f"{id.decode('ascii', 'replace')} {why}\n" for id, why in sorted(doubtful.items()))
    for id, reason in list(doubtful.items())[:NOTICES_MAX]:
        emit(Notice("spool", f"in doubt: {reason}", Severity.WARNING, id))
    write_file(path, "".join(lines).encode())
    _prune(layout)
    text = f"{len(doubtful)} messages are in doubt since the last end; all of them are in {path}"
    emit(Notice("spool", text, Severity.WARNING))
    return path


def _prefix(layout: Layout) -> str:
    return os.path.join(layout.shard, "in-doubt-")


def _prune(layout: Layout) -> None:
    """Keep the newest lists."""
    prefix = os.path.basename(_prefix(layout))
    boots = [
        int(boot)
        for name in os.listdir(layout.shard)
        if name.startswith(prefix)
        and (boot := name.removeprefix(prefix).removesuffix(".txt")).isdigit()
    ]
    for number in sorted(boots)[:-FILES_KEPT]:
        os.unlink(f"{_prefix(layout)}{number}.txt")


def _scans(layout: Layout) -> Iterator[tuple[Segment, memoryview, Scan]]:
    """The segments of the hot log, the newest first."""
    for segment, proven, limit in reversed(survey(layout, LogKind.HOT).extents(0)):
        with opened(segment.path) as fd:
            size = segment.size_octets
            data = memoryview(read_whole(fd, size, 0).ljust(size, b"\0"))
        with data:
            yield segment, data, scan_segment(data, segment, proven, limit)


def _last_group(layout: Layout, checkpoint: int) -> Iterable[bytes]:
    """Messages beyond the checkpoint and the last position that a BATCH calls durable."""
    durable: int | None = None
    ids: dict[bytes, None] = {}
    for segment, data, scan in _scans(layout):
        batches = [offset for kind, offset, _ in scan.records if kind == KIND_BATCH]
        if durable is None and batches:
            _, durable, _, _ = parse_batch(data, batches[-1])
            # 0: nothing is ever called durable (durability "os"); then it is the last group alone.
            durable = max(durable or segment.base + batches[-1], checkpoint)
        for kind, offset, length in scan.records:
            is_message = kind in (KIND_MESSAGE, KIND_REFERENCE)
            if is_message and durable is not None and segment.base + offset >= durable:
                ids[parse_id(data, offset, length)] = None
        if durable is not None and segment.base <= durable:
            break
    return ids


def _recent(layout: Layout) -> Iterable[bytes]:
    """Messages with a record of the last WINDOW_S of the hot log."""
    newest_ns = 0
    ids: dict[bytes, None] = {}
    for _, data, scan in _scans(layout):
        timed = [(_time_of(data, *record), record) for record in scan.records]
        latest_ns = max((time_ns for time_ns, _ in timed), default=0)
        newest_ns = max(newest_ns, latest_ns)
        since_ns = newest_ns - int(WINDOW_S * 1e9)
        for time_ns, (_, offset, length) in timed:
            if time_ns and time_ns >= since_ns:
                ids[parse_id(data, offset, length)] = None
        if latest_ns and latest_ns < since_ns:
            break
    return ids


def _time_of(data: memoryview, kind: int, offset: int, length: int) -> int:
    """When a record was made (ns); 0 when it does not say."""
    if kind == KIND_STATE:
        return parse_state(data, offset, length)[2]
    if kind == KIND_MESSAGE:
        return parse_message(data, offset, length)[1]
    return parse_reference(data, offset, length)[1] if kind == KIND_REFERENCE else 0
