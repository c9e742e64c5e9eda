"""Replay: applying the log from the checkpoint on to the index, and opening a shard with it.

A record applies only above the position its message's row carries, so rows may have run ahead of
the checkpoint, and replaying twice changes nothing.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from typing import NamedTuple

import lmdb

from fastmta.event import Notice, Severity
from fastmta.message import Message

from ._scan import parse_message, parse_reference, parse_state, read_message
from .codec import apply_states, decode_states
from .index import FORMAT, Index, move_aside
from .layout import Layout
from .option import Durability, SpoolOptions
from .recovery import Emit, find_segments, scan_all
from .rows import Batch, Keys, RowMaker, tenant_key_of
from .segment import Segment, SegmentTable
from .stored import KIND_MESSAGE, KIND_REFERENCE, KIND_STATE, BigPath, message_of

_MESSAGES_MAX = 20_000  # held while replaying; more are written to the index in between


class Recovered(NamedTuple):
    """An open shard."""

    catalogue: Index
    segments: SegmentTable
    spares: list[Segment]
    file_number: int
    end: int  # of the log
    base: int  # of the next segment
    boot: int
    group_number: int
    live_count: int
    hops: list[tuple[bytes, int]]


class Replay:
    """Messages touched by the part of the log that is being replayed."""

    def __init__(
        self,
        index: Index,
        segments: SegmentTable,
        maker: RowMaker,
        checkpoint: int,
        big_path: BigPath,
    ) -> None:
        self._big_path = big_path
        self._index = index
        self._segments = segments
        self._maker = maker
        self._checkpoint = checkpoint
        self._messages: dict[bytes, Message] = {}
        self._applied: dict[bytes, int] = {}
        self._old: dict[bytes, Keys] = {}
        self._is_empty = index.count() == 0

    def apply(self, segment: Segment, data: memoryview, records: list[tuple[int, int, int]]) -> int:
        """Apply the records of a segment; the position behind the last one."""
        position = segment.base
        for kind, offset, length in records:
            position = segment.base + offset
            if position < self._checkpoint:
                continue
            if kind == KIND_MESSAGE:
                id, arrived_at_ns, envelope, size_octets = parse_message(data, offset, length)
                if self._get(id) is None:
                    message = message_of(
                        (id, arrived_at_ns, envelope, b""), position, self._big_path
                    )
                    message.content = None
                    message.size_octets = size_octets
                    self._messages[id] = message
            elif kind == KIND_REFERENCE:
                id, arrived_at_ns, envelope, *file = parse_reference(data, offset, length)
                if self._get(id) is None:
                    record = (id, arrived_at_ns, envelope, (file[0], file[1], file[2]))
                    self._messages[id] = message_of(record, position, self._big_path)
            elif kind == KIND_STATE:
                id, _, _, states = parse_state(data, offset, length)
                known = self._get(id)
                if known is not None and position >= self._applied.get(id, 0):
                    changes = decode_states(states)
                    known.pending = apply_states(known.states, known.pending, changes)
        return position

    @property
    def is_large(self) -> bool:
        """Whether it is time to write to the index."""
        return len(self._messages) >= _MESSAGES_MAX

    def take(self, applied: int, checkpoint: int) -> Batch:
        """The changes of the index so far; every record below `applied` has been replayed."""
        batch = Batch(checkpoint)
        for id, message in self._messages.items():
            old = self._old.get(id)
            if message.pending:
                batch.put(self._maker.make(message, applied), old)
            elif old is not None:
                batch.delete(id, old)
        self._is_empty = self._is_empty and not self._messages
        self._messages.clear()
        self._applied.clear()
        self._old.clear()
        return batch

    def _get(self, id: bytes) -> Message | None:
        """The message as known so far, from here or from the index."""
        message = self._messages.get(id)
        if message is not None or self._is_empty:
            return message
        found = self._index.find([id])
        if not found:
            return None
        row = found[0].row
        segment = self._segments.find(row.position)
        if segment is None:
            return None
        record = read_message(
            segment.fd, segment.base, segment.size_octets, segment.epoch, row.position
        )
        if record is None:
            return None  # damaged: whoever fetches it will say so
        message = message_of(record, row.position, self._big_path)
        message.content = None
        message.states = found[0].states
        message.pending = row.pending
        self._messages[id] = message
        self._applied[id] = row.applied
        self._old[id] = found[0].keys(tenant_key_of(message.envelope, id))
        return message


def _routing_number(options: SpoolOptions) -> int:
    return int.from_bytes(hashlib.sha256(options.routing_token).digest()[:8], "big")


def open_index(layout: Layout, options: SpoolOptions, emit: Emit) -> tuple[Index, dict[str, int]]:
    """The index and its `meta`; a new one when it is missing, bad, or made for other routing."""
    try:
        index = Index(layout.index)
        try:
            meta = index.read_meta()
            index.count()
        except BaseException:
            index.close()
            raise
    except (lmdb.Error, ValueError) as problem:
        target = move_aside(layout.index)
        text = f"the index cannot be used ({problem}); it is now {target} and will be rebuilt"
        emit(Notice("spool", text, Severity.WARNING))
        return Index(layout.index), {}
    wanted = {"format": FORMAT, "routing": _routing_number(options)}
    if meta and any(meta.get(name) != value for name, value in wanted.items()):
        index.close()
        shutil.rmtree(layout.index)
        emit(Notice("spool", "the index was made for other routing; it will be rebuilt"))
        return Index(layout.index), {}
    return index, meta


def recover(layout: Layout, options: SpoolOptions, maker: RowMaker, emit: Emit) -> Recovered:
    """Bring a shard to its exact state. Idempotent; raises OSError, lmdb.Error or SpoolError."""
    index, meta = open_index(layout, options, emit)
    try:
        return _recover(layout, options, Replaying(index, meta, maker, emit))
    except BaseException:
        index.close()
        raise


class Replaying(NamedTuple):
    """What recovery works with."""

    catalogue: Index
    meta: dict[str, int]
    maker: RowMaker
    emit: Emit


def _recover(layout: Layout, options: SpoolOptions, with_: Replaying) -> Recovered:
    index, meta, maker, emit = with_
    checkpoint = meta.get("checkpoint", 0)
    was_durable = meta.get("durable", 1)
    proof = checkpoint if was_durable else 0
    found = find_segments(layout, checkpoint, emit)
    table = SegmentTable()
    for segment in found.segments:
        table.append(segment)
    replay = Replay(index, table, maker, checkpoint, layout.big_path)
    end, number = checkpoint, 0
    scanned: list[Segment] = [] if was_durable else list(table)
    for segment, data, scan in scan_all(layout, found.segments, checkpoint, proof, emit):
        replay.apply(segment, data, scan.records)
        end, number = max(end, segment.base + scan.end), max(number, scan.number)
        scanned.append(segment)
        if scan.dropped:
            text = f"the log ends at position {segment.base + scan.end} with a torn group"
            emit(Notice("spool", f"{text}, of which nobody was told; dropped"))
        if replay.is_large:
            _sync(scanned)
            index.commit(replay.take(segment.base + scan.end, checkpoint))
    _sync(scanned)
    boot = layout.begin_boot(max((segment.boot for segment in table), default=0))
    index.commit(
        replay.take(end, end),
        format=FORMAT,
        routing=_routing_number(options),
        durable=int(options.durability is Durability.FULL),
    )
    live_count = _count_live(index, table, emit)
    base = max(table.last.end if table.last else 0, -(-end // 4096) * 4096)
    return Recovered(
        index, table, found.spares, found.number, end, base, boot, number, live_count, index.hops()
    )


def _sync(segments: list[Segment]) -> None:
    """What was scanned may have been written but not flushed by the process that died."""
    for segment in segments:
        os.fdatasync(segment.fd)
    segments.clear()


def _count_live(index: Index, table: SegmentTable, emit: Emit) -> int:
    count = astray = 0
    for _, row in index.messages():
        count += 1
        segment = table.find(row.position)
        if segment is None:
            astray += 1
        else:
            segment.live += 1
    if astray:
        text = f"{astray} messages of the index are in no segment of the log"
        emit(Notice("spool", text, Severity.ERROR))
    return count
