"""The index of one shard: LMDB, derived from the log, and only ever touched by one thread.

Full-sync commits; no read transaction lives longer than one call. Any `lmdb.Error` means that the
index is to be moved aside and rebuilt: the log is the truth.
"""

from __future__ import annotations

import glob
import os
import shutil
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import lmdb

from fastmta.message import RecipientState

from . import tally
from ._row import (
    expiry_key,
    hop_key,
    move_message,
    pack_segment,
    recipient_key,
    unpack_due,
    unpack_index,
    unpack_message,
    unpack_segment,
)
from .layout import make_directory, sync_directory
from .problem import SpoolError
from .reserve import Reserve
from .rows import Batch, Keys, Move, RecipientRow, decode_recipient, name_in_key
from .segment import Logs
from .walking import Walking

LOCK_OCTETS = 16 * 1024  # more than its 126 reader slots take
MAP_OCTETS = 64 * 1024**3  # address space only: far above need, never resized
LIB_VERSION = 0  # the 0.9 engine
# 2: mail that had no attempt was due at 0; 3: no addresses. Such an index is made anew.
FORMAT = 4
_NAMES = ("message", "recipient", "hop", "expiry", "tenant", "waiting")
_BAD_KEPT = 2  # bad indexes
_ID_OCTETS = 16
_TAIL_OCTETS = 1 + 8 + _ID_OCTETS  # NUL, due time and id at the end of a hop key


class MessageRow(NamedTuple):
    """A `message` row; fields as in ext/spool/row.pyx."""

    position: int
    size_octets: int
    applied: int
    arrived_at_ns: int
    expires_at_ns: int
    recipient_count: int
    pending: int
    log_octets: int
    reverse_path: bytes
    tenant: bytes


class IndexedMessage(NamedTuple):
    """What the index has of one message."""

    id: bytes
    row: MessageRow
    recipients: dict[int, RecipientRow]

    @property
    def states(self) -> dict[int, RecipientState]:
        """States of the recipients that have been touched."""
        rows = self.recipients.items()
        return {index: row.state for index, row in rows if row.state is not None}

    def keys(self, tenant: bytes) -> Keys:
        """The keys it has in the index; `tenant` is its `tenant` key."""
        hops = frozenset(
            hop_key(name_in_key(row.next_hop), row.due_at_ns, self.id)
            for row in self.recipients.values()
            if row.next_hop
        )
        expiry = expiry_key(self.row.expires_at_ns, self.id) if hops else b""
        return Keys(self.row.recipient_count, hops, expiry, tenant)


class Index:
    """The LMDB environment; one thread at a time."""

    def __init__(self, path: str, logs: Logs, **identity: int) -> None:
        """Open or create. Raises lmdb.Error.

        `identity` (format and the like) is written with each commit that makes the index complete.
        """
        self._logs = logs
        self.identity = identity
        self.checkpoint = 0  # as committed: every record of the hot log below it is in the rows
        if not os.path.isdir(path):
            make_directory(path)
        _reserve_lock_file(os.path.join(path, "lock.mdb"))
        self.walking = Walking(path)
        self._reserve = Reserve(path)
        self._reserve.prepare()
        self._env = lmdb.open(
            path,
            map_size=MAP_OCTETS,
            max_dbs=len(_NAMES) + 2,
            mode=0o600,
            readahead=False,
            lib_version=LIB_VERSION,
        )
        try:
            self._meta = self._env.open_db(b"meta")
            self._segments = self._env.open_db(b"segment")
            self._dbs = {name: self._env.open_db(name.encode()) for name in _NAMES}
            sync_directory(path)
            self._reserve.adopt()
        except BaseException:
            self._env.close()
            raise

    def close(self) -> None:
        """Close the environment."""
        self.walking.close()
        self._reserve.release()
        self._env.close()

    def read_meta(self) -> dict[str, int]:
        """Every number kept in `meta`: checkpoint, cold_end, format, durable, routing."""
        with self._env.begin(db=self._meta) as txn:
            return {key.decode(): int(value) for key, value in txn.cursor()}

    def commit(self, batch: Batch, is_complete: bool = True) -> None:
        """One write transaction, durable when this returns.

        Without `is_complete` the index stays what it is: not fit for use until a later commit.
        """
        with self._env.begin(write=True) as txn:
            tally.write(txn, self._dbs["hop"], self._dbs["waiting"], batch)
            counts: dict[int, list[int]] = {}
            for move in batch.moves:
                self._move(txn, move, counts)
            for name, keys in batch.deletes.items():
                db = self._dbs[name]
                for key in keys if name != "hop" else ():
                    txn.delete(key, db=db)
            for name, pairs in batch.puts.items():
                if pairs and name != "hop":
                    with txn.cursor(self._dbs[name]) as cursor:
                        cursor.putmulti(pairs)
            for sign, position, octets in batch.counted:
                self._count(counts, sign, position, octets)
            self._put_counts(txn, counts)
            if is_complete:
                numbers = {"checkpoint": batch.checkpoint, **self.identity}
                if batch.cold_end:
                    numbers["cold_end"] = batch.cold_end
                for field, number in numbers.items():
                    txn.put(field.encode(), b"%d" % number, db=self._meta)
        if is_complete:
            self.checkpoint = batch.checkpoint
        self._reserve.top_up()

    def _move(self, txn: lmdb.Transaction, move: Move, counts: dict[int, list[int]]) -> None:
        """Give a message its new place, unless it is final or has another one by now."""
        messages = self._dbs["message"]
        value = txn.get(move.id, db=messages)
        if value is None or unpack_message(bytes(value))[0] != move.old:
            return
        txn.put(move.id, move_message(bytes(value), move.new), db=messages)
        self._count(counts, -1, move.old, move.octets)
        self._count(counts, 1, move.new, move.octets)

    def _count(self, counts: dict[int, list[int]], sign: int, position: int, octets: int) -> None:
        segment = self._logs.find(position)
        if segment is not None:
            count = counts.setdefault(segment.base, [0, 0])
            count[0] += sign
            count[1] += sign * octets

    def _put_counts(self, txn: lmdb.Transaction, counts: dict[int, list[int]]) -> None:
        for base, (live, octets) in counts.items():
            key = base.to_bytes(8, "big")
            value = txn.get(key, db=self._segments)
            if value is not None:
                had, had_octets = unpack_segment(bytes(value))
                live, octets = live + had, octets + had_octets
            if live > 0:
                txn.put(key, pack_segment(live, max(octets, 0)), db=self._segments)
            else:
                txn.delete(key, db=self._segments)

    def live(self) -> dict[int, tuple[int, int]]:
        """By position of a segment's first octet: its live messages in the index, their octets."""
        with self._env.begin(db=self._segments) as txn:
            return {
                int.from_bytes(key, "big"): unpack_segment(bytes(value))
                for key, value in txn.cursor()
            }

    def count(self) -> int:
        """Live messages in the index."""
        with self._env.begin() as txn:
            return int(txn.stat(self._dbs["message"])["entries"])

    def messages(self) -> Iterator[tuple[bytes, MessageRow]]:
        """Every message row, by id. Only while the shard is being opened, and in tests."""
        with self._env.begin(db=self._dbs["message"]) as txn:
            for id, value in txn.cursor():
                yield bytes(id), MessageRow(*unpack_message(value))

    def dump(self) -> dict[str, dict[bytes, bytes]]:
        """Everything but `meta`, for comparison with a rebuilt index."""
        with self._env.begin() as txn:
            return {name: dict(txn.cursor(self._dbs[name])) for name in _NAMES}

    def find(self, ids: list[bytes]) -> list[IndexedMessage]:
        """The messages of `ids` that are in the index, in that order."""
        found = []
        with self._env.begin() as txn:
            for id in ids:
                message = self._read(txn, id)
                if message is not None:
                    found.append(message)
        return found

    def page(self, after: bytes, limit: int) -> list[tuple[bytes, MessageRow]]:
        """At most `limit` message rows, by id, from beyond `after`."""
        rows: list[tuple[bytes, MessageRow]] = []
        with self._env.begin(db=self._dbs["message"]) as txn, txn.cursor() as cursor:
            more = cursor.set_range(after)
            if more and after and cursor.key() == after:
                more = cursor.next()
            while more and len(rows) < limit:
                id, value = cursor.item()
                rows.append((bytes(id), MessageRow(*unpack_message(bytes(value)))))
                more = cursor.next()
        return rows

    def page_before(self, before: bytes, limit: int) -> list[tuple[bytes, MessageRow]]:
        """At most `limit` message rows, the last first, from before `before`; empty: the end."""
        rows: list[tuple[bytes, MessageRow]] = []
        with self._env.begin(db=self._dbs["message"]) as txn, txn.cursor() as cursor:
            is_there = bool(before) and cursor.set_range(before)
            more = cursor.prev() if is_there else cursor.last()
            while more and len(rows) < limit:
                id, value = cursor.item()
                rows.append((bytes(id), MessageRow(*unpack_message(bytes(value)))))
                more = cursor.prev()
        return rows

    def find_at(self, ids: Iterable[bytes], start: int, end: int) -> list[IndexedMessage]:
        """Of the messages of `ids`, those whose record stands between these positions."""
        found = []
        messages = self._dbs["message"]
        with self._env.begin() as txn:
            for id in ids:
                value = txn.get(id, db=messages)
                if value is not None and start <= unpack_message(bytes(value))[0] < end:
                    message = self._read(txn, id)
                    if message is not None:
                        found.append(message)
        return found

    def due(
        self, next_hop: bytes, now_ns: int, after: bytes, limit: int
    ) -> tuple[list[bytes], int | None]:
        """Ids of messages with recipients of `next_hop` due by `now_ns`, by (due, id), each once.

        From beyond `after`, the tail (due time, id) of a key. And the earliest due time later than
        `now_ns`.
        """
        prefix = name_in_key(next_hop) + b"\0"
        ids: dict[bytes, None] = {}
        later: int | None = None
        with self._env.begin(db=self._dbs["hop"]) as txn, txn.cursor() as cursor:
            start = prefix + after
            more = cursor.set_range(start)
            if more and after and cursor.key() == start:
                more = cursor.next()
            while more and len(ids) < limit:
                key = cursor.key()
                if not key.startswith(prefix):
                    break
                due_at_ns, id = unpack_due(key)
                if due_at_ns > now_ns:
                    break
                ids[id] = None
                more = cursor.next()
            if cursor.set_range(prefix + (now_ns + 1).to_bytes(8, "big")):
                key = cursor.key()
                if key.startswith(prefix):
                    later = unpack_due(key)[0]
        return list(ids), later

    def waiting(self) -> list[tuple[bytes, int, int]]:
        """By next hop: how many messages and recipients wait for it. No look at their rows."""
        with self._env.begin(db=self._dbs["waiting"]) as txn:
            return tally.read_all(txn.cursor())

    def waiting_recipients(self) -> int:
        """How many wait for any next hop."""
        with self._env.begin(db=self._dbs["waiting"]) as txn:
            return sum(tally.read(value)[1] for _, value in txn.cursor())

    def held(self) -> int:
        """How many messages wait for nobody: what is not final of them is on hold."""
        with self._env.begin() as txn:
            count, waiting = (
                txn.stat(self._dbs[name])["entries"] for name in ("message", "expiry")
            )
            return int(count - waiting)

    def waiting_for(self, next_hop: bytes) -> tuple[int, int]:
        """The same for one next hop."""
        name = name_in_key(next_hop)
        with self._env.begin(db=self._dbs["waiting"]) as txn:
            value = txn.get(name)
        return tally.read(value) if value is not None else (0, 0)

    def first_due(self, next_hop: bytes) -> int | None:
        """The earliest due time of mail for `next_hop`; None when there is none."""
        prefix = name_in_key(next_hop) + b"\0"
        with self._env.begin(db=self._dbs["hop"]) as txn, txn.cursor() as cursor:
            if cursor.set_range(prefix) and cursor.key().startswith(prefix):
                return unpack_due(bytes(cursor.key()))[0]
        return None

    def expired(self, now_ns: int, limit: int) -> list[bytes]:
        """Ids of messages whose lifetime has ended by `now_ns`, oldest first."""
        ids: list[bytes] = []
        with self._env.begin(db=self._dbs["expiry"]) as txn, txn.cursor() as cursor:
            more = cursor.first()
            while more and len(ids) < limit:
                expires_at_ns, id = unpack_due(cursor.key())
                if expires_at_ns > now_ns:
                    break
                ids.append(id)
                more = cursor.next()
        return ids

    def hops(self) -> list[tuple[bytes, int]]:
        """Every next hop that has mail waiting, with its earliest due time."""
        found = []
        with self._env.begin(db=self._dbs["hop"]) as txn, txn.cursor() as cursor:
            more = cursor.first()
            while more:
                key, value = cursor.item()
                name = key[:-_TAIL_OCTETS]
                found.append((value[4:] or name, unpack_due(key)[0]))
                more = cursor.set_range(name + b"\1")
        return found

    def _read(self, txn: lmdb.Transaction, id: bytes) -> IndexedMessage | None:
        value = txn.get(id, db=self._dbs["message"])
        if value is None:
            return None
        row = MessageRow(*unpack_message(bytes(value)))
        recipients: dict[int, RecipientRow] = {}
        with txn.cursor(self._dbs["recipient"]) as cursor:
            more = cursor.set_range(recipient_key(id, 0))
            while more and len(recipients) < row.recipient_count:
                key = bytes(cursor.key())
                if not key.startswith(id):
                    break
                recipients[unpack_index(key)] = decode_recipient(bytes(cursor.value()))
                more = cursor.next()
        return IndexedMessage(id, row, recipients)

    def find_tenant_key(self, id: bytes) -> bytes:
        """The `tenant` key of a message whose envelope cannot be read; slow and rare."""
        with self._env.begin(db=self._dbs["tenant"]) as txn:
            keys = txn.cursor().iternext(values=False)
            return next((bytes(key) for key in keys if key.endswith(b"\0" + id)), b"")


def move_aside(path: str) -> str:
    """Rename a bad index so that a new one can be built; where it is now."""
    known = glob.glob(f"{glob.escape(path)}.bad-*")
    numbers = [int(name.rpartition("-")[2]) for name in known if name.rpartition("-")[2].isdigit()]
    for number in range(max(numbers, default=0) + 1, 1_000_000):
        target = f"{path}.bad-{number}"
        if not os.path.exists(target):
            os.rename(path, target)
            sync_directory(os.path.dirname(path))
            _forget_older(path, number)
            return target
    raise SpoolError(f"{path} cannot be moved aside")


def _forget_older(path: str, newest: int) -> None:
    """Of bad indexes only the latest are worth their room."""
    for number in range(1, newest - _BAD_KEPT + 1):
        shutil.rmtree(f"{path}.bad-{number}", ignore_errors=True)


def _reserve_lock_file(path: str) -> None:
    """Give LMDB's lock file its blocks. LMDB maps it sparse, and a full volume would then end the
    process with SIGBUS on the first touch; here it is an OSError that can be read."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        os.posix_fallocate(fd, 0, LOCK_OCTETS)
    finally:
        os.close(fd)
