"""The index made anew from the logs, or held against them, while nobody has the shard."""

from __future__ import annotations

import copy
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator

import lmdb
import msgspec

from fastmta.event import Event

from ._row import unpack_message
from ._scan import read_message
from .index import Index, MessageRow
from .layout import Layout, remove_tree, sync_directory
from .opening import Opening, identity
from .option import SpoolOptions
from .rebuild import RECORDS_AT_ONCE, Rebuild
from .recovery import Found, extent, find_segments, scan_segment, view_of
from .replay import Replay
from .rows import RowMaker, decode_recipient
from .segment import COLD_BASE, LogKind, Logs, Segment
from .survey import only_reader, proof_of, read_index_meta, survey
from .verdict import Problem, Report

_PROGRESS_RECORDS = 1_000_000
_DIFFERENCES_MAX = 1_000
_TABLES = (b"message", b"recipient", b"hop", b"expiry", b"tenant", b"waiting")
_BY_ID_FIRST = (b"message", b"recipient")  # their keys begin with an id; those of others end so
_ID_OCTETS = 16

Emit = Callable[[Event], None]
Tell = Callable[[str], None]


def rebuild_index(
    layout: Layout, options: SpoolOptions, maker: RowMaker, emit: Emit, tell: Tell
) -> int:
    """Build the index beside the old one, then put it in its place; how many messages it has.

    Whatever happens before that the old one stays as it is. Between taking the old one away and
    putting the new one there is a moment without any, which a start treats like a rebuild.
    Raises SpoolError, OSError, lmdb.Error.
    """
    layout.prepare()
    new, old = f"{layout.index}.making", f"{layout.index}.replaced"
    logs = Logs()
    try:
        for left in (new, old):  # of a rebuilding that was killed
            remove_tree(left)
        meta = read_index_meta(layout)
        for kind, table in ((LogKind.HOT, logs.hot), (LogKind.COLD, logs.cold)):
            for segment in find_segments(layout, kind, proof_of(meta, kind)[0], emit).segments:
                os.fdatasync(segment.fd)  # the index is never ahead of what is durable
                table.append(segment)
        count = _build(new, layout, logs, (options, maker), meta, emit, tell)
        sync_directory(new)
        if os.path.lexists(layout.index):
            os.rename(layout.index, old)
        os.rename(new, layout.index)
        sync_directory(layout.shard)
        remove_tree(old)
        return count
    finally:
        for segment in logs.all():
            segment.close()
        layout.release()


def check_index(layout: Layout, options: SpoolOptions, maker: RowMaker, report: Report) -> None:
    """Hold every row of the index against what the logs say; differences go into `report`.

    Works on copies in a temporary directory. Raises OSError, lmdb.Error.
    """
    with only_reader(layout) as is_free, tempfile.TemporaryDirectory(prefix="fastmta-") as place:
        meta = read_index_meta(layout) if is_free else None
        if meta is None or any(
            meta.get(name) != identity(options)[name] for name in ("format", "routing")
        ):
            why = "it cannot be used: the next start makes it anew" if is_free else "it is in use"
            report.remarks.append(f"the index was not compared: {why}")
            return
        there = copy.copy(layout)
        there.quarantine = os.path.join(place, "quarantine")
        there.index = os.path.join(place, "index")
        os.mkdir(there.quarantine)
        os.mkdir(there.index)
        shutil.copyfile(
            os.path.join(layout.index, "data.mdb"), os.path.join(there.index, "data.mdb")
        )
        logs = Logs()
        try:
            _open_logs(layout, logs)
            made = os.path.join(place, "made")
            _build(made, there, logs, (options, maker), meta, _nothing, _nothing)
            index = Index(there.index, logs, **identity(options))
            try:
                Opening(there, options, maker, _nothing, index, logs).replay(
                    meta, Found(list(logs.hot), [], 0), Found(list(logs.cold), [], 0)
                )
                report.indexed = index.count()
            finally:
                index.close()
            _note_differences(layout, logs, (there.index, made), report)
        finally:
            for segment in logs.all():
                segment.close()


def _nothing(_: object) -> None:
    """Whoever verifies has told it already."""


def _open_logs(layout: Layout, logs: Logs) -> None:
    for kind, table in ((LogKind.HOT, logs.hot), (LogKind.COLD, logs.cold)):
        for segment in survey(layout, kind).segments:
            segment.fd = os.open(segment.path, os.O_RDONLY | os.O_CLOEXEC)
            table.append(segment)


def _build(
    path: str,
    layout: Layout,
    logs: Logs,
    rows: tuple[SpoolOptions, RowMaker],
    meta: dict[str, int] | None,
    emit: Emit,
    tell: Tell,
) -> int:
    """An index at `path` with everything that the logs have; how many messages."""
    options, maker = rows
    hot_end = _end_of(list(logs.hot), *proof_of(meta, LogKind.HOT))
    cold_end = max(_end_of(list(logs.cold), *proof_of(meta, LogKind.COLD)), COLD_BASE)
    index = Index(path, logs, **identity(options))
    done = 0

    def is_stopping() -> bool:
        nonlocal done
        done += RECORDS_AT_ONCE
        if done % _PROGRESS_RECORDS < RECORDS_AT_ONCE:
            tell(f"shard {layout.number}: about {done} records")
        return False

    try:
        work = Rebuild(layout, logs, maker, emit, hot_end, cold_end, is_patient=False)
        result = work.run(index, is_stopping)
        batch = Replay(index, logs, maker, layout.big_path).take(hot_end, hot_end)
        batch.cold_end = cold_end
        index.commit(batch)
        return result.messages
    finally:
        index.close()


def _end_of(segments: list[Segment], least: int, proof: int) -> int:
    if not segments:
        return least
    last = segments[-1]
    with view_of(last) as data:
        scan = scan_segment(data, last, *extent(segments, len(segments) - 1, proof))
    return max(last.base + scan.end, least)


def _note_differences(layout: Layout, logs: Logs, paths: tuple[str, str], report: Report) -> None:
    advice = "rebuild it: fastmta spool rebuild-index, while the server is stopped"
    seen: set[bytes] = set()
    for table, key, text in _differences(logs, paths):
        id = key[:_ID_OCTETS] if table in _BY_ID_FIRST else key[-_ID_OCTETS:]
        if id in seen:
            continue
        seen.add(id)
        if len(seen) > _DIFFERENCES_MAX:
            report.remarks.append("there are more differences between the index and the logs")
            return
        report.damage.append(
            Problem(
                file=layout.index,
                text=f"a row of table {table.decode()} {text}",
                advice=advice,
                queue_id=id.decode("ascii", "replace") if table != b"waiting" else "",
            )
        )


def _differences(logs: Logs, paths: tuple[str, str]) -> Iterator[tuple[bytes, bytes, str]]:
    """Table, key and what is wrong with the row, of each row that is not as the logs say."""
    with (
        lmdb.open(paths[0], readonly=True, lock=False, create=False, max_dbs=16) as there,
        lmdb.open(paths[1], readonly=True, lock=False, create=False, max_dbs=16) as made,
        there.begin() as has,
        made.begin() as should,
    ):
        for table in _TABLES:
            one = has.cursor(there.open_db(table, has, create=False))
            two = should.cursor(made.open_db(table, should, create=False))
            more_one, more_two = one.first(), two.first()
            while more_one or more_two:
                key_one, key_two = bytes(one.key()), bytes(two.key())
                if more_one and (not more_two or key_one < key_two):
                    yield table, key_one, "is of nothing that the logs have"
                    more_one = one.next()
                elif more_two and (not more_one or key_two < key_one):
                    yield table, key_two, "is missing"
                    more_two = two.next()
                else:
                    values = bytes(one.value()), bytes(two.value())
                    if values[0] != values[1] and not (
                        (table == b"message" and _is_alike(logs, key_one, *values))
                        or (table == b"recipient" and _says_the_same(*values))
                    ):
                        yield table, key_one, "is not what the logs say"
                    more_one, more_two = one.next(), two.next()


def _says_the_same(one: bytes, two: bytes) -> bool:
    """Whether two recipient rows do; the release before wrote fewer fields of a state."""
    try:
        return decode_recipient(one) == decode_recipient(two)
    except msgspec.MsgspecError:
        return False


def _is_alike(logs: Logs, id: bytes, one: bytes, two: bytes) -> bool:
    """Whether two message rows say the same.

    How far they were applied depends on history; and a copy that was never put to use is the place
    for whoever reads only the logs.
    """
    has, should = MessageRow(*unpack_message(one)), MessageRow(*unpack_message(two))
    if has._replace(applied=0, position=0) != should._replace(applied=0, position=0):
        return False
    segment = logs.find(has.position)
    if segment is None:
        return False
    if has.position == should.position:
        return True
    record = read_message(
        segment.fd, segment.base, segment.size_octets, segment.epoch, has.position
    )
    return record is not None and record[0] == id
