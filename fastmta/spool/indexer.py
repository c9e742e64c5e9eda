"""The index thread: commits batches and reads messages back, in the order it is asked to.

One thread does both, one job after the other. So what a fetch sees is what was submitted before it,
and when a commit that forgot a segment's last message is reported, nobody reads that segment.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol, TypeAlias

import lmdb
import msgspec

from fastmta.message import Envelope, Message

from ._scan import read_message
from .codec import decode_envelope
from .index import Index, IndexedMessage, MessageRow
from .layout import read_whole, write_file
from .rows import Batch, Keys, tenant_key_of
from .segment import SegmentTable
from .stored import BigPath, Record, message_of

_ENVELOPE_OCTETS_KEPT = 4096  # copied with the content of a damaged record


class Found(NamedTuple):
    """One message that a query found."""

    id: bytes
    position: int
    keys: Keys
    message: Message | None  # None: it is in memory already, or (is_damaged) cannot be read
    is_damaged: bool = False


class Query(NamedTuple):
    """What to look for: mail due for a next hop, or (next_hop None) mail past its lifetime, or the
    messages `ids`."""

    next_hop: bytes | None
    now_ns: int
    after: bytes
    limit: int
    ids: tuple[bytes, ...] | None = None
    with_content: bool = True


class Question(Protocol):
    """Something else to find out. Each method is called once, in this order."""

    needs_commit: bool  # of all rows that are to be written, before it begins

    def begin(self) -> None:
        """On the loop: what the ledger calls fresh (without `needs_commit`: unwritten) is not in
        the index when it looks, everything else is."""

    def look(self, indexer: Indexer) -> None:
        """On the index thread; short. Not called when the index has failed."""

    def answer(self) -> None:
        """On the loop."""


class Lookup(NamedTuple):
    """Which of these messages are live, as far as the index knows."""

    ids: Sequence[bytes]
    done: Callable[[set[bytes]], None]


Committed: TypeAlias = Callable[[Batch], None]
Answer: TypeAlias = Callable[[list[Message], int | None], None]
Answered: TypeAlias = Callable[[Query | Question, list[Found], int | None, Answer], None]
Broken: TypeAlias = Callable[[Exception], None]


class Indexer:
    """Owns the index while the shard is open."""

    def __init__(
        self,
        index: Index,
        segments: SegmentTable,
        in_memory: dict[bytes, Message],
        quarantine: str,
        big_path: BigPath,
    ) -> None:
        self._big_path = big_path
        self._quarantine = quarantine
        self._index = index
        self._segments = segments
        self._in_memory = in_memory
        self._jobs: queue.SimpleQueue[Batch | Lookup | tuple[Query | Question, Answer] | None] = (
            queue.SimpleQueue()
        )
        self._thread = threading.Thread(target=self._run, name="spool-index", daemon=True)
        self._is_broken = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._callbacks: tuple[Committed, Answered, Broken] | None = None

    def attach(
        self,
        loop: asyncio.AbstractEventLoop,
        on_commit: Committed,
        on_answer: Answered,
        on_broken: Broken,
    ) -> None:
        """Start the thread; call back on `loop`."""
        self._loop = loop
        self._callbacks = (on_commit, on_answer, on_broken)
        self._thread.start()

    def commit(self, batch: Batch) -> None:
        """Commit `batch`, then report it."""
        self._jobs.put(batch)

    def ask(self, query: Query | Question, done: Answer) -> None:
        """Answer `query`; `done` comes back with the answer."""
        self._jobs.put((query, done))

    def look(self, lookup: Lookup) -> None:
        """Answer which messages have rows; with an index that failed, that all of them may."""
        self._jobs.put(lookup)

    def close(self) -> None:
        """Do what was asked, then end and close the index."""
        self._jobs.put(None)
        if self._thread.is_alive():
            self._thread.join()
        self._index.close()

    def _run(self) -> None:
        assert self._callbacks is not None
        on_commit, on_answer, on_broken = self._callbacks
        while (job := self._jobs.get()) is not None:
            if isinstance(job, Lookup):
                self._tell(job.done, self._look(job.ids))
                continue
            found: list[Found] = []
            later: int | None = None
            try:
                if self._is_broken:
                    pass  # what is asked now gets an empty answer; nothing is committed any more
                elif isinstance(job, Batch):
                    self._index.commit(job)
                    self._tell(on_commit, job)
                else:
                    found, later = self._answer(job[0])
            except (lmdb.Error, msgspec.DecodeError, ValueError, OSError) as problem:
                self._is_broken = True
                self._index.condemn()
                self._tell(on_broken, problem)
            if not isinstance(job, Batch):
                self._tell(on_answer, job[0], found, later, job[1])

    def _tell(self, function: Callable[..., None], *values: object) -> None:
        assert self._loop is not None
        self._loop.call_soon_threadsafe(function, *values)

    def _look(self, ids: Sequence[bytes]) -> set[bytes]:
        try:
            found = [] if self._is_broken else self._index.find(list(ids))
            return set(ids) if self._is_broken else {indexed.id for indexed in found}
        except lmdb.Error:
            return set(ids)  # whoever needs the index next will say so

    def _answer(self, query: Query | Question) -> tuple[list[Found], int | None]:
        later: int | None = None
        if not isinstance(query, Query):
            query.look(self)
            return [], None
        if query.ids is not None:
            ids = list(query.ids)
        elif query.next_hop is None:
            ids = self._index.expired(query.now_ns, query.limit)
        else:
            ids, later = self._index.due(query.next_hop, query.now_ns, query.after, query.limit)
        with_content = query.with_content
        return [self._load(indexed, with_content) for indexed in self._index.find(ids)], later

    def _load(self, indexed: IndexedMessage, with_content: bool = True) -> Found:
        id, row = indexed.id, indexed.row
        held = self._in_memory.get(id)
        if held is not None and held.has_content:
            return Found(id, row.position, indexed.keys(tenant_key_of(held.envelope, id)), None)
        record = self._read(id, row)
        if record is None:
            keys = indexed.keys(self._index.find_tenant_key(id))
            return Found(id, row.position, keys, None, is_damaged=True)
        message = message_of(record, row.position, self._big_path)
        if not with_content:
            message.content = None
        message.states = indexed.states
        message.pending = row.pending
        return Found(id, row.position, indexed.keys(tenant_key_of(message.envelope, id)), message)

    @property
    def index(self) -> Index:
        """The index; for questions."""
        return self._index

    def envelope(self, id: bytes, row: MessageRow) -> Envelope | None:
        """The envelope of a message of the index; None when its record is damaged."""
        held = self._in_memory.get(id)
        if held is not None:
            return held.envelope
        record = self._read(id, row)
        return None if record is None else decode_envelope(record[2])

    def _read(self, id: bytes, row: MessageRow) -> Record | None:
        """The MSG record of a row; None, with a copy kept, when it is damaged."""
        segment = self._segments.find(row.position)
        if segment is None:
            return None
        segment.pins += 1
        try:
            record = read_message(
                segment.fd, segment.base, segment.size_octets, segment.epoch, row.position
            )
            if record is None or record[0] != id:
                octets = row.size_octets + _ENVELOPE_OCTETS_KEPT
                copy = read_whole(segment.fd, octets, row.position - segment.base)
                write_file(f"{self._quarantine}/{row.position:016x}-{len(copy)}", copy)
                return None
        except OSError:
            return None  # the device cannot read it: as bad as rot, and reported as such
        finally:
            segment.pins -= 1
        return record
