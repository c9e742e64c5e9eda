"""TLS between a transport of paper and a connection; the server is a ServerTls in memory."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path
from typing import cast

import pytest

from fastmta.daemon.outbound import Contexts
from fastmta.delivery.connection import Connection
from fastmta.delivery.ports import CourierPorts, TlsSession
from fastmta.delivery.secure import SecureLink
from fastmta.delivery.state import State
from fastmta.route import Target
from fastmta.route.way import TlsLevel, TlsPolicy, Way
from fastmta.security import ServerTls
from tests.support.delivering import fast_options
from tests.support.talking import DATA_OK, DOT_OK, GREETING, MAIL_OK, RCPT_OK, make_transaction
from tests.support.tls import authority, issue

EHLO_TLS = b"250-mx.example\r\n250 STARTTLS\r\n"
EHLO = b"250-mx.example\r\n250 PIPELINING\r\n"
REPLIES = MAIL_OK + RCPT_OK + RCPT_OK + DATA_OK


class Transport:
    """Remembers what was written and who reads."""

    def __init__(self) -> None:
        self.written = b""
        self.end = ""
        self.protocol: object = None
        self.is_reading = True

    def write(self, octets: bytes) -> None:
        self.written += octets

    def writelines(self, parts: list[bytes]) -> None:
        self.written += b"".join(parts)

    def get_write_buffer_size(self) -> int:
        return 0

    def get_extra_info(self, name: str) -> object:
        return ("192.0.2.1", 25)

    def is_closing(self) -> bool:
        return bool(self.end)

    def pause_reading(self) -> None:
        self.is_reading = False

    def resume_reading(self) -> None:
        self.is_reading = True

    def set_protocol(self, protocol: object) -> None:
        assert not self.is_reading
        self.protocol = protocol

    def close(self) -> None:
        self.end = self.end or "close"

    def abort(self) -> None:
        self.end = self.end or "abort"


class Owner:
    def __init__(self) -> None:
        self.heard: list[str] = []

    def connection_made(self, connection: Connection) -> None:
        return

    def session_secured(self, connection: Connection, tls: TlsSession) -> None:
        self.heard.append("secured")

    def session_ready(self, connection: Connection) -> None:
        self.heard.append("ready")

    def transaction_done(self, connection: Connection) -> None:
        self.heard.append(f"done {connection.dialog.state.name}")

    def session_over(self, connection: Connection) -> None:
        self.heard.append("over")

    def session_broke(self, connection: Connection, error: Exception) -> None:
        raise error

    def content_broke(self, connection: Connection, error: Exception) -> None:
        raise error

    def connection_gone(self, connection: Connection) -> None:
        self.heard.append("gone")


class World:
    """A connection, and a server that is told what to say."""

    def __init__(self, path: Path, level: TlsLevel, *, is_implicit: bool = False) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(issue(path, "mx.example"))
        self.server = ServerTls(context)
        self.heard = b""  # by the server, decrypted
        self.transport, self.owner = Transport(), Owner()
        trusted = path.with_name("ca.pem")
        trusted.write_bytes(authority().cert_pem.bytes())
        policy = TlsPolicy(level, is_implicit=is_implicit, ca_file=str(trusted))
        self.connection = Connection(
            Target("mx.example", "192.0.2.1", 25),
            fast_options(),
            self.owner,
            Way(tls=policy),
            CourierPorts(Contexts()),
        )
        self.connection.connection_made(cast(asyncio.BaseTransport, self.transport))

    @property
    def link(self) -> SecureLink:
        assert isinstance(self.transport.protocol, SecureLink)
        return self.transport.protocol

    def in_clear(self, octets: bytes) -> bytes:
        self.connection.data_received(octets)
        written, self.transport.written = self.transport.written, b""
        return written

    def to_client(self, octets: bytes, piece: int = 1 << 20) -> None:
        """Ciphertext, as it comes from the socket."""
        for begin in range(0, len(octets), piece):
            part = octets[begin : begin + piece]
            self.link.get_buffer(-1)[: len(part)] = part
            self.link.buffer_updated(len(part))

    def take(self) -> None:
        """The server takes what the client wrote."""
        buffer = memoryview(bytearray(1 << 16))
        written, self.transport.written = self.transport.written, b""
        if written:
            self.server.feed(written)
            if self.server.handshake():
                while count := self.server.read_into(buffer):
                    self.heard += buffer[:count]

    def shake(self, piece: int) -> None:
        for _ in range(4):
            self.take()
            self.to_client(self.server.take_output(), piece)

    def say(self, octets: bytes, piece: int) -> bytes:
        """The server says this; what the client answers."""
        self.server.write(octets)
        self.to_client(self.server.take_output(), piece)
        self.heard = b""
        self.take()
        return self.heard


PIECES = pytest.mark.parametrize("piece", [1, 7, 1 << 20])


@PIECES
@pytest.mark.parametrize("is_implicit", [True, False], ids=["implicit", "starttls"])
def test_message_is_delivered(tmp_path: Path, is_implicit: bool, piece: int) -> None:
    world = World(tmp_path / "key.pem", TlsLevel.VERIFY, is_implicit=is_implicit)
    if not is_implicit:
        assert world.in_clear(GREETING) == b"EHLO relay.example\r\n"
        assert world.in_clear(EHLO_TLS) == b"STARTTLS\r\n"
        world.connection.data_received(b"220 Go\r\n")
    world.shake(piece)
    if is_implicit:
        world.say(GREETING, piece)
    assert world.heard == b"EHLO relay.example\r\n"
    world.say(EHLO, piece)
    assert world.owner.heard == ["secured", "ready"]
    transaction = make_transaction(content=b"x" * 70_000 + b"\r\n")
    world.connection.begin(transaction)
    world.take()
    assert world.say(REPLIES, piece) == transaction.content + b".\r\n"
    world.say(DOT_OK, piece)
    assert world.owner.heard[-1] == "done IDLE"
    assert [one.kind.value for one in transaction.outcomes if one] == ["sent", "sent"]
    world.connection.quit()
    world.heard = b""
    world.take()
    assert (world.heard, world.server.is_at_end) == (b"QUIT\r\n", False)
    world.say(b"221 Bye\r\n", piece)
    assert world.server.is_at_end  # close_notify came
    assert world.transport.end == "close"


def start(tmp_path: Path, level: TlsLevel = TlsLevel.ENCRYPT) -> World:
    world = World(tmp_path / "key.pem", level)
    world.in_clear(GREETING)
    world.in_clear(EHLO_TLS)
    world.connection.data_received(b"220 Go\r\n")
    return world


@PIECES
def test_what_is_no_tls_is_a_failed_handshake(tmp_path: Path, piece: int) -> None:
    world = start(tmp_path)
    world.to_client(b"250-evil.example\r\n250 AUTH PLAIN\r\n", piece)
    assert world.owner.heard == ["over"]
    assert world.connection.dialog.is_tls_trouble
    assert world.connection.dialog.trouble is not None
    assert world.connection.dialog.trouble.text.startswith("Cannot start TLS: handshake failure")
    assert world.transport.end


def test_certificate_in_another_name(tmp_path: Path) -> None:
    world = start(tmp_path, TlsLevel.VERIFY)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(issue(tmp_path / "other.pem", "other.example"))
    world.server = ServerTls(context)
    world.shake(1 << 20)
    assert world.heard == b""
    assert world.owner.heard == ["over"]
    assert world.connection.dialog.trouble is not None
    assert world.connection.dialog.trouble.text.startswith("Server certificate not verified")


def test_replies_of_one_read_are_seen_together(tmp_path: Path) -> None:
    """A reply beyond the last one owed must not be taken for the next message's."""
    world = start(tmp_path)
    world.shake(1 << 20)
    world.say(EHLO, 1 << 20)
    world.connection.begin(make_transaction())
    world.take()
    world.say(REPLIES, 1 << 20)
    world.server.write(DOT_OK)
    world.server.write(MAIL_OK)  # a record of its own
    world.to_client(world.server.take_output())
    assert world.owner.heard[-1] == "done CLOSED"


def test_record_that_was_tampered_with_ends_the_session(tmp_path: Path) -> None:
    world = start(tmp_path)
    world.shake(1 << 20)
    world.say(EHLO, 1 << 20)
    transaction = make_transaction()
    world.connection.begin(transaction)
    world.take()
    world.server.write(REPLIES)
    octets = bytearray(world.server.take_output())
    octets[-1] ^= 1
    world.to_client(bytes(octets))
    assert world.transport.end == "abort"
    world.link.connection_lost(None)
    assert world.owner.heard[-2:] == ["done CLOSED", "gone"]
    assert [one.kind.value for one in transaction.outcomes if one] == ["deferred"] * 2


@pytest.mark.parametrize("is_idle", [True, False])
def test_close_notify_ends_the_session(tmp_path: Path, is_idle: bool) -> None:
    world = start(tmp_path)
    world.shake(1 << 20)
    world.say(EHLO, 1 << 20)
    world.connection.is_idle = is_idle
    world.server.close()
    world.to_client(world.server.take_output())
    assert world.transport.end == "close"
    assert (world.owner.heard[-1] == "over") is is_idle
    world.link.connection_lost(None)
    assert world.owner.heard[-1] == "gone"
    assert world.connection.dialog.state is State.CLOSED


def test_engine_that_cannot_start_is_no_reason_for_clear(tmp_path: Path) -> None:
    world = World(tmp_path / "key.pem", TlsLevel.MAY)
    (tmp_path / "ca.pem").unlink()
    world.in_clear(GREETING)
    world.in_clear(EHLO_TLS)
    assert world.in_clear(b"220 Go\r\n") == b""
    dialog = world.connection.dialog
    assert (dialog.is_tls_trouble, dialog.is_alarming) == (False, True)
    assert dialog.trouble is not None
    assert dialog.trouble.text.endswith("our TLS engine is unavailable")
    assert "ca.pem" in dialog.hint


def test_handshake_has_a_time_limit(tmp_path: Path) -> None:
    world = start(tmp_path)
    world.connection.look(world.connection.deadline_s)
    assert world.owner.heard == ["over"]
    assert world.transport.end
    assert world.connection.dialog.trouble is not None
    assert world.connection.dialog.trouble.text.endswith("while performing the TLS handshake")
