"""Bring a server into situations: receivers that listen, and clients that talk, all at once."""

from __future__ import annotations

import socket
import ssl
import struct
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager

from tests.support.certificates import Certificates
from tests.support.nameserver import Behaviour, NameServer
from tests.support.receiver import Receiver, Script
from tests.support.tls_receiver import TlsReceiver, TlsSide

from .table import Situation

USERS = {"jo": "secret"}  # of server "secure"
_AT_A_TIME = 24
_TIMEOUT_S = 30.0
_LINE = b"0123456789" * 7 + b"\r\n"
_HEAD = b"From: <s@example.com>\r\nSubject: x\r\n"
_ID = b"Message-ID: <1@client.example>\r\n"


@contextmanager
def listening(
    situations: Sequence[Situation], port: int, certificates: Certificates | None = None
) -> Iterator[list[Receiver]]:
    """The receivers of all of them; `certificates` for those with TLS."""
    with ExitStack() as stack:
        yield [
            stack.enter_context(_receiver(situation, scripts, host, port, certificates))
            for situation in situations
            for host, scripts in zip(situation.hosts, situation.scripts, strict=True)
            if scripts
        ]


def _receiver(
    situation: Situation,
    scripts: Sequence[Script],
    host: str,
    port: int,
    certificates: Certificates | None,
) -> Receiver:
    if not situation.tls:
        return Receiver(list(scripts), host, port)
    assert certificates, "TLS is for server `secure`"
    side = TlsSide(certificate=getattr(certificates, situation.tls))
    return TlsReceiver(side, list(scripts), host, port)


def certified(situations: Sequence[Situation]) -> list[str]:
    """The hosts that a right certificate is for."""
    return [f"mx.{one.domain}" for one in situations if one.tls]


@contextmanager
def naming(
    situations: Sequence[Situation], address: str = "127.0.0.1", port: int = 0
) -> Iterator[NameServer]:
    """The name server that knows their records."""
    with NameServer(address, port) as names:
        for record in (one for situation in situations for one in situation.dns):
            name, kind, *data = record.split(" ")
            if kind == "SERVFAIL":
                names.behave(name, Behaviour.SERVFAIL)
            else:
                names.add(name, kind, " ".join(data))
        yield names


def talk(situations: Sequence[Situation], port: int) -> dict[str, list[str]]:
    """Say everything; the replies by the name of the situation, the greeting first."""
    with ThreadPoolExecutor(_AT_A_TIME) as pool:
        replies = pool.map(lambda situation: _Client(situation, port).run(), situations)
        return {situation.name: said for situation, said in zip(situations, replies, strict=True)}


class _Client:
    def __init__(self, situation: Situation, port: int) -> None:
        self._lines = situation.say
        self._socket = socket.create_connection(
            ("127.0.0.1", port), _TIMEOUT_S, (situation.client, 0)
        )
        self._buffer = b""
        self._replies: list[str] = []

    def run(self) -> list[str]:
        try:
            self._hear()
            for line in self._lines:
                if not self._say(line):
                    break
            else:
                self._hear_end()
        except ConnectionError:
            pass
        finally:
            self._socket.close()
        return self._replies

    def _say(self, line: str) -> bool:
        """Whether more may be said."""
        verb, _, number = line.partition(" ")
        if verb == "@close":
            return False
        if verb == "@reset":
            linger = struct.pack("ii", 1, 0)
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            return False
        if verb == "@hang":
            return True
        if verb == "@starttls":
            self._start_tls()
            return True
        if verb == "@part":
            self._socket.sendall(_HEAD)
            return True
        if verb in ("@content", "@bare"):
            body = _LINE * (int(number or 0) // len(_LINE) + 1)
            octets = _HEAD + (_ID if verb == "@content" else b"") + b"\r\n" + body + b".\r\n"
        else:
            octets = line.removeprefix("+").encode("utf-8").replace(b"\\n", b"\r\n") + b"\r\n"
        self._socket.sendall(octets)
        if not line.startswith("+"):
            self._hear()
        return True

    def _start_tls(self) -> None:
        """Whoever the server is; its octets in the clear end where TLS begins."""
        self._socket.sendall(b"STARTTLS\r\n")
        self._hear()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        self._socket = context.wrap_socket(self._socket)

    def _hear(self) -> None:
        lines: list[str] = []
        while True:
            end = self._buffer.find(b"\r\n")
            if end < 0:
                octets = self._socket.recv(65536)
                if not octets:
                    self._replies.append("\n".join([*lines, "(closed)"]))
                    raise ConnectionError
                self._buffer += octets
                continue
            line, self._buffer = self._buffer[:end], self._buffer[end + 2 :]
            lines.append(line.decode("latin-1"))
            if line[3:4] != b"-":
                self._replies.append("\n".join(lines))
                return

    def _hear_end(self) -> None:
        """Until the server closes, after QUIT or when it has lost patience."""
        while True:
            self._hear()
