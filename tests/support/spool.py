"""A shard of the spool, driven step by step from synchronous tests."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import uvloop

from fastmta.event import Event
from fastmta.message import (
    ClientIdentity,
    ContentFile,
    Envelope,
    Message,
    RecipientState,
    RecipientStatus,
)
from fastmta.spool import Spool, SpoolError, SpoolOptions
from fastmta.spool.index import IndexedMessage

T = TypeVar("T")

CLIENT = ClientIdentity("192.0.2.1", "client.example", b"client.example")
NOW_NS = 1_800_000_000_000_000_000
SMALL = SpoolOptions(segment_octets=256 * 1024)
TIMEOUT_S = 20.0

DELIVERED = RecipientStatus.DELIVERED
DEFERRED = RecipientStatus.DEFERRED
FAILED = RecipientStatus.FAILED
HELD = RecipientStatus.HELD


def next_hop(forward_path: bytes, _: Envelope) -> bytes:
    """A next hop per domain."""
    return b"smtp:" + forward_path.partition(b"@")[2]


class Shard:
    """One open shard and the loop it works on."""

    def __init__(
        self,
        root: Path,
        options: SpoolOptions = SMALL,
        open_spool: Callable[..., Spool] = Spool.open,
        loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        self.root = root
        self.options = options
        self.events: list[Event] = []
        self.loop = loop or uvloop.new_event_loop()
        self.spool = open_spool(str(root), options, next_hop, self.events.append)
        if self.spool.is_indexed:
            self.recovered = self.index()
            self.spool.attach(self.loop)
        else:
            self.spool.attach(self.loop, on_indexed=self.loop.stop)
            self.loop.run_forever()
            self.recovered = self.index()

    def __enter__(self) -> Shard:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the spool and the loop."""
        if not self.loop.is_closed():
            self.loop.run_until_complete(asyncio.wait_for(self.spool.close(), TIMEOUT_S))
            self.loop.close()

    def wait(self, start: Callable[[Callable[..., None]], None]) -> tuple[object, ...]:
        """Call `start(done)`; the arguments that `done` was called with."""
        future: asyncio.Future[tuple[object, ...]] = self.loop.create_future()

        def done(*values: object) -> None:
            if not future.done():
                future.set_result(values)

        start(done)
        return self.loop.run_until_complete(asyncio.wait_for(future, TIMEOUT_S))

    def make(
        self,
        *forward_paths: bytes,
        content: bytes = b"Subject: x\r\n\r\ntext\r\n",
        reverse_path: bytes = b"sender@origin.example",
        tenant: str = "",
        arrived_at_ns: int = NOW_NS,
    ) -> Message:
        """A message with a new id."""
        paths = forward_paths or (b"a@one.example",)
        envelope = Envelope(reverse_path, paths, CLIENT, tenant=tenant)
        return Message(self.spool.new_id(), envelope, content, arrived_at_ns)

    def accept(self, *messages: Message) -> list[SpoolError | None]:
        """Accept them all at once; the error of each, in the order of `messages`."""
        problems: dict[bytes, SpoolError | None] = {}

        def start(done: Callable[..., None]) -> None:
            def one(message: Message, problem: SpoolError | None) -> None:
                problems[message.id] = problem
                if len(problems) == len(messages):
                    done()

            for message in messages:
                self.spool.accept(message, one)

        self.wait(start)
        return [problems[message.id] for message in messages]

    def accept_new(self, *forward_paths: bytes, content: bytes = b"x\r\n") -> Message:
        """Make and accept one message, durably."""
        message = self.make(*forward_paths, content=content)
        assert self.accept(message) == [None]
        return message

    def store_big(self, id: bytes, *pieces: bytes) -> ContentFile:
        """Make a large content durable; raises the OSError that prevented it."""
        spill = self.spool.begin_big(id, lambda: None)
        for piece in pieces:
            spill.write(piece)
        file, problem = self.wait(spill.finish)
        if isinstance(problem, OSError):
            raise problem
        assert isinstance(file, ContentFile)
        return file

    def accept_big(self, *pieces: bytes, forward_paths: Sequence[bytes] = ()) -> Message:
        """Make and accept one message with a large content, durably."""
        message = self.make(*forward_paths, content=b"")
        message.content = None
        message.file = self.store_big(message.id, *pieces)
        message.size_octets = message.file.size_octets
        assert self.accept(message) == [None]
        return message

    def sweep(self) -> int:
        """Sweep large contents; how many were orphans."""
        (count,) = self.wait(self.spool.sweep)
        assert isinstance(count, int)
        return count

    def record(
        self, message: Message, *changes: RecipientState, dsn: Message | None = None
    ) -> SpoolError | None:
        """Record changes, durably."""
        got = self.wait(lambda done: self.spool.record(message, changes, done, dsn))
        assert got[0] is message
        problem = got[1]
        assert problem is None or isinstance(problem, SpoolError)
        return problem

    def deliver(self, message: Message) -> None:
        """Record that every recipient has it."""
        count = len(message.envelope.forward_paths)
        changes = [RecipientState(index, DELIVERED, 1) for index in range(count)]
        assert self.record(message, *changes) is None

    def fetch(
        self, hop: bytes, now_ns: int = NOW_NS, after: bytes = b"", limit: int = 1000
    ) -> tuple[list[Message], int | None]:
        """Fetch mail that is due."""
        got = self.wait(lambda done: self.spool.fetch(hop, now_ns, after, limit, done))
        messages, later = got
        assert isinstance(messages, list)
        assert later is None or isinstance(later, int)
        return messages, later

    def expired(self, now_ns: int, limit: int = 1000) -> list[Message]:
        """Find mail past its lifetime."""
        (messages,) = self.wait(lambda done: self.spool.expired(now_ns, limit, done))
        assert isinstance(messages, list)
        return messages

    def commit(self) -> None:
        """Let the index catch up with what has been released or changed."""
        self.fetch(b"smtp:nowhere.invalid")
        self.loop.run_until_complete(self._tick())

    async def _tick(self) -> None:
        clerk = self.spool._clerk
        clerk._tick()
        await asyncio.wait_for(clerk.settle(), TIMEOUT_S)

    def turn(self) -> None:
        """One turn of the loop, with a little time for the threads."""
        self.loop.call_later(0.0005, self.loop.stop)
        self.loop.run_forever()

    def trim(self) -> None:
        """Let the trimmer go as far as it gets with one segment, and commit that."""
        trimmer = self.spool._trimmer
        deadline_s = self.loop.time() + TIMEOUT_S
        while trimmer.is_active:
            assert self.loop.time() < deadline_s, "the trimmer hangs"
            self.turn()
        self.commit()

    def check_counts(self) -> None:
        """The counts per segment are those of the message rows, in the index and in memory."""
        spool = self.spool
        counts: dict[int, tuple[int, int]] = {}
        for _, row in spool._indexer._index.messages():
            segment = spool._logs.find(row.position)
            assert segment is not None, "a row points to where no log is"
            live, octets = counts.get(segment.base, (0, 0))
            counts[segment.base] = (live + 1, octets + row.log_octets)
        assert spool._indexer._index.live() == counts

    def index(self) -> dict[bytes, IndexedMessage]:
        """What the index has, by id; while nothing is under way."""
        index = self.spool._indexer._index
        ids = [id for id, _ in index.messages()]
        return {found.id: found for found in index.find(ids)}

    def dump(self) -> dict[str, dict[bytes, bytes]]:
        """Every row of the index but for positions, which depend on history: that of the record
        (there may be a copy in the cold log that was never put to use) and the applied one."""
        dump = self.spool._indexer._index.dump()
        dump["message"] = {id: value[8:12] + value[20:] for id, value in dump["message"].items()}
        return dump


def copy_crashed(shard: Shard, target: Path) -> Path:
    """The shard's files as they are now, as a process that is killed at this moment leaves them."""
    for directory, _, files in os.walk(shard.root):
        place = target / os.path.relpath(directory, shard.root)
        place.mkdir(mode=0o700)
        for name in files:
            with contextlib.suppress(FileNotFoundError):  # a spare that is removed just now
                shutil.copy(os.path.join(directory, name), place / name)
    return target


def delete_index(root: Path, shard: int = 0) -> None:
    """Delete the index of a closed shard."""
    shutil.rmtree(root / f"shard-{shard:02d}" / "index")


def state_of(found: IndexedMessage) -> dict[int, RecipientState]:
    """States of an indexed message."""
    return found.states


def changes_of(states: Sequence[RecipientState]) -> dict[int, RecipientState]:
    """States by index."""
    return {state.index: state for state in states}
