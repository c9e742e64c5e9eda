"""The DNS client: one question over UDP, over TCP when the answer is truncated, from the loop.

Each question has a fresh socket, hence a fresh source port, connected to the one server that may
answer it, and a fresh id. What does not match id and question is ignored, not believed and not
counted (RFC 5452 9). There is no cache here: `route.DnsCache` stands in front.
"""

from __future__ import annotations

import asyncio
import ipaddress
import secrets
import socket
import struct
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import dns.exception
import dns.flags
import dns.message
import dns.opcode
import dns.rcode
import dns.rdatatype
import dns.reversename
import msgspec

from fastmta.route import Answer, AnswerKind, Query, RecordType
from fastmta.route.answer import Done, failed, read_answer
from fastmta.route.localfile import parse_hosts, parse_resolv_conf

UDP_OCTETS_MAX = 1232  # advertised by EDNS; survives any path (DNS flag day 2020)
DATAGRAM_OCTETS_MAX = 65_535
LARGE_ANSWER_OCTETS = 8_192  # read beside the loop: reading 64 KiB takes tens of milliseconds
UNKNOWN_NAME = "unknown"

_TRY_WITHOUT_EDNS = (dns.rcode.FORMERR, dns.rcode.NOTIMP, dns.rcode.BADVERS)


class DnsOptions(msgspec.Struct, frozen=True):
    """Limits of one client."""

    timeout_s: float = 2.0  # for one try at one server, TCP included
    tries: int = 3  # over all servers
    in_flight_max: int = 500
    waiting_max: int = 20_000  # beyond it a question fails at once


class DnsClient:
    """`Query` over the network. Belongs to one running loop."""

    def __init__(
        self, servers: Sequence[tuple[str, int]] = (), options: DnsOptions | None = None
    ) -> None:
        """`servers` are (address, port); when empty, those of /etc/resolv.conf."""
        self._servers = list(servers) or parse_resolv_conf(_read("/etc/resolv.conf"))
        self._options = options or DnsOptions()
        self._preferred = 0  # the server that answered last
        self._tasks: set[asyncio.Task[Answer]] = set()
        self._waiting: deque[tuple[str, RecordType, Done]] = deque()
        self._is_open = True
        self.query_count = 0
        self.failure_count = 0

    @property
    def in_flight_count(self) -> int:
        return len(self._tasks)

    def query(self, name: str, rdtype: RecordType, done: Done) -> None:
        """Ask the name servers; `done` is called exactly once, from the loop, never before return.

        After `close`, and when too many wait, the answer is a failure.
        """
        loop = asyncio.get_running_loop()
        if not self._is_open or len(self._waiting) >= self._options.waiting_max:
            text = "too many queries" if self._is_open else "closed"
            loop.call_soon(done, failed(loop.time(), text))
        elif len(self._tasks) >= self._options.in_flight_max:
            self._waiting.append((name, rdtype, done))
        else:
            self._start(name, rdtype, done)

    async def close(self) -> None:
        """End everything under way; each `done` that is still owed gets a failure."""
        self._is_open = False
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        now_s = asyncio.get_running_loop().time()
        while self._waiting:
            self._waiting.popleft()[2](failed(now_s, "closed"))

    def _start(self, name: str, rdtype: RecordType, done: Done) -> None:
        self.query_count += 1
        task = asyncio.get_running_loop().create_task(self._answer(name, rdtype))
        self._tasks.add(task)
        task.add_done_callback(partial(self._finish, done))

    def _finish(self, done: Done, task: asyncio.Task[Answer]) -> None:
        """`task` has ended: start who waits and hand the answer out."""
        self._tasks.discard(task)
        if self._waiting and self._is_open:
            self._start(*self._waiting.popleft())
        now_s = task.get_loop().time()
        error = None if task.cancelled() else task.exception()
        if task.cancelled():
            answer = failed(now_s, "closed")
        elif error is not None:
            answer = failed(now_s, f"{type(error).__name__}: {error}")
        else:
            answer = task.result()
        self.failure_count += answer.kind is AnswerKind.FAILED
        done(answer)
        if error is not None:
            raise error  # a fault of ours: the loop's exception handler must see it

    async def _answer(self, name: str, rdtype: RecordType) -> Answer:
        """Try the servers in turn, beginning with the one that answered last."""
        first = self._preferred
        has_edns = True
        text = ""
        for number in range(self._options.tries):
            index = (first + number) % len(self._servers)
            question = _Question(name, rdtype, has_edns=has_edns)
            try:
                async with asyncio.timeout(self._options.timeout_s):
                    response = await _ask(self._servers[index], question)
            except TimeoutError:
                text = "no answer in time"
                continue
            except OSError as error:
                text = error.strerror or str(error)
                continue
            if response.answer.kind is not AnswerKind.FAILED:
                self._preferred = index
                return response.answer
            has_edns = has_edns and response.rcode not in _TRY_WITHOUT_EDNS
            text = response.answer.text
        return failed(asyncio.get_running_loop().time(), text)


class _Response(msgspec.Struct, frozen=True):
    """A response that belongs to its question."""

    is_truncated: bool
    rcode: int
    answer: Answer


class _Question:
    """One question with its id, and what reads the response to it."""

    __slots__ = ("_message", "_name", "_rdtype", "octets")

    def __init__(self, name: str, rdtype: RecordType, *, has_edns: bool) -> None:
        self._name = name
        self._rdtype = rdtype
        self._message = dns.message.make_query(
            name,
            dns.rdatatype.RdataType(rdtype),
            id=secrets.randbelow(65_536),
            use_edns=0 if has_edns else False,
            payload=UDP_OCTETS_MAX if has_edns else None,
        )
        self.octets = self._message.to_wire()

    async def read(self, octets: bytes) -> _Response | None:
        """What `octets` say; None when they are no response to this question."""
        if octets[:2] != self.octets[:2]:
            return None
        loop = asyncio.get_running_loop()
        if len(octets) > LARGE_ANSWER_OCTETS:
            return await loop.run_in_executor(None, self._read, octets, loop.time())
        return self._read(octets, loop.time())

    def _read(self, octets: bytes, now_s: float) -> _Response | None:
        try:
            message = dns.message.from_wire(octets, ignore_trailing=True)
            if not self._is_ours(message):
                return None
            answer = read_answer(message, self._name, self._rdtype, now_s)
        except dns.exception.DNSException:
            return None
        return _Response(bool(message.flags & dns.flags.TC), message.rcode(), answer)

    def _is_ours(self, message: dns.message.Message) -> bool:
        is_response = message.flags & dns.flags.QR and message.opcode() == dns.opcode.QUERY
        if is_response and message.rcode() == dns.rcode.FORMERR and not message.question:
            return True  # a server that does not understand EDNS may not repeat the question
        return bool(is_response) and message.question == self._message.question


async def _ask(server: tuple[str, int], question: _Question) -> _Response:
    """The response of `server`. Raises OSError; waits for ever when none comes."""
    response = await _ask_udp(server, question)
    return await _ask_tcp(server, question) if response.is_truncated else response


async def _ask_udp(server: tuple[str, int], question: _Question) -> _Response:
    loop = asyncio.get_running_loop()
    with _socket(server, socket.SOCK_DGRAM) as udp:
        udp.connect(server)
        udp.send(question.octets)
        while True:
            response = await question.read(await loop.sock_recv(udp, DATAGRAM_OCTETS_MAX))
            if response is not None:
                return response


async def _ask_tcp(server: tuple[str, int], question: _Question) -> _Response:
    """RFC 7766; a message ends after the length that is told before it."""
    loop = asyncio.get_running_loop()
    with _socket(server, socket.SOCK_STREAM) as tcp:
        await loop.sock_connect(tcp, server)
        await loop.sock_sendall(tcp, struct.pack("!H", len(question.octets)) + question.octets)
        (octet_count,) = struct.unpack("!H", await _receive(tcp, 2))
        response = await question.read(await _receive(tcp, octet_count))
        if response is None or response.is_truncated:
            raise OSError("malformed answer over TCP")
        return response


async def _receive(tcp: socket.socket, octet_count: int) -> bytes:
    loop = asyncio.get_running_loop()
    octets = bytearray()
    while len(octets) < octet_count:
        part = await loop.sock_recv(tcp, octet_count - len(octets))
        if not part:
            raise ConnectionResetError("connection closed within an answer")
        octets += part
    return bytes(octets)


def _socket(server: tuple[str, int], kind: socket.SocketKind) -> socket.socket:
    family = socket.AF_INET6 if ":" in server[0] else socket.AF_INET
    made = socket.socket(family, kind | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    made.setblocking(False)
    return made


class ClientNames:
    """Verified names of clients: the name in PTR counts when it leads back to the address."""

    def __init__(self, query: Query) -> None:
        self._query = query

    def client_name(self, address: str, done: Callable[[str], None]) -> None:
        """Call `done` once with the name, or with "unknown" (perhaps before this returns)."""
        canonical = str(ipaddress.ip_address(address.partition("%")[0]))
        reverse = dns.reversename.from_address(canonical).to_text(omit_final_dot=True)
        self._query.query(reverse, RecordType.PTR, partial(self._confirm, canonical, done))

    def _confirm(self, address: str, done: Callable[[str], None], pointers: Answer) -> None:
        if pointers.kind is not AnswerKind.FOUND:
            done(UNKNOWN_NAME)
            return
        name = pointers.values[0]
        rdtype = RecordType.AAAA if ":" in address else RecordType.A
        self._query.query(name, rdtype, partial(_tell, address, name, done))


def _tell(address: str, name: str, done: Callable[[str], None], forward: Answer) -> None:
    done(name if address in forward.values else UNKNOWN_NAME)


def read_local_hosts(path: str = "/etc/hosts") -> dict[str, tuple[str, ...]]:
    """Addresses by name from the hosts file, for `ResolverOptions.local_hosts`."""
    return parse_hosts(_read(path))


def _read(path: str) -> str:
    """The text of a system file; one that is not there is empty."""
    try:
        return Path(path).read_text("ascii", "replace")
    except FileNotFoundError:
        return ""
