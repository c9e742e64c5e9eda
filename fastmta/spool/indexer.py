"""The index thread: commits batches, reads messages back, trims and rebuilds, in the order it is
asked to.

One thread does it all, one job after the other. So what a fetch sees is what was submitted before
it, and when a commit that forgot a segment's last message is reported, nobody reads that segment.
"""

from __future__ import annotations

import asyncio
import os
import queue
import shutil
import threading
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol, TypeAlias

import lmdb

from fastmta.message import Envelope, Message

from ._scan import read_message
from .codec import decode_envelope
from .cold import ColdLog, NoSpare
from .index import Index, IndexedMessage, MessageRow, move_aside
from .layout import Layout, read_whole, write_file
from .problem import SpoolError
from .rebuild import Rebuild, Rebuilt, Stopped
from .rows import Batch, Keys, tenant_key_of
from .segment import Logs
from .stored import Record, message_of
from .trim import Step, Trim

STUCK_S = 1.0  # between two tries of a commit for which there is no room
_ENVELOPE_OCTETS_KEPT = 4096  # copied with the content of a damaged record


class Found(NamedTuple):
    """One message that a query found."""

    id: bytes
    position: int
    octets: int  # of its record, as the index counts them
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


Answer: TypeAlias = Callable[[list[Message], int | None], None]


class Discard(NamedTuple):
    """Throw the index away."""

    identity: dict[str, int]  # of the next one


Job: TypeAlias = "Batch | Lookup | tuple[Query | Question, Answer] | Trim | Rebuild | Discard"


class Owner(Protocol):
    """Who is told, on the loop, what became of the jobs."""

    def committed(self, batch: Batch) -> None:
        """`batch` is in the index, durably."""

    def stuck(self, problem: Exception) -> None:
        """There is no room for a commit; it is tried again until there is."""

    def answered(
        self, query: Query | Question, found: list[Found], later: int | None, done: Answer
    ) -> None:
        """What the index has for `query`."""

    def unanswered(self, query: Query | Question, done: Answer) -> None:
        """The index is gone: ask again when it is back."""

    def stepped(self, trim: Trim, step: Step) -> None:
        """A step of the trimmer is done."""

    def step_failed(self, trim: Trim, problem: Exception | None) -> None:
        """A step came to nothing, and the trimming is over; None: there was no segment to write
        to."""

    def rebuilt(self, result: Rebuilt) -> None:
        """The index holds all that the logs told; the next commit makes it complete."""

    def discarded(self) -> None:
        """The index is gone because it was to go; order another one."""

    def rebuild_failed(self, problem: Exception) -> None:
        """There is no index; order the rebuilding again."""

    def broken(self, problem: Exception) -> None:
        """The index failed and was moved aside."""


class Indexer:
    """Owns the index, and the writing end of the cold log, while the shard is open."""

    def __init__(
        self,
        index: Index,
        logs: Logs,
        in_memory: dict[bytes, Message],
        layout: Layout,
        cold: ColdLog,
    ) -> None:
        self._layout = layout
        self._index = index
        self._identity = index.identity
        self._logs = logs
        self._cold = cold
        self._in_memory = in_memory
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="spool-index", daemon=True)
        self._is_broken = False
        self._trimming: Trim | None = None  # the latest, it may have a segment open
        self._is_stopping = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._owner: Owner | None = None

    def attach(self, loop: asyncio.AbstractEventLoop, owner: Owner) -> None:
        """Start the thread; tell `owner` on `loop`."""
        self._loop, self._owner = loop, owner
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

    def trim(self, trim: Trim) -> None:
        """Do one step of it."""
        self._jobs.put(trim)

    def discard(self, identity: dict[str, int]) -> None:
        """The index is of no use any more: the next one says `identity` of itself. What was asked
        of it after this is not answered until there is one."""
        self._jobs.put(Discard(identity))

    def rebuild(self, work: Rebuild) -> None:
        """Make a new index."""
        self._jobs.put(work)

    def reset_cold(self) -> None:
        """Every segment of the cold log was given back. Only while nothing is trimmed."""
        self._cold.reset()

    def close(self) -> None:
        """Do what was asked (no rebuilding, and no waiting for room), then close the index."""
        self._is_stopping.set()
        self._jobs.put(None)
        if self._thread.is_alive():
            self._thread.join()
        self._index.close()

    def _run(self) -> None:
        assert self._owner is not None
        while (job := self._jobs.get()) is not None:
            try:
                self._do(job, self._owner)
            except Exception as problem:  # whatever it was: the log knows better than this index
                self._break(problem)
                if isinstance(job, tuple):
                    self._tell(self._owner.unanswered, *job)
        if self._trimming is not None:
            self._trimming.close()

    def _do(self, job: Job, owner: Owner) -> None:
        if isinstance(job, Rebuild):
            self._rebuild(job, owner)
        elif isinstance(job, Discard):
            if not self._is_broken:
                self._condemn()
            self._identity = job.identity
            shutil.rmtree(self._layout.index, ignore_errors=True)
            self._tell(owner.discarded)
        elif isinstance(job, Lookup):
            self._tell(job.done, self._look(job.ids))
        elif self._is_broken:  # what else was asked of the lost index comes to nothing
            if isinstance(job, tuple):
                self._tell(owner.unanswered, *job)
        elif isinstance(job, Batch):
            self._commit(job, owner)
        elif isinstance(job, Trim):
            self._step(job, owner)
        else:
            found, later = self._answer(job[0])
            self._tell(owner.answered, job[0], found, later, job[1])

    def _commit(self, batch: Batch, owner: Owner) -> None:
        """A volume without room keeps everything waiting that needs what is in `batch`."""
        while True:
            try:
                self._index.commit(batch)
                break
            except (lmdb.DiskError, lmdb.MapFullError, lmdb.MemoryError) as problem:
                self._tell(owner.stuck, problem)
                if self._is_stopping.wait(STUCK_S):
                    return
        self._tell(owner.committed, batch)

    def _step(self, trim: Trim, owner: Owner) -> None:
        self._trimming = trim
        try:
            step = trim.step(self._index, self._cold)
        except NoSpare:
            self._stop_trimming()  # what is in the group would be old when there is a place for it
            self._tell(owner.step_failed, trim, None)
        except (SpoolError, OSError) as problem:
            self._stop_trimming()
            self._tell(owner.step_failed, trim, problem)
        else:
            self._tell(owner.stepped, trim, step)

    def _rebuild(self, work: Rebuild, owner: Owner) -> None:
        try:
            if self._is_broken:
                if os.path.isdir(self._layout.index):
                    move_aside(self._layout.index)
                self._index = Index(self._layout.index, self._logs, **self._identity)
                self._is_broken = False
            result = work.run(self._index, self._is_stopping.is_set)
        except Stopped:
            return
        except Exception as problem:
            if not self._is_broken:
                self._condemn()
            self._tell(owner.rebuild_failed, problem)
        else:
            self._tell(owner.rebuilt, result)

    def _break(self, problem: Exception) -> None:
        self._condemn()
        assert self._owner is not None
        self._tell(self._owner.broken, problem)

    def _stop_trimming(self) -> None:
        if self._trimming is not None:
            self._trimming.close()
            self._trimming = None
        self._cold.discard()

    def _condemn(self) -> None:
        self._stop_trimming()  # nobody asks for the rest of it
        self._is_broken = True
        self._index.close()

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
            keys = indexed.keys(tenant_key_of(held.envelope, id))
            return Found(id, row.position, row.log_octets, keys, None)
        record = self._read(id, row)
        if record is None:
            keys = indexed.keys(self._index.find_tenant_key(id))
            return Found(id, row.position, row.log_octets, keys, None, is_damaged=True)
        message = message_of(record, row.position, self._layout.big_path)
        if not with_content:
            message.content = None
        message.states = indexed.states
        message.pending = row.pending
        keys = indexed.keys(tenant_key_of(message.envelope, id))
        return Found(id, row.position, row.log_octets, keys, message)

    @property
    def index(self) -> Index:
        """The index; for questions."""
        return self._index

    def read(self, id: bytes, position: int) -> Message | None:
        """The message whose record stands there, with its content; None when it is damaged."""
        record = self._record(id, position, 0)
        return None if record is None else message_of(record, position, self._layout.big_path)

    def message(self, indexed: IndexedMessage) -> Message | None:
        """As the index knows it, without content; None when it is damaged: whoever fetches it will
        say so."""
        row = indexed.row
        envelope = self.envelope(indexed.id, row)
        if envelope is None:
            return None
        message = Message(indexed.id, envelope, b"", row.arrived_at_ns)
        message.content = None
        message.size_octets = row.size_octets
        message.states, message.pending = indexed.states, row.pending
        return message

    def envelope(self, id: bytes, row: MessageRow) -> Envelope | None:
        """The envelope of a message of the index; None when its record is damaged."""
        held = self._in_memory.get(id)
        if held is not None:
            return held.envelope
        record = self._read(id, row)
        return None if record is None else decode_envelope(record[2])

    def _read(self, id: bytes, row: MessageRow) -> Record | None:
        """The MSG record of a row; None, with a copy kept, when it is damaged."""
        return self._record(id, row.position, row.size_octets)

    def _record(self, id: bytes, position: int, size_octets: int) -> Record | None:
        segment = self._logs.find(position)
        if segment is None:
            return None
        segment.pins += 1
        try:
            record = read_message(
                segment.fd, segment.base, segment.size_octets, segment.epoch, position
            )
            if record is None or record[0] != id:
                octets = size_octets + _ENVELOPE_OCTETS_KEPT
                copy = read_whole(segment.fd, octets, position - segment.base)
                path = f"{self._layout.quarantine}/{position:016x}-{len(copy)}"
                write_file(path, copy)
                return None
        except OSError:
            return None  # the device cannot read it: as bad as rot, and reported as such
        finally:
            segment.pins -= 1
        return record
