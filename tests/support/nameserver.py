"""A small name server on loopback, over UDP and TCP, that does as its script says.

    with NameServer() as server:
        server.add("example.com", "MX", "10 mx.example.com.")
        server.behave("slow.example", Behaviour.SILENT)
        client = DnsClient([server.endpoint])

Answers are made by dnspython. It runs in a thread of its own, so that it also serves other
processes and tests without a loop.
"""

from __future__ import annotations

import contextlib
import enum
import socket
import socketserver
import struct
import threading
from collections.abc import Callable
from types import TracebackType
from typing import TypeAlias, cast

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.rrset

SOA = "ns.invalid. root.invalid. 1 3600 600 86400 60"
MESSAGE_OCTETS_MAX = 65_535


class Behaviour(enum.Enum):
    """What a name server can do beside answering."""

    SILENT = "no answer at all"
    SERVFAIL = "SERVFAIL"
    REFUSED = "REFUSED"
    FORMERR_ON_EDNS = "FORMERR to a question with EDNS"
    WRONG_ID = "the id of another question"
    WRONG_QUESTION = "another question repeated"
    NOT_A_RESPONSE = "the QR bit is not set"
    GARBAGE = "octets that are no DNS message"
    WRONG_ID_FIRST = "a forged answer, then the right one"
    TRUNCATED = "over UDP always truncated"
    TRUNCATED_ALWAYS = "truncated over TCP too"
    TCP_CUT = "truncated over UDP, closed in mid-answer over TCP"
    TCP_SILENT = "truncated over UDP, silent over TCP"


_Send: TypeAlias = Callable[[bytes, bool], None]  # octets, and whether to break off before the end
_Key: TypeAlias = tuple[dns.name.Name, int]
_ON_TCP_ONLY = frozenset((Behaviour.TCP_CUT, Behaviour.TCP_SILENT))
_ALWAYS_TC = frozenset((Behaviour.TRUNCATED, *_ON_TCP_ONLY))


class NameServer:
    """Serves while the context is open. May be given new records and orders meanwhile."""

    def __init__(self, address: str = "127.0.0.1", port: int = 0) -> None:
        self._records: dict[_Key, dns.rrset.RRset] = {}
        self._behaviours: dict[dns.name.Name | None, list[Behaviour]] = {}
        self._missing: set[dns.name.Name] = set()
        self.forged_address = "192.0.2.66"
        self.questions: list[tuple[str, str, str]] = []  # (name, type, "udp" or "tcp")
        self._tcp = _TcpServer((address, port), _TcpHandler)
        self._tcp.scripted = self
        self._udp = _UdpServer(self._tcp.server_address[:2], _UdpHandler)
        self._udp.scripted = self
        self._threads = [
            threading.Thread(target=each.serve_forever, args=(0.02,), daemon=True)
            for each in (self._tcp, self._udp)
        ]
        self.endpoint: tuple[str, int] = (address, self._tcp.server_address[1])

    def __enter__(self) -> NameServer:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for server in (self._tcp, self._udp):
            server.shutdown()
            server.server_close()
        for thread in self._threads:
            thread.join()

    def add(self, name: str, rdtype: str, *records: str, ttl: int = 300) -> None:
        """Have `records` in zone file form for (name, type); instead of what was there."""
        owner = dns.name.from_text(name)
        rrset = dns.rrset.from_text_list(owner, ttl, "IN", rdtype, list(records))
        self._records[owner, int(rrset.rdtype)] = rrset

    def remove(self, name: str) -> None:
        """Forget all records of `name`: NXDOMAIN from now on."""
        owner = dns.name.from_text(name)
        self._records = {key: kept for key, kept in self._records.items() if key[0] != owner}

    def behave(self, name: str | None, *behaviours: Behaviour) -> None:
        """For questions about `name` (None: about any): one behaviour after the other, the last
        one for ever. None at all: answer again."""
        self._behaviours[None if name is None else dns.name.from_text(name)] = list(behaviours)

    def reply(self, octets: bytes, send: _Send, *, transport: str) -> None:
        """Do with the question in `octets` what the script says. Called by the handlers."""
        try:
            question = dns.message.from_wire(octets)
        except dns.exception.DNSException:
            return
        asked = question.question[0]
        text = asked.name.to_text(omit_final_dot=True)
        self.questions.append((text, dns.rdatatype.to_text(asked.rdtype), transport))
        behaviour = self._next_behaviour(asked.name, transport)
        if behaviour is Behaviour.SILENT:
            return
        answer: dns.message.Message | None = self._answer(question)
        if behaviour is not None and answer is not None:
            answer = self._spoil(behaviour, question, answer, send, transport)
        if answer is not None:
            send(_wire(answer, question, transport), False)

    def _next_behaviour(self, name: dns.name.Name, transport: str) -> Behaviour | None:
        listed = self._behaviours.get(name) or self._behaviours.get(None)
        if not listed:
            return None
        if len(listed) > 1 and transport == "udp":
            return listed.pop(0)
        return listed[0]

    def _answer(self, question: dns.message.Message) -> dns.message.Message:
        response = dns.message.make_response(question, recursion_available=True)
        name, rdtype = question.question[0].name, int(question.question[0].rdtype)
        for _ in range(20):
            found = self._records.get((name, rdtype))
            alias = self._records.get((name, dns.rdatatype.CNAME))
            if found is not None:
                response.answer.append(found)
                return response
            if alias is None:
                break
            if alias not in response.answer:
                response.answer.append(alias)
            name = alias[0].target
        else:
            return response  # a loop of aliases
        if not any(owner == name for owner, _ in self._records):
            response.set_rcode(dns.rcode.NXDOMAIN)
        response.authority.append(dns.rrset.from_text("invalid.", 60, "IN", "SOA", SOA))
        return response

    def _spoil(
        self,
        behaviour: Behaviour,
        question: dns.message.Message,
        answer: dns.message.Message,
        send: _Send,
        transport: str,
    ) -> dns.message.Message | None:
        if behaviour in (Behaviour.SERVFAIL, Behaviour.REFUSED):
            answer = dns.message.make_response(question)
            answer.set_rcode(dns.rcode.from_text(behaviour.value))
        elif behaviour is Behaviour.FORMERR_ON_EDNS and question.edns >= 0:
            answer = dns.message.make_response(question)
            answer.use_edns(False)
            answer.question = []
            answer.set_rcode(dns.rcode.FORMERR)
        elif behaviour is Behaviour.WRONG_ID:
            answer.id ^= 1
        elif behaviour is Behaviour.WRONG_QUESTION:
            answer.question = [dns.message.make_query("other.example", "A").question[0]]
        elif behaviour is Behaviour.NOT_A_RESPONSE:
            answer.flags &= ~dns.flags.QR
        elif behaviour is Behaviour.GARBAGE:
            send(struct.pack("!H", answer.id) + b"\xc0\x0c\xff" * 20, False)
            return None
        elif behaviour is Behaviour.WRONG_ID_FIRST:
            self._send_forgeries(question, send)
        elif behaviour is Behaviour.TRUNCATED_ALWAYS or (
            behaviour in _ALWAYS_TC and transport == "udp"
        ):
            answer = dns.message.make_response(question)
            answer.flags |= dns.flags.TC
        elif behaviour is Behaviour.TCP_CUT:
            send(_wire(answer, question, transport), True)
            return None
        elif behaviour is Behaviour.TCP_SILENT:
            return None
        return answer

    def _send_forgeries(self, question: dns.message.Message, send: _Send) -> None:
        for number in (1, 2, 3):
            forged = dns.message.make_response(question)
            forged.id = question.id ^ number
            owner = question.question[0].name
            forged.answer.append(dns.rrset.from_text(owner, 300, "IN", "A", self.forged_address))
            send(forged.to_wire(), False)


def _wire(answer: dns.message.Message, question: dns.message.Message, transport: str) -> bytes:
    octets_max = MESSAGE_OCTETS_MAX if transport == "tcp" else max(question.payload, 512)
    try:
        return answer.to_wire(max_size=octets_max)
    except dns.exception.TooBig:
        short = dns.message.make_response(question)
        short.flags |= dns.flags.TC
        return short.to_wire()


class _UdpServer(socketserver.ThreadingUDPServer):
    daemon_threads = True
    max_packet_size = MESSAGE_OCTETS_MAX
    scripted: NameServer


class _TcpServer(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True
    scripted: NameServer


class _UdpHandler(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        octets: bytes
        channel: socket.socket
        octets, channel = self.request
        scripted = cast(_UdpServer, self.server).scripted

        def send(answer: bytes, is_cut: bool) -> None:
            channel.sendto(answer[:-3] if is_cut else answer, self.client_address)

        scripted.reply(octets, send, transport="udp")


class _TcpHandler(socketserver.StreamRequestHandler):
    timeout = 10.0

    def handle(self) -> None:
        with contextlib.suppress(OSError):  # the client may leave at any time
            head = self.rfile.read(2)
            if len(head) == 2:
                scripted = cast(_TcpServer, self.server).scripted
                (octet_count,) = struct.unpack("!H", head)
                scripted.reply(self.rfile.read(octet_count), self._send, transport="tcp")
                self.rfile.read(1)  # until the client closes

    def _send(self, answer: bytes, is_cut: bool) -> None:
        self.wfile.write(struct.pack("!H", len(answer)) + (answer[:-3] if is_cut else answer))
        self.wfile.flush()
        if is_cut:
            self.connection.shutdown(socket.SHUT_RDWR)
