"""The backlog itself: messages accepted and deferred through the spool's own front door.

Runs as a process of its own, one per shard (`python -m fastmta.lab.bench.backlog.build`), while no
server has the spool open. What it leaves on the disk is what a server leaves that could deliver
nothing: a MSG and a STATE for each message, both flushed, and the index beside them.
"""

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Sequence

import uvloop

from fastmta.event import Event, Notice, Severity
from fastmta.message import ClientIdentity, Envelope, Message, RecipientState, RecipientStatus
from fastmta.route import RouteTable
from fastmta.spool import Spool, SpoolOptions

IN_FLIGHT_MAX = 4_000  # messages on their way to the log; also what a group commits
RELEASED_MAX = 40_000  # between two rests, in which the index catches up
REST_S = 1.0
SAMPLED = 100  # of the messages between two rests, the one with this number is told of
CLIENT = ClientIdentity("192.0.2.1", "client.example", b"client.example")
_TEXT = "connect to mx.{}[192.0.2.9]:25: Connection refused"  # of the attempt that deferred it


def domain_of(number: int) -> str:
    """Name of the domain with this number."""
    return f"d{number:05d}.test"


def content_of(number: int, size_octets: int) -> bytes:
    """A content of about that size, which says which message it is."""
    head = (
        "Received: from client.example (client.example [192.0.2.1])\r\n"
        f"\tby fastmta.test with ESMTP id backlog{number}; Mon, 23 Nov 2026 10:00:00 +0000\r\n"
        f"From: <sender@origin.test>\r\nSubject: backlog {number}\r\n\r\n"
    ).encode()
    line = b"x" * 70 + b"\r\n"
    return head + line * max(1, (size_octets - len(head)) // len(line))


class Builder:
    """Accepts, defers and releases messages, a bounded number at a time."""

    def __init__(self, spool: Spool, chosen: argparse.Namespace) -> None:
        self._spool = spool
        self._chosen = chosen
        self._next = chosen.shard  # number of the next message: shards take turns
        self._in_flight = 0
        self._released = 0
        self.sample: list[str] = []  # ids of some of the messages
        self._over: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def run(self) -> None:
        """Return when every message is in the log, deferred, and released."""
        while self._next < self._chosen.messages:
            self._over = asyncio.get_running_loop().create_future()
            self._released = 0
            self._fill()
            await self._over
            await asyncio.sleep(REST_S)

    def _fill(self) -> None:
        chosen = self._chosen
        while self._in_flight < IN_FLIGHT_MAX and self._released + self._in_flight < RELEASED_MAX:
            number = self._next
            if number >= chosen.messages:
                break
            self._next += chosen.shards
            self._in_flight += 1
            domain = domain_of(number % chosen.domains)
            path = f"user{number}@{domain}".encode()
            message = Message(
                self._spool.new_id(),
                Envelope(b"sender@origin.test", (path,), CLIENT),
                content_of(number, chosen.size),
                time.time_ns(),
            )
            self._spool.accept(message, self._accepted)

    def _accepted(self, message: Message, problem: Exception | None) -> None:
        if problem is not None:
            self._fail(problem)
            return
        domain = message.envelope.forward_paths[0].partition(b"@")[2].decode()
        state = RecipientState(
            0, RecipientStatus.DEFERRED, 1, self._chosen.due_at_ns, _TEXT.format(domain)
        )
        self._spool.record(message, (state,), self._recorded)

    def _recorded(self, message: Message, problem: Exception | None) -> None:
        if problem is not None:
            self._fail(problem)
            return
        self._spool.release(message)
        if self._released == SAMPLED:
            self.sample.append(message.id.decode())
        self._in_flight -= 1
        self._released += 1
        if self._in_flight < IN_FLIGHT_MAX // 2:
            self._fill()
        if self._in_flight == 0 and not self._over.done():
            self._over.set_result(None)

    def _fail(self, problem: Exception) -> None:
        if not self._over.done():
            self._over.set_exception(problem)


async def _build(chosen: argparse.Namespace) -> int:
    options = SpoolOptions(shard=chosen.shard, segment_octets=chosen.segment_octets)
    spool = Spool.open(chosen.directory, options, RouteTable().next_hop, _report)
    spool.attach(asyncio.get_running_loop())
    builder = Builder(spool, chosen)
    await builder.run()
    count = spool.live_count
    await spool.close()
    print(json.dumps({"messages": count, "sample": builder.sample}))
    return 0


def _report(event: Event) -> None:
    if isinstance(event, Notice) and event.severity is not Severity.INFO:
        print(event, file=sys.stderr)


def main(arguments: Sequence[str]) -> int:
    """Build one shard of the backlog; its figures as a line of JSON."""
    parser = argparse.ArgumentParser(prog="build")
    parser.add_argument("directory", help="root of the spool")
    for name in ("messages", "domains", "size", "shard", "shards", "due-at-ns", "segment-octets"):
        parser.add_argument(f"--{name}", type=int, required=True)
    return uvloop.run(_build(parser.parse_args(arguments)))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
