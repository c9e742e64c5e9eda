"""Processes that each do the same short work with a shard while one system call fails.

    python -m tests.support.fail_child       under the fault library; one JSON line per process:
    {"root": ..., "trace": ..., "page": ..., "rule": {...}}         on standard input
    [status, seconds]                                               on standard output

Everything is imported once and each process is a fork, so that one costs tenths of a second. What
it was promised goes to the file `trace` (lines as in promise.py), between the lines in which the
library tells of faults, flushes and removed files: one order for all. It also says

    ["descriptors", [path, ...]]        what one life of the shard has left open
    ["crash", text]                     something raised what it may not raise
    ["stuck", text]                     something was not called back in time
    ["event", text]                     what the spool tells the operator

Statuses: 0 all done; 75 the spool failed, or stays unhealthy, and said so; 1 a crash; 3 stuck; 4
killed by us.
"""

from __future__ import annotations

import asyncio
import json
import os
import threading
import time
import traceback
from collections.abc import Callable
from functools import partial
from typing import Any, NoReturn

import uvloop

from fastmta.message import Envelope, Message, RecipientState, RecipientStatus
from fastmta.spool import Spool, SpoolError, SpoolFull, SpoolOptions, clerk, indexer, keeper, ledger
from tests.support.forking import arm, open_trace, serve
from tests.support.spool_child import CLIENT, DOMAINS, content_of, next_hop

OPTIONS = SpoolOptions(segment_octets=64 * 1024, clean_s=0.05)
FAR_NS = 2**62
STUCK_S = 4.0  # everything here takes milliseconds
PATIENCE_S = 0.4  # ... unless the spool says what it waits for
WAITING = ("could not be made ready", "is tried again", "could not be rebuilt")
RUN_S = 20.0
LARGE_KIND = 1000
LARGE = b"large\r\n" * 2600  # made before memory runs out; nobody reads it again
DESCRIPTORS_MAX = 256
EX_TEMPFAIL = 75  # sysexits.h, what a worker ends with
CRASHED, STUCK = 1, 3  # 4: killed, see forking.py

DELIVERED = RecipientStatus.DELIVERED
DEFERRED = RecipientStatus.DEFERRED
FAILED = RecipientStatus.FAILED
HELD = RecipientStatus.HELD


class Ended(Exception):
    """The spool takes nothing any more: the process is to end with 75."""


class Work:
    """A fixed history in two lives of one shard."""

    def __init__(
        self, root: str, trace_fd: int, loop: asyncio.AbstractEventLoop, *, may_wait: bool
    ) -> None:
        """`may_wait`: the fault stays, so what cannot be done may wait for its end."""
        self.root = root
        self.loop = loop
        self.may_wait = may_wait
        self.is_waiting = False  # the spool has said so
        self._trace_fd = trace_fd
        loop.set_exception_handler(self._on_exception)

    def say(self, *values: Any) -> None:
        os.write(self._trace_fd, json.dumps(values).encode() + b"\n")

    def on_event(self, event: object) -> None:
        self.is_waiting = self.is_waiting or any(text in str(event) for text in WAITING)
        self.say("event", str(event))

    async def run(self) -> None:
        for live in (self.first, self.second):
            before = open_descriptors()
            try:
                self.spool = Spool.open(self.root, OPTIONS, next_hop, self.on_event)
            except SpoolError as problem:
                self.say("event", str(problem))
                raise Ended from problem
            self.spool.attach(self.loop)
            try:
                await live()
            finally:
                await self.bound(self.spool.close(), "close")
            left = open_descriptors() - before
            self.say("descriptors", [os.readlink(f"/proc/self/fd/{fd}") for fd in left])

    async def first(self) -> None:
        await self.fill(3)
        messages = await self.accept([self.make(at) for at in range(12)])
        await self.mark(await self.accept(await self.make_big(2)), DELIVERED, 1)
        await self.mark(messages[0:4], DELIVERED)
        await self.mark(messages[4:6], DEFERRED)
        await self.mark(messages[6:7], FAILED)
        await self.mark(messages[7:8], HELD)
        for message in messages[4:10]:
            self.spool.release(message)
        await self.fill(4)
        await self.deliver_waiting(DOMAINS[0])
        await self.ask(lambda done: self.spool.expired(time.time_ns(), 10, done), "expired")

    async def second(self) -> None:
        for domain in DOMAINS[1:]:
            await self.deliver_waiting(domain)
        await self.accept([self.make(0)])

    async def fill(self, count: int) -> None:
        """About so many segments, all of it final: they are used again."""
        for _ in range(count):
            await self.mark(await self.accept([self.make(LARGE_KIND) for _ in range(3)]), DELIVERED)
            await asyncio.sleep(0.02)  # for the index and the keeper

    def make(self, kind: int) -> Message:
        """A new message: `kind` sets its recipients, or that it is a large one."""
        id = self.spool.new_id()
        count = 1 + kind % 3
        paths = tuple(b"user@" + domain for domain in DOMAINS[:count])
        content = LARGE if kind == LARGE_KIND else content_of(id)
        return Message(id, Envelope(b"s@origin.example", paths, CLIENT), content, time.time_ns())

    async def accept(self, messages: list[Message]) -> list[Message]:
        """Those that were accepted."""
        accepted: list[Message] = []

        def start(done: Callable[[Message, SpoolError | None], None]) -> None:
            for message in messages:
                self.say("try", message.id.decode())
                try:
                    self.spool.accept(message, done)
                except MemoryError:  # one session is told so
                    done(message, SpoolFull("no memory"))

        for message, problem in await self.gather(start, len(messages), "accept"):
            if problem is None:
                self.say("accepted", message.id.decode())
                accepted.append(message)
            else:
                self.refuse(message, problem)
        await self.rest()
        return accepted

    async def make_big(self, count: int) -> list[Message]:
        """New messages with contents in files of their own, of those that were made durable."""
        messages = [self.make(at) for at in range(count)]

        def start(done: Callable[..., None]) -> None:
            for message in messages:
                spill = self.spool.begin_big(message.id, lambda: None)
                spill.write(LARGE)
                spill.write(LARGE)
                spill.finish(partial(done, message))

        durable = []
        for message, file, problem in await self.gather(start, count, "begin_big"):
            if file is None:
                self.say("event", f"no file: {problem}")  # 452 for the client
                continue
            message.content, message.file = None, file
            message.size_octets = file.size_octets
            durable.append(message)
        await self.rest()
        return durable

    async def mark(
        self, messages: list[Message], status: RecipientStatus, limit: int = FAR_NS
    ) -> None:
        """Record `status` for every recipient, of at most `limit` messages."""
        messages = messages[:limit]
        due_at_ns = time.time_ns()

        def start(done: Callable[[Message, SpoolError | None], None]) -> None:
            for message in messages:
                count = len(message.envelope.forward_paths)
                changes = [RecipientState(at, status, 1, due_at_ns) for at in range(count)]
                dsn = None
                if status is FAILED:
                    id = self.spool.new_id()
                    envelope = Envelope(b"", (b"s@one.example",), CLIENT)
                    dsn = Message(id, envelope, content_of(id), time.time_ns())
                    self.say("try", id.decode())
                told = [(change.index, int(status), due_at_ns) for change in changes]
                self.say("mark", message.id.decode(), told, None if dsn is None else id.decode())
                try:
                    self.spool.record(message, changes, done, dsn)
                except MemoryError as problem:  # a defect of the scheduler ends the worker
                    raise Ended("no memory") from problem

        for message, problem in await self.gather(start, len(messages), "record"):
            if problem is None:
                self.say("marked", message.id.decode())
            else:
                self.refuse(message, problem)
        await self.rest()

    async def deliver_waiting(self, domain: bytes) -> None:
        """Fetch what waits for a domain, compare it, and deliver half of it."""
        hop = b"smtp:" + domain
        got = await self.ask(lambda done: self.spool.fetch(hop, FAR_NS, b"", 50, done), "fetch")
        messages = [message for answer in got for message in answer[0]]
        for message in messages:
            if message.file is None and message.content != content_of(message.id):
                self.say("crash", f"the content of {message.id.decode()} is not what it was")
        await self.mark(messages[::2], DELIVERED)

    async def ask(self, start: Callable[[Callable[..., None]], None], what: str) -> Any:
        got = await self.gather(start, 1, what)
        await self.rest()
        return got

    async def gather(
        self, start: Callable[[Callable[..., None]], None], count: int, what: str
    ) -> list[tuple[Any, ...]]:
        """What `done` was called with, `count` times; less when that has to wait."""
        calls: list[tuple[Any, ...]] = []
        future = self.loop.create_future()

        def done(*values: Any) -> None:
            calls.append(values)
            if len(calls) == count and not future.done():
                future.set_result(None)

        if count:
            start(done)
            await self.bound(future, what)
        return calls

    async def bound(self, waiting: Any, what: str) -> None:
        """Wait for it, not for ever."""
        until_s = time.monotonic() + STUCK_S
        task = asyncio.ensure_future(waiting)
        while not (await asyncio.wait([task], timeout=0.05))[0]:
            is_late = time.monotonic() > until_s - STUCK_S + PATIENCE_S
            if self.may_wait and self.is_waiting and is_late:
                return
            if time.monotonic() > until_s:
                self.say("stuck", what)
                os._exit(STUCK)
        task.result()

    def refuse(self, message: Message, problem: SpoolError) -> None:
        self.say("refused", message.id.decode(), f"{type(problem).__name__}: {problem}")
        if not isinstance(problem, SpoolFull):
            raise Ended(str(problem))

    async def rest(self) -> None:
        """As the worker does: neither take nor deliver while the spool is not healthy."""
        until_s = time.monotonic() + PATIENCE_S
        while not self.spool.is_healthy:
            if self.spool.has_failed or time.monotonic() > until_s:
                raise Ended("not healthy")
            await asyncio.sleep(0.005)

    def _on_exception(self, _: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        self.say("crash", f"{context.get('message')}: {context.get('exception')!r}")


def open_descriptors() -> set[int]:
    """Those that are open; asking needs next to no memory."""
    return {fd for fd in range(DESCRIPTORS_MAX) if is_open(fd)}


def is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


def run_one(order: dict[str, Any]) -> NoReturn:
    """The forked process."""
    keeper.RETRY_S = 0.05
    clerk.COMMIT_INTERVAL_S = clerk.COMMIT_GAP_S = 0.01  # as much happens as in a second
    clerk.CHECKPOINT_INTERVAL_S = ledger.AGE_S = 0.03
    indexer.STUCK_S = 0.05
    fd = open_trace(order)
    loop = uvloop.new_event_loop()
    work = Work(order["root"], fd, loop, may_wait=order["rule"]["is_sticky"])

    def on_thread(problem: threading.ExceptHookArgs) -> None:
        lines = traceback.format_exception(problem.exc_type, problem.exc_value, None)
        frames = traceback.format_tb(problem.exc_traceback)
        work.say("crash", f"{problem.thread}: {''.join(lines + frames)}")
        os._exit(CRASHED)

    threading.excepthook = on_thread
    arm(order, fd)
    try:
        loop.run_until_complete(work.run())
    except Ended:
        os._exit(EX_TEMPFAIL)
    except BaseException:
        work.say("crash", traceback.format_exc())
        os._exit(CRASHED)
    work.say("done")
    os._exit(0)


if __name__ == "__main__":
    serve(run_one, RUN_S)
