"""A process that loads a shard and says, line by line, what it was promised; made to be killed.

    python -m tests.support.spool_child load ROOT SEED [SEGMENT_OCTETS DURABILITY]
    python -m tests.support.spool_child steps ROOT      commands on standard input, see `Steps`

Each line on standard output is one JSON list, written with one unbuffered write:

    ["try", id]                 a message is handed to accept
    ["accepted", id]            it is durable
    ["mark", id, [[index, status, due], ...], DSN]   these changes are handed to record
    ["marked", id]              they are durable
    ["refused", id, why]        either of them is not, and the spool is not healthy
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import sys
import time
from typing import Any

import uvloop

from fastmta.message import ClientIdentity, Envelope, Message, RecipientState, RecipientStatus
from fastmta.spool import Durability, Spool, SpoolError, SpoolOptions

DOMAINS = (b"one.example", b"two.example", b"three.example")
OUTSTANDING = 20
CLIENT = ClientIdentity()


def say(*values: Any) -> None:
    """One line, at once."""
    os.write(1, json.dumps(values).encode() + b"\n")


def next_hop(path: bytes, _: Envelope) -> bytes:
    return b"smtp:" + path.partition(b"@")[2]


def content_of(id: bytes) -> bytes:
    """The content that a message of this id must have."""
    return id * (1 + int.from_bytes(id[-2:], "big") % 700) + b"\r\n"


class Load:
    """Accepts, marks, releases and fetches at random, with many messages under way."""

    def __init__(self, spool: Spool, seed: int) -> None:
        self.spool = spool
        self.random = random.Random(seed)
        self.loop = asyncio.get_running_loop()
        self.marking: set[bytes] = set()

    def start(self) -> None:
        for _ in range(OUTSTANDING):
            self.offer()
        for domain in DOMAINS:
            self.fetch(b"smtp:" + domain)

    def offer(self) -> None:
        domains = self.random.sample(DOMAINS, self.random.choice((1, 1, 1, 2, 3)))
        paths = tuple(b"user@" + domain for domain in domains)
        self.submit(paths, b"s@origin.example", self.accepted)

    def submit(self, paths: tuple[bytes, ...], reverse_path: bytes, done: Any) -> None:
        id = self.spool.new_id()
        message = Message(id, Envelope(reverse_path, paths, CLIENT), content_of(id), time.time_ns())
        say("try", id.decode())
        self.spool.accept(message, done)

    def accepted(self, message: Message, problem: SpoolError | None) -> None:
        if problem is not None:
            say("refused", message.id.decode(), str(problem))
            return
        say("accepted", message.id.decode())
        self.handle(message)
        self.loop.call_later(self.random.random() * 0.003, self.offer)

    def handle(self, message: Message) -> None:
        """What becomes of a message in memory: marked, released or left lying."""
        if message.id in self.marking:
            return
        fate = self.random.random()
        if fate < 0.1:
            return
        if fate < 0.2:
            self.spool.release(message)
            return
        changes = []
        for index in range(len(message.envelope.forward_paths)):
            if not message.is_final(index) and self.random.random() < 0.9:
                kinds = (RecipientStatus.DELIVERED,) * 5 + tuple(RecipientStatus)[:5]
                status = self.random.choice(kinds)
                due = time.time_ns() + self.random.randrange(10**8)
                changes.append(RecipientState(index, status, message.attempts_of(index) + 1, due))
        if not changes:
            return
        dsn = None
        if self.random.random() < 0.05:
            id = self.spool.new_id()
            envelope = Envelope(b"", (b"s@one.example",), CLIENT)
            dsn = Message(id, envelope, content_of(id), time.time_ns())
            say("try", id.decode())
        told = [(change.index, int(change.status), change.due_at_ns) for change in changes]
        self.marking.add(message.id)
        say("mark", message.id.decode(), told, None if dsn is None else dsn.id.decode())
        self.spool.record(message, changes, self.marked, dsn)

    def marked(self, message: Message, problem: SpoolError | None) -> None:
        if problem is not None:
            say("refused", message.id.decode(), str(problem))
            return
        self.marking.remove(message.id)
        say("marked", message.id.decode())
        self.spool.release(message)

    def fetch(self, hop: bytes) -> None:
        def fetched(messages: list[Message], later: int | None) -> None:
            for message in messages:
                assert message.content == content_of(message.id)
                self.handle(message)
            self.loop.call_later(0.02, self.fetch, hop)

        self.spool.fetch(hop, time.time_ns(), b"", 50, fetched)


class Steps:
    """Obeys its standard input: `accept N`, `deliver N`, `stop`; says when each thing happened."""

    def __init__(self, spool: Spool) -> None:
        self.spool = spool
        self.messages: dict[int, Message] = {}

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        while words := (await loop.run_in_executor(None, sys.stdin.readline)).split():
            if words[0] == "stop":
                return
            self.obey(words[0], int(words[1]))

    def obey(self, verb: str, number: int) -> None:
        def done(message: Message, problem: SpoolError | None) -> None:
            problem_text = None if problem is None else f"{type(problem).__name__}: {problem}"
            say(verb, number, problem_text, time.monotonic() - began, self.spool.is_healthy)

        began = time.monotonic()
        if verb == "accept":
            id = self.spool.new_id()
            envelope = Envelope(b"s@origin.example", (b"u@one.example",), CLIENT)
            message = Message(id, envelope, b"number %d\r\n" % number, time.time_ns())
            self.messages[number] = message
            self.spool.accept(message, done)
        else:
            state = RecipientState(0, RecipientStatus.DELIVERED, 1)
            self.spool.record(self.messages[number], [state], done)


async def main(kind: str, root: str, *rest: str) -> None:
    segment_octets = int(rest[1]) if len(rest) > 1 else 256 * 1024
    durability = Durability(rest[2]) if len(rest) > 2 else Durability.FULL
    options = SpoolOptions(segment_octets=segment_octets, durability=durability)
    spool = Spool.open(root, options, next_hop, lambda event: say("event", str(event)))
    spool.attach(asyncio.get_running_loop())
    say("ready")
    if kind == "load":
        Load(spool, int(rest[0])).start()
        await asyncio.sleep(60)
    else:
        await Steps(spool).run()
        await spool.close()
        say("closed")


if __name__ == "__main__":
    uvloop.run(main(*sys.argv[1:]))
