"""A load for kill tests: clients that never send a key twice, and what they were told.

Each recipient has a key of its own, its local part. A key is *acknowledged* once the 250 of its
message was read, *unknown* when the connection ended after the final dot, *refused* when another
reply came. Its first letters say what the receiver will do with it (see counting.py). Each content
states its own digest in its header section.
"""

from __future__ import annotations

import hashlib
import itertools
import random
import socket
import threading
import time
from dataclasses import dataclass, field
from typing import BinaryIO, Protocol

_TIMEOUT_S = 10.0
DIGEST_FIELD = b"X-Digest"
LATE, BAD = "late", "bad"  # refused once with 451; refused for ever with 550


class Target(Protocol):
    """What is loaded."""

    port: int


@dataclass(frozen=True)
class Mix:
    """What is sent: sizes in octets and shares of all messages."""

    sizes: tuple[int, ...] = (10, 1000, 4000, 4000, 60_000)
    big_octets: int = 0  # now and then one as large as this
    big_share: float = 0.02
    late_share: float = 0.0
    bad_share: float = 0.0
    recipients_max: int = 1


@dataclass
class History:
    """What the clients know, by key. Appended to by client threads only."""

    acknowledged: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    acknowledged_messages: int = 0

    def __str__(self) -> str:
        return (
            f"{len(self.acknowledged)} acknowledged, {len(self.unknown)} unknown,"
            f" {len(self.refused)} refused"
        )


class Load:
    """`clients` threads that send to `server` until `stop`, reconnecting whenever they must."""

    def __init__(
        self, server: Target, clients: int = 6, seed: int = 0, mix: Mix | None = None
    ) -> None:
        self.history = History()
        self._server = server
        self._mix = mix or Mix()
        self._keys = itertools.count()
        self._stopping = threading.Event()
        self._threads = [
            threading.Thread(target=self._run, args=(random.Random(seed * 1000 + n),))
            for n in range(clients)
        ]
        for thread in self._threads:
            thread.start()

    def stop(self) -> History:
        """End the clients; what they were told is complete afterwards."""
        self._stopping.set()
        for thread in self._threads:
            thread.join(_TIMEOUT_S * 2)
            assert not thread.is_alive(), "a client hangs"
        return self.history

    def _run(self, rng: random.Random) -> None:
        while not self._stopping.is_set():
            try:
                with socket.create_connection(
                    ("127.0.0.1", self._server.port), _TIMEOUT_S
                ) as connection:
                    self._session(connection, rng)
            except OSError:
                time.sleep(0.02)  # the server is down or our worker was killed

    def _session(self, connection: socket.socket, rng: random.Random) -> None:
        replies = connection.makefile("rb")
        expect(replies, b"220")
        connection.sendall(b"EHLO load.example\r\n")
        expect(replies, b"250")
        for _ in range(rng.randrange(1, 200)):
            if self._stopping.is_set():
                break
            keys = self._new_keys(rng)
            commands = [b"MAIL FROM:<sender@load.example>\r\n"]
            commands += [b"RCPT TO:<%b@sink.example>\r\n" % key.encode() for key in keys]
            connection.sendall(b"".join(commands) + b"DATA\r\n")
            for _ in commands:
                expect(replies, b"250")
            expect(replies, b"354")
            connection.sendall(self._content(keys[0], rng) + b".\r\n")
            try:
                code = read_reply(replies)
            except OSError:
                self.history.unknown += keys
                raise
            if code != b"250":
                self.history.refused += keys
                continue
            self.history.acknowledged += keys
            self.history.acknowledged_messages += 1
        connection.sendall(b"QUIT\r\n")
        expect(replies, b"221")

    def _new_keys(self, rng: random.Random) -> list[str]:
        mix, draw = self._mix, rng.random()
        kind = "k"
        if draw < mix.late_share:
            kind = LATE
        elif draw < mix.late_share + mix.bad_share:
            kind = BAD
        count = rng.randrange(1, mix.recipients_max + 1) if rng.random() < 0.1 else 1
        return [f"{kind}{next(self._keys)}" for _ in range(count)]

    def _content(self, key: str, rng: random.Random) -> bytes:
        mix = self._mix
        octets = rng.choice(mix.sizes)
        if mix.big_octets and rng.random() < mix.big_share:
            octets = mix.big_octets
        line = f"{key} ".encode() * (70 // (len(key) + 1)) + b"\r\n"
        body = line * (1 + octets // len(line))
        digest = hashlib.sha256(body).hexdigest().encode()
        return b"Subject: %b\r\n%b: %b\r\n\r\n%b" % (key.encode(), DIGEST_FIELD, digest, body)


def read_reply(replies: BinaryIO) -> bytes:
    """The code of one whole reply; ConnectionError when there is none."""
    while True:
        line = replies.readline()
        if not line.endswith(b"\n"):
            raise ConnectionError(f"the connection ended in {line!r}")
        if line[3:4] == b" ":
            return line[:3]


def expect(replies: BinaryIO, code: bytes) -> None:
    """Read one whole reply; ConnectionError unless it has `code`."""
    got = read_reply(replies)
    if got != code:
        raise ConnectionError(f"expected {code!r}, got {got!r}")
