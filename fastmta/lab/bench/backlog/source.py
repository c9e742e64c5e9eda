"""A source of messages to many domains, which `smtp-source` cannot do; a process of its own.

    python -m fastmta.lab.bench.backlog.source PORT COUNT SESSIONS DOMAINS FIRST SIZE

Sends COUNT messages over SESSIONS persistent connections, MAIL, RCPT and DATA in one flight, to the
domains in turn beginning with number FIRST; prints how many seconds that took.
"""

import asyncio
import sys
import time
from collections.abc import Sequence
from typing import cast

import uvloop

from ...loopback import HOST
from .build import content_of, domain_of

_HELLO = b"EHLO source.test\r\n"


class Source:
    """What the sessions share."""

    def __init__(self, count: int, domains: int, first: int, size: int) -> None:
        self.left = count  # messages not yet begun
        self.domains = domains
        self.number = first
        self.size = size
        self.content = content_of(0, size) + b".\r\n"
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.sessions = 0

    def envelope(self) -> bytes:
        """The flight that opens the next message; empty when there is none."""
        if not self.left:
            return b""
        self.left -= 1
        domain = domain_of(self.number % self.domains).encode()
        self.number += 1
        return b"MAIL FROM:<sender@origin.test>\r\nRCPT TO:<fresh%d@%b>\r\nDATA\r\n" % (
            self.number,
            domain,
        )


class Session(asyncio.Protocol):
    """One connection: greeting, EHLO, then message after message."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._rest = b""
        self._awaited = b"220"  # the code of the last line of the replies that are due

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.WriteTransport, transport)
        self._source.sessions += 1

    def data_received(self, data: bytes) -> None:
        octets = self._rest + data
        self._rest = b""
        if not octets.endswith(b"\r\n"):
            self._rest = octets
            return
        for line in octets.split(b"\r\n"):
            if line[:1] in b"45" and line:
                self._fail(line)
                return
            if line[:3] == self._awaited and line[3:4] == b" ":
                self._go_on()

    def _go_on(self) -> None:
        source, write = self._source, self._transport.write
        if self._awaited == b"220":
            self._awaited = b"250"
            write(_HELLO)
        elif self._awaited == b"354":
            self._awaited = b"250"
            write(source.content)
        else:
            flight = source.envelope()
            self._awaited = b"354"
            if flight:
                write(flight)
            else:
                self._transport.write(b"QUIT\r\n")
                self._transport.close()

    def _fail(self, line: bytes) -> None:
        if not self._source.over.done():
            self._source.over.set_exception(ConnectionError(line.decode("ascii", "replace")))

    def connection_lost(self, error: Exception | None) -> None:
        source = self._source
        source.sessions -= 1
        if source.over.done():
            return
        if error is not None or source.left:
            source.over.set_exception(error or ConnectionError("the server closed the connection"))
        elif not source.sessions:
            source.over.set_result(None)


async def _send(port: int, count: int, sessions: int, domains: int, first: int, size: int) -> float:
    loop = asyncio.get_running_loop()
    source = Source(count, domains, first, size)
    begin_s = time.monotonic()
    for _ in range(min(sessions, count)):
        await loop.create_connection(lambda: Session(source), HOST, port)
    await source.over
    return time.monotonic() - begin_s


def main(arguments: Sequence[str]) -> int:
    """Send; the seconds as a line."""
    port, count, sessions, domains, first, size = map(int, arguments)
    print(uvloop.run(_send(port, count, sessions, domains, first, size)))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
