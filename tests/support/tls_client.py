"""Our TLS client and our TLS server, talking in memory; and the certificates that go wrong."""

from __future__ import annotations

import datetime
import ssl
from functools import cache
from pathlib import Path

import trustme

from fastmta.security import ServerTls, TlsFailure
from fastmta.security.client_tls import ClientContexts, ClientTls, ClientTlsOptions
from tests.support.tls import Cut, authority, whole

_KEY = trustme.KeyType.ECDSA


def ca_file(folder: Path, ca: trustme.CA | None = None, name: str = "ca.pem") -> str:
    """Write an authority's certificate; its path."""
    path = folder / name
    (ca or authority()).cert_pem.write_to_path(path)
    return str(path)


@cache
def stranger() -> trustme.CA:
    """An authority that nobody trusts."""
    return trustme.CA(key_type=_KEY)


@cache
def intermediate() -> trustme.CA:
    """Signed by the one that is trusted."""
    return authority().create_child_ca(key_type=_KEY)


def server_context(
    *names: str, ca: trustme.CA | None = None, is_expired: bool = False, version: str = ""
) -> ssl.SSLContext:
    """Of a server that shows a certificate for `names`."""
    ends = datetime.datetime(2020, 1, 2, tzinfo=datetime.UTC) if is_expired else None
    begins = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC) if is_expired else None
    issued = (ca or authority()).issue_cert(
        *names, key_type=_KEY, not_before=begins, not_after=ends
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    issued.configure_cert(context)
    context.num_tickets = 1
    if version:
        number = ssl.TLSVersion.TLSv1_2 if version == "1.2" else ssl.TLSVersion.TLSv1_3
        context.minimum_version = context.maximum_version = number
    return context


class ClientPair:
    """A ClientTls and a server over memory; `shake`, then `say` and `hear`."""

    def __init__(self, server: ssl.SSLContext, client: ClientTls) -> None:
        self.server = ServerTls(server)
        self.client = client
        self.buffer = memoryview(bytearray(65536))
        self.flights: list[bytes] = []  # of the client

    def shake(self, cut: Cut = whole) -> ClientPair:
        """Until both are done; what the server sends arrives cut so. TlsFailure passes."""
        is_client_done = self.client.handshake()
        is_server_done = False
        for _ in range(5):
            flight = self.client.take_output()
            if flight:
                self.flights.append(flight)
                self.server.feed(flight)
            is_server_done = is_server_done or self.server.handshake()
            if is_client_done and is_server_done:
                return self
            for piece in cut(self.server.take_output()):
                self.client.feed(piece)
                is_client_done = is_client_done or self.client.handshake()
        raise AssertionError("the handshake does not end")

    def hear(self, octets: bytes, cut: Cut = whole) -> bytes:
        """What the client reads when the server says `octets`."""
        self.server.write(octets)
        heard = bytearray()
        for piece in cut(self.server.take_output()):
            self.client.feed(piece)
            while count := self.client.read_into(self.buffer):
                heard += self.buffer[:count]
        return bytes(heard)

    def say(self, octets: bytes) -> bytes:
        """What the server reads when the client says `octets`."""
        self.client.write(octets)
        said, heard = self.client.take_output(), bytearray()
        for begin in range(0, len(said), 65536):  # as a socket gives it
            self.server.feed(said[begin : begin + 65536])
            while count := self.server.read_into(self.buffer):
                heard += self.buffer[:count]
        return bytes(heard)


def pair_of(
    server: ssl.SSLContext,
    options: ClientTlsOptions,
    host: str = "mx.example.org",
    next_hops: tuple[str, ...] = ("example.org",),
    contexts: ClientContexts | None = None,
) -> ClientPair:
    client = (contexts or ClientContexts()).begin(options, host, next_hops)
    return ClientPair(server, client)


def failure_of(pair: ClientPair) -> TlsFailure:
    """Shake hands in vain; why the client gave up."""
    try:
        pair.shake()
    except TlsFailure as failure:
        return failure
    raise AssertionError("no TlsFailure")
