"""A load for kill tests: clients that never send a key twice, and what they were told.

Each message has a key of its own in its recipient's address. A key is *acknowledged* once its 250
was read, *unknown* when the connection ended after its final dot, *refused* otherwise.
"""

from __future__ import annotations

import itertools
import random
import socket
import threading
import time
from dataclasses import dataclass, field
from typing import BinaryIO

from fastmta.lab import Server

_TIMEOUT_S = 10.0


@dataclass
class History:
    """What the clients know. Appended to by client threads only."""

    acknowledged: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return f"{len(self.acknowledged)} acknowledged, {len(self.unknown)} unknown"


class Load:
    """`clients` threads that send to `server` until `stop`, reconnecting whenever they must."""

    def __init__(self, server: Server, clients: int = 6, seed: int = 0) -> None:
        self.history = History()
        self._server = server
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
            key = f"k{next(self._keys)}"
            connection.sendall(
                b"MAIL FROM:<sender@load.example>\r\nRCPT TO:<%b@sink.example>\r\nDATA\r\n"
                % key.encode()
            )
            for code in (b"250", b"250", b"354"):
                expect(replies, code)
            body = b"x" * rng.choice((10, 1000, 4000, 4000, 60_000))
            connection.sendall(b"Subject: %b\r\n\r\n%b\r\n.\r\n" % (key.encode(), body))
            try:
                expect(replies, b"250")
            except OSError:
                self.history.unknown.append(key)
                raise
            self.history.acknowledged.append(key)
        connection.sendall(b"QUIT\r\n")
        expect(replies, b"221")


def expect(replies: BinaryIO, code: bytes) -> None:
    """Read one whole reply; ConnectionError unless it has `code`."""
    while True:
        line = replies.readline()
        if line[:3] != code:
            raise ConnectionError(f"expected {code!r}, got {line!r}")
        if line[3:4] == b" ":
            return
