"""What stands between socket and session: a PROXY header, TLS, both; and what comes too early."""

from __future__ import annotations

import gc
import ipaddress
import ssl
from collections.abc import Iterator
from typing import Any

import pytest
import trustme

from fastmta.event import ClientConnected, ClientDisconnected, CommandRefused, Notice
from fastmta.event.security import TlsStarted
from fastmta.listener import ListenerSettings
from fastmta.listener.connection import Connection
from fastmta.listener.layers import ProxyLayer, TlsLayer
from fastmta.security import ServerContexts, TlsOptions
from fastmta.session import Session
from fastmta.session.settings import Networks
from tests.support.session import FakeQuota
from tests.unit.listener.test_connection import FakeTransport, World

PROXY = "192.0.2.9"
PROXIES = Networks((ipaddress.ip_network(f"{PROXY}/32"),))
V1 = b"PROXY TCP4 192.0.2.77 198.51.100.1 4711 25\r\n"


@pytest.fixture(scope="module")
def contexts(tmp_path_factory: pytest.TempPathFactory) -> ServerContexts:
    path = tmp_path_factory.mktemp("tls") / "server.pem"
    authority = trustme.CA()
    authority.issue_cert("relay.example").private_key_and_cert_chain_pem.write_to_path(str(path))
    return ServerContexts(TlsOptions(certificate=str(path)))


class TlsClient:
    """A client's TLS session in memory."""

    def __init__(self, version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        context.maximum_version = version
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.incoming, self.outgoing, server_hostname="relay.example")

    def shake(self, connection: Connection, transport: FakeTransport, world: World) -> None:
        for _ in range(10):
            try:
                self.tls.do_handshake()
            except ssl.SSLWantReadError:
                self.give(connection, world)
                self.take(transport)
            else:
                self.give(connection, world)
                return
        raise AssertionError("no end of the handshake")

    def give(self, connection: Connection, world: World, piece: int = 0) -> None:
        octets = self.outgoing.read()
        for at in range(0, len(octets), piece or len(octets) or 1):
            world.send(connection, octets[at : at + (piece or len(octets))])

    def take(self, transport: FakeTransport) -> None:
        self.incoming.write(bytes(transport.written))
        transport.written.clear()

    def read(self, transport: FakeTransport) -> bytes:
        self.take(transport)
        try:
            return self.tls.read(65536)
        except ssl.SSLWantReadError:
            return b""

    def say(
        self, connection: Connection, transport: FakeTransport, world: World, octets: bytes
    ) -> bytes:
        self.tls.write(octets)
        self.give(connection, world)
        return self.read(transport)


def world_with(contexts: ServerContexts, settings: ListenerSettings, **limits: Any) -> World:
    world = World(settings, has_tls=True, **limits)
    world.listener._tls = contexts
    world.listener.plain = memoryview(bytearray(4096))
    return world


@pytest.fixture
def started(contexts: ServerContexts) -> World:
    return world_with(contexts, ListenerSettings())


def start_tls(world: World, client: TlsClient) -> tuple[Connection, FakeTransport]:
    connection, transport = world.connect()
    world.send(connection, b"EHLO c\r\n")
    transport.written.clear()
    world.send(connection, b"STARTTLS\r\n")
    assert bytes(transport.written) == b"220 2.0.0 Ready to start TLS\r\n"
    transport.written.clear()
    client.shake(connection, transport, world)
    return connection, transport


def test_a_session_goes_on_within_tls(started: World) -> None:
    client = TlsClient()
    connection, transport = start_tls(started, client)
    assert b"250 " in client.say(connection, transport, started, b"EHLO c\r\n")
    reply = client.say(connection, transport, started, b"NOOP\r\nNOOP\r\n")
    assert reply == b"250 2.0.0 Ok\r\n" * 2
    assert b"NOOP" not in bytes(transport.written)
    assert [type(event) for event in started.events] == [ClientConnected, TlsStarted]


def test_quit_says_goodbye_and_close_notify(started: World) -> None:
    client = TlsClient()
    connection, transport = start_tls(started, client)
    assert client.say(connection, transport, started, b"QUIT\r\n") == b"221 2.0.0 Bye\r\n"
    assert transport.is_closed
    assert client.tls.read(1) == b""


def test_close_notify_of_the_client_ends_the_session(started: World) -> None:
    client = TlsClient()
    connection, transport = start_tls(started, client)
    with pytest.raises(ssl.SSLWantReadError):
        client.tls.unwrap()
    client.give(connection, started)
    assert transport.is_closed


@pytest.mark.parametrize("piece", [1, 2, 5])
def test_ciphertext_in_pieces(started: World, piece: int) -> None:
    client = TlsClient()
    connection, transport = start_tls(started, client)
    client.tls.write(b"EHLO c\r\n")
    client.give(connection, started, piece)
    assert b"250 " in client.read(transport)


def test_clear_text_instead_of_a_handshake_ends_the_session(started: World) -> None:
    connection, transport = started.connect()
    started.send(connection, b"EHLO c\r\n")
    started.send(connection, b"STARTTLS\r\n")
    transport.written.clear()
    started.send(connection, b"MAIL FROM:<a@b.example>\r\n" * 20)
    assert transport.is_closed
    assert b"250" not in transport.written
    (notice,) = [event for event in started.events if isinstance(event, Notice)]
    assert notice.text.startswith("SSL_accept error from unknown[127.0.0.1]: ")
    connection.connection_lost(None)
    ended = started.events[-1]
    assert isinstance(ended, ClientDisconnected)
    assert (ended.stage, ended.reason) == ("STARTTLS", "lost connection")


def test_a_handshake_without_end_is_cut(contexts: ServerContexts) -> None:
    world = world_with(contexts, ListenerSettings(handshake_s=5.0))
    connection, transport = world.connect()
    world.send(connection, b"EHLO c\r\n")
    world.send(connection, b"STARTTLS\r\n")
    transport.written.clear()
    for octet in b"\x16\x03\x01\x02\x00\x01\x00\x01":
        if not transport.is_closed:
            world.loop.now_s += 1.0
            world.send(connection, bytes((octet,)))
            world.listener._wheel.turn()
    assert transport.is_aborted
    assert not transport.written


def test_a_large_message_within_tls_is_bounded_by_small_buffers(started: World) -> None:
    client = TlsClient()
    connection, transport = start_tls(started, client)
    client.say(connection, transport, started, b"EHLO c\r\n")
    client.say(connection, transport, started, b"MAIL FROM:<a@b.example>\r\n")
    client.say(connection, transport, started, b"RCPT TO:<c@d.example>\r\n")
    assert client.say(connection, transport, started, b"DATA\r\n").startswith(b"354")
    line = b"x" * 998 + b"\r\n"
    for _ in range(4):
        client.tls.write(line * 50)
        client.give(connection, started)
    assert client.say(connection, transport, started, b".\r\n") == b""
    started.accept.store_all()
    assert client.read(transport).startswith(b"250 2.0.0 Ok: queued")
    assert (started.accept.messages[0].content or b"").endswith(line * 200)


def test_implicit_tls_greets_within_it(contexts: ServerContexts) -> None:
    world = world_with(contexts, ListenerSettings(is_implicit_tls=True))
    connection, transport = world.connect()
    assert not transport.written, "nothing in clear"
    client = TlsClient(ssl.TLSVersion.TLSv1_2)
    client.shake(connection, transport, world)
    assert client.read(transport).startswith(b"220 ")
    assert b"STARTTLS" not in client.say(connection, transport, world, b"EHLO c\r\n")
    assert [type(event) for event in world.events] == [ClientConnected, TlsStarted]


def test_implicit_tls_has_its_limit(contexts: ServerContexts) -> None:
    world = world_with(contexts, ListenerSettings(is_implicit_tls=True))
    quota: Any = FakeQuota(dict.fromkeys(range(6), 1))  # type: ignore[misc]  # every Use
    object.__setattr__(world.listener.ports, "quota", quota)
    assert not world.connect("192.0.2.1")[1].is_closed
    second = world.connect("192.0.2.1")[1]
    assert second.is_closed
    assert isinstance(world.events[-1], CommandRefused)


def proxied(**more: Any) -> World:
    return World(ListenerSettings(proxies=PROXIES), **more)


@pytest.mark.parametrize("piece", [1, 3, 7, len(V1)])
def test_the_client_is_who_the_proxy_says(piece: int) -> None:
    world = proxied()
    connection, transport = world.connect(PROXY)
    for at in range(0, len(V1), piece):
        assert not transport.written
        world.send(connection, V1[at : at + piece])
    assert transport.written.startswith(b"220 ")
    connected = world.events[-1]
    assert isinstance(connected, ClientConnected)
    assert connected.client == "unknown[192.0.2.77]"
    connection.connection_lost(None)
    assert world.census.count == 0


def test_octets_behind_the_header_come_before_the_greeting() -> None:
    world = proxied()
    connection, transport = world.connect(PROXY)
    world.send(connection, V1 + b"EHLO c\r\n")
    assert b"554 5.5.0" in transport.written
    assert b"250" not in transport.written
    assert transport.is_closed


def test_a_proxy_without_a_header_is_cut_and_told() -> None:
    world = proxied()
    connection, transport = world.connect(PROXY)
    world.send(connection, b"EHLO c\r\n")
    assert transport.is_aborted
    (notice,) = [event for event in world.events if isinstance(event, Notice)]
    assert "no PROXY header" in notice.text


def test_a_header_that_does_not_come_is_waited_for_five_seconds() -> None:
    world = proxied()
    _, transport = world.connect(PROXY)
    world.loop.now_s += 8.0
    world.listener._wheel.turn()
    assert transport.is_aborted


def test_others_cannot_say_who_they_are() -> None:
    world = proxied()
    connection, transport = world.connect("192.0.2.1")
    world.send(connection, V1)
    assert b"500 5.5.2" in transport.written


def test_a_client_that_the_proxy_does_not_name_has_no_rights() -> None:
    world = World(ListenerSettings(proxies=Networks((ipaddress.ip_network("127.0.0.0/8"),))))
    connection, transport = world.connect("127.0.0.1")
    world.send(connection, b"PROXY UNKNOWN\r\n")
    world.send(connection, b"EHLO c\r\n")
    world.send(connection, b"MAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\n")
    assert b"554 5.7.1" in transport.written


def test_tls_behind_a_proxy(contexts: ServerContexts) -> None:
    settings = ListenerSettings(is_implicit_tls=True, proxies=PROXIES)
    world = world_with(contexts, settings)
    connection, transport = world.connect(PROXY)
    client = TlsClient()
    with pytest.raises(ssl.SSLWantReadError):
        client.tls.do_handshake()
    world.send(connection, V1 + client.outgoing.read())
    client.take(transport)
    client.shake(connection, transport, world)
    assert client.read(transport).startswith(b"220 ")


def test_limits_count_the_client_and_not_the_proxy() -> None:
    from fastmta.listener.census import Census
    from tests.unit.listener.test_connection import limits_of

    world = World(ListenerSettings(proxies=PROXIES), Census(clients=limits_of(2)))
    for _ in range(2):
        connection, transport = world.connect(PROXY)
        world.send(connection, V1)
        assert transport.written.startswith(b"220 ")
    connection, transport = world.connect(PROXY)
    world.send(connection, V1)
    assert transport.written.startswith(b"421 4.7.0")
    assert transport.is_closed


def test_a_handler_that_refuses_the_proxied_client() -> None:
    from fastmta.smtp import Reply
    from tests.support.session import FakeHook

    world = proxied()
    hook = FakeHook(verdict=Reply(421, "4.7.0", ("not you",)))
    object.__setattr__(world.listener.ports, "hook", hook)
    connection, transport = world.connect(PROXY)
    world.send(connection, V1)
    assert bytes(transport.written) == b"421 4.7.0 not you\r\n"
    assert transport.is_closed


@pytest.fixture
def uncollected() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def alive() -> int:
    kinds = (Connection, ProxyLayer, Session, TlsLayer)
    return sum(isinstance(each, kinds) for each in gc.get_objects())


@pytest.mark.usefixtures("uncollected")
@pytest.mark.parametrize("is_shaken", [True, False], ids=["within TLS", "in the handshake"])
def test_a_client_of_tls_that_leaves_is_no_garbage(started: World, is_shaken: bool) -> None:
    before = alive()
    if is_shaken:
        connection, transport = start_tls(started, TlsClient())
    else:
        connection, transport = started.connect()
        started.send(connection, b"EHLO c\r\n")
        started.send(connection, b"STARTTLS\r\n")
    assert alive() == before + 3
    connection.connection_lost(None)
    del connection, transport
    assert alive() == before


@pytest.mark.usefixtures("uncollected")
@pytest.mark.parametrize("header", [V1, V1[:9], b""], ids=["header", "part of one", "nothing"])
def test_a_client_of_a_proxy_that_leaves_is_no_garbage(header: bytes) -> None:
    world = proxied()
    before = alive()
    connection, transport = world.connect(PROXY)
    assert alive() == before + 2
    world.send(connection, header)
    connection.connection_lost(None)
    del connection, transport
    assert alive() == before
