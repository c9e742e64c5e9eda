"""A client that sends at a steady pace, whatever the server does; a process of its own.

    python -m fastmta.lab.bench.traffic.client PORT ORIGIN RATE COUNT FIRST SIZE DOMAIN,..

Connects from ORIGIN, sends COUNT messages, RATE of them a second, to the domains with these numbers
in turn, recipients numbered from FIRST on; the flights are MAIL, RCPT and DATA, then the content.
Prints a line of JSON: of each message its number, when its end of data was sent, and when the 250
came (CLOCK_MONOTONIC, s). It fails when anything is refused.
"""

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass

import uvloop

from ...loopback import HOST, LabError
from ..backlog.build import content_of, domain_of
from ..workplace import module

_SESSIONS_MAX = 40
_LATE_S = 60.0  # after the last message was due


@dataclass(frozen=True, slots=True)
class Sent:
    """One message that was accepted; times of CLOCK_MONOTONIC in seconds."""

    number: int
    ended_s: float  # its end of data was handed over
    accepted_s: float  # its 250 came


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """What a client sends."""

    port: int
    origin: str  # address that it comes from
    rate: float
    count: int
    first: int  # number of its first recipient
    size: int
    domains: tuple[int, ...]


class Client:
    """The process of a client at work."""

    def __init__(self, pace: Pace) -> None:
        domains = ",".join(map(str, pace.domains))
        values = (pace.port, pace.origin, pace.rate, pace.count, pace.first, pace.size, domains)
        self._limit_s = pace.count / pace.rate + 2 * _LATE_S
        this = sys.modules[__name__]
        self._process = subprocess.Popen(
            [*module(this), *map(str, values)], stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )

    def finish(self) -> list[Sent]:
        """Wait for its end. LabError: something was refused, or it takes too long."""
        try:
            said, complaint = self._process.communicate(timeout=self._limit_s)
        except subprocess.TimeoutExpired:
            raise LabError("a client did not come to its end") from None
        finally:
            self.kill()
        if self._process.returncode:
            raise LabError(f"a client failed: {complaint.decode(errors='replace')[-500:]}")
        return [Sent(*values) for values in json.loads(said)]

    def kill(self) -> None:
        """Nothing happens when it has ended."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.communicate()


class Session:
    """One connection, which carries a message at a time."""

    def __init__(self, pace: Pace) -> None:
        self._pace = pace
        self._content = content_of(0, pace.size) + b".\r\n"

    async def open(self) -> None:
        origin = (self._pace.origin, 0)
        self._reader, self._writer = await asyncio.open_connection(
            HOST, self._pace.port, local_addr=origin
        )
        await self._expect(b"220")
        self._writer.write(b"EHLO client.test\r\n")
        await self._expect(b"250")

    async def send(self, number: int, domain: int) -> Sent:
        path = f"fresh{number}@{domain_of(domain)}".encode()
        self._writer.write(b"MAIL FROM:<sender@origin.test>\r\nRCPT TO:<%b>\r\nDATA\r\n" % path)
        for code in (b"250", b"250", b"354"):
            await self._expect(code)
        self._writer.write(self._content)
        ended_s = time.monotonic()
        await self._expect(b"250")
        return Sent(number, ended_s, time.monotonic())

    async def _expect(self, code: bytes) -> None:
        while True:
            line = await self._reader.readline()
            if line[:3] != code:
                raise ConnectionError(f"{line!r} instead of {code!r}")
            if line[3:4] == b" ":
                return


async def _run(pace: Pace) -> list[Sent]:
    idle: list[Session] = []
    places = asyncio.Semaphore(_SESSIONS_MAX)

    async def send(index: int) -> Sent:
        async with places:
            if idle:
                session = idle.pop()
            else:
                session = Session(pace)
                await session.open()
            domain = pace.domains[index % len(pace.domains)]
            sent = await session.send(pace.first + index, domain)
            idle.append(session)
            return sent

    begin_s = time.monotonic()
    async with asyncio.timeout(pace.count / pace.rate + _LATE_S), asyncio.TaskGroup() as group:
        sending = []
        for index in range(pace.count):
            wait_s = begin_s + index / pace.rate - time.monotonic()
            if wait_s > 0:
                await asyncio.sleep(wait_s)
            sending.append(group.create_task(send(index)))
    return [task.result() for task in sending]


def main(arguments: Sequence[str]) -> int:
    """Send; what was accepted as a line."""
    port, origin, rate, count, first, size, domains = arguments
    pace = Pace(
        port=int(port),
        origin=origin,
        rate=float(rate),
        count=int(count),
        first=int(first),
        size=int(size),
        domains=tuple(int(text) for text in domains.split(",")),
    )
    found = uvloop.run(_run(pace))
    print(json.dumps([(each.number, each.ended_s, each.accepted_s) for each in found]))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
