"""Processes that each take up a drop directory, deliver what is in it, and are killed on the way.

    python -m tests.support.pickup_child     under the fault library; one JSON line per process:
    {"root": ..., "trace": ..., "page": ..., "rule": {...}}   on standard input
    status                                                    on standard output

The spool, and what picks up, are the real ones; a delivery is a line in the file `trace`:
["delivered", subject, Message-Id, queue id], and then, when the spool has recorded it, ["marked",
subject]. Of a file that makes several messages, two are made at a time. It ends when nothing is
left: ["done"].
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

from fastmta.config import Config, load
from fastmta.daemon import localmail
from fastmta.daemon.clock import QueueClock
from fastmta.daemon.pickup import Pickup
from fastmta.event import Event, Notice
from fastmta.message import Envelope, Message, RecipientState, RecipientStatus
from fastmta.spool import Spool, SpoolError, SpoolOptions
from tests.support.forking import arm, open_trace, serve

BIG_OCTETS = 256 * 1024
LIMIT_S = 20.0
_HOP = b"smtp:there.test"


def make_config(root: str) -> Config:
    """A server with spool and drop directory below `root`."""
    settings = {
        "hostname": "mail.test",
        "spool.directory": f"{root}/spool",
        "spool.big_octets": str(BIG_OCTETS),
        "drop.directory": f"{root}/drop",
        "aliases.file": "",
    }
    return load(None, {}, [f"{name}={value}" for name, value in settings.items()])


class Stub:
    """Shard and scheduler: delivers at once what it may, and records that."""

    def __init__(self, spool: Spool, say: Any) -> None:
        self.spool = spool
        self.scheduler = self
        self.is_held = False
        self.under_way = 0
        self.is_taken_up = False
        self._say = say
        self._reserved: set[bytes] = set()

    def hold_back(self, reason: str) -> None:
        self.is_held = bool(reason)
        if not self.is_held:
            self.take_up()

    def reserve(self, message: Message) -> None:
        self._reserved.add(message.id)

    def forget(self, message: Message) -> None:
        self._reserved.remove(message.id)

    def begin(self, message: Message) -> None:
        self._reserved.remove(message.id)
        self.deliver(message)

    def take_up(self) -> None:
        """What an earlier process has left."""
        self.spool.fetch(_HOP, time.time_ns() + 10**15, b"", 100, self._fetched)

    def _fetched(self, messages: list[Message], _: int | None) -> None:
        for message in messages:
            if message.id not in self._reserved:
                self.deliver(message)
        self.is_taken_up = True

    def deliver(self, message: Message) -> None:
        assert not self.is_held, "delivered too early"
        content = message.content
        if message.file is not None:
            content = Path(message.file.path).read_bytes()
        assert content is not None
        subject = content.partition(b"Subject: ")[2].partition(b"\r\n")[0].decode()
        assert content.endswith(f"end of {subject}\r\n".encode())
        if subject.startswith("parts"):  # of several messages: each has a name of its own
            subject += f" to {message.envelope.reverse_path.decode()}"
        self.under_way += 1
        message_id = content.partition(b"Message-Id: ")[2].partition(b"\r\n")[0].decode()
        self._say("delivered", subject, message_id, message.id.decode())
        done = partial(self._marked, subject)
        self.spool.record(message, [RecipientState(0, RecipientStatus.DELIVERED, 1)], done)

    def _marked(self, subject: str, _: Message, problem: SpoolError | None) -> None:
        self.under_way -= 1
        if problem is None:
            self._say("marked", subject)


class Gate:
    """Takes everything."""

    def refusal(self, declared_octets: int) -> None:
        return None


async def work(root: str, say: Any) -> None:
    """Until nothing is left."""
    config = make_config(root)
    localmail.PORTION = 2
    loop = asyncio.get_running_loop()

    def emit(event: Event) -> None:
        if isinstance(event, Notice) and event.program == "pickup":
            say("notice", event.text)

    options = SpoolOptions(segment_octets=1 << 20)
    spool = Spool.open(config.spool.directory, options, _next_hop, emit)
    stub = Stub(spool, say)
    shard: Any = stub  # what is used of a shard is there
    pickup = Pickup(config, shard, Gate(), QueueClock(), loop, emit)
    spool.attach(loop)
    if not stub.is_held:
        stub.take_up()
    pickup.start()
    places = [Path(root, "drop", name) for name in ("new", "claimed")]
    until_s = time.monotonic() + LIMIT_S
    while any(any(place.iterdir()) for place in places) or stub.under_way or not stub.is_taken_up:
        assert time.monotonic() < until_s, "it does not come to an end"
        await asyncio.sleep(0.005)
    await asyncio.sleep(0.03)  # what is gone from the directory is delivered a moment later
    while stub.under_way:
        await asyncio.sleep(0.005)
    await pickup.close()
    await spool.close()


def _next_hop(forward_path: bytes, _: Envelope) -> bytes:
    return _HOP


def run_one(order: dict[str, Any]) -> NoReturn:
    """The forked process."""
    fd = open_trace(order)

    def say(*values: Any) -> None:
        os.write(fd, json.dumps(values).encode() + b"\n")

    if order["rule"]["call"]:
        arm(order, fd)
    try:
        asyncio.run(work(order["root"], say))
        say("done")
    except BaseException as problem:
        say("crash", repr(problem))
    os._exit(0)


if __name__ == "__main__":
    serve(run_one)
