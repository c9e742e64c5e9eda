"""A scripted receiver with TLS and AUTH, over real sockets: tests/support/receiver.py, and

    side = TlsSide(certificates.right, users={"relay": "secret"})
    with TlsReceiver(side, {"HANDSHAKE": Act(ALERT, then="close")}) as receiver:
        ...
        assert receiver.leaked() == b"EHLO fastmta.test\r\nSTARTTLS\r\n"

More keys of a script: `STARTTLS` (what follows its reply in `octets` is injected in clear, then TLS
begins all the same), `HANDSHAKE` (after the client's first flight, in clear, in place of ours),
`AUTH` (at the command), `CHALLENGE` (each 334), `VERDICT` (the reply that ends an AUTH dialog).
`EHLO` is offered STARTTLS in clear, AUTH inside TLS.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tests.support.auth_dialog import Aborted, AuthDialog
from tests.support.receiver import EHLO_REPLY, Act, Ended, Receiver, Script, Server, Session

ALERT = b"\x15\x03\x01\x00\x02\x02\x28"  # fatal, handshake_failure (RFC 8446 6)
GARBAGE = b"250 2.0.0 this is no TLS\r\n"
INJECTED = b"220 2.0.0 Ready to start TLS\r\n250-evil.invalid\r\n250 AUTH PLAIN LOGIN\r\n"
_RECORD_KINDS = (20, 21, 22, 23)
_VERSIONS = {"1.0": ssl.TLSVersion.TLSv1, "1.1": ssl.TLSVersion.TLSv1_1,
             "1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class TlsSide:
    """What a receiver has to do with TLS and with logins."""

    certificate: str  # key and chain
    is_implicit: bool = False  # TLS from the first octet
    is_tls_required: bool = False  # MAIL in clear is 530
    version_min: str = "1.2"
    version_max: str = "1.3"
    ciphers: str = ""
    mechanisms: tuple[str, ...] = ("PLAIN", "LOGIN", "SCRAM-SHA-256", "XOAUTH2")
    users: Mapping[str, str] = field(default_factory=dict)  # none: no AUTH
    tokens: Mapping[str, str] = field(default_factory=dict)  # of XOAUTH2, to whose they are
    is_auth_required: bool = False  # MAIL before AUTH is 530
    is_auth_in_clear: bool = False  # offered there, too
    is_forging: bool = False  # SCRAM: a signature by someone who does not know the password
    keywords: tuple[str, ...] = ()  # more of EHLO, everywhere
    tls_keywords: tuple[str, ...] = ()  # more of EHLO inside TLS
    clear_keywords: tuple[str, ...] = ()  # more of EHLO in clear


@dataclass
class TlsSession(Session):
    """One connection. `octets`, `reads`, `commands` are what was read, inside TLS or not."""

    clear: bytearray = field(default_factory=bytearray)  # before TLS began
    wire: bytearray = field(default_factory=bytearray)  # from then on, as it came
    tls_version: str = ""
    tls_error: str = ""
    server_name: str | None = None  # SNI
    is_resumed: bool = False
    tls_commands: list[bytes] = field(default_factory=list)  # those inside TLS
    attempts: list[tuple[str, str]] = field(default_factory=list)  # mechanism, who it claims to be
    login: str = ""  # who it is after a positive verdict

    def leaked(self) -> bytes:
        """Every octet that came outside TLS: before it, and beside its records."""
        return bytes(self.clear) + _beside_records(bytes(self.wire))


class TlsReceiver(Receiver):
    """A receiver whose sessions are TlsSession."""

    def __init__(
        self,
        side: TlsSide,
        script: Script | Sequence[Script] = (),
        address: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        self.side = side
        self._names: dict[int, str | None] = {}
        self.use(side.certificate)
        super().__init__(script, address, port)

    def use(self, certificate: str) -> None:
        """Show this one from the next connection on; sessions of before are not resumed."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        with warnings.catch_warnings():  # old versions, to see them refused
            warnings.simplefilter("ignore", DeprecationWarning)
            context.minimum_version = _VERSIONS[self.side.version_min]
            context.maximum_version = _VERSIONS[self.side.version_max]
        if self.side.version_max in ("1.0", "1.1"):
            context.set_ciphers("ALL:@SECLEVEL=0")
        if self.side.ciphers:
            context.set_ciphers(self.side.ciphers)
        context.sni_callback = lambda tls, name, _: self._names.update({id(tls): name})
        self.context = context

    def server_name(self, tls: ssl.SSLObject) -> str | None:
        """For the sessions: what the client asked for by SNI."""
        return self._names.pop(id(tls), None)

    @property
    def tls_sessions(self) -> list[TlsSession]:
        return [one for one in self.sessions if isinstance(one, TlsSession)]

    def leaked(self) -> bytes:
        """What came outside TLS, over all connections."""
        return b"".join(one.leaked() for one in self.tls_sessions)

    def begin_session(self, index: int, peer: str) -> Session:
        return TlsSession(index, peer)

    def serve(self, session: Session, connection: socket.socket, script: Script) -> Server:
        return TlsServer(self, session, connection, script)


class TlsServer(Server):
    """One connection, in clear or inside TLS."""

    def __init__(
        self, receiver: TlsReceiver, session: Session, connection: socket.socket, script: Script
    ) -> None:
        assert isinstance(session, TlsSession)
        super().__init__(receiver, session, connection, script)
        self._tls_receiver = receiver
        self._side = receiver.side
        self._tls_session = session
        self._tls: ssl.SSLObject | None = None
        self._is_clear = True  # no ClientHello may come yet
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()

    def _begin(self) -> None:
        if self._side.is_implicit:
            self._start_tls()
        super()._begin()

    def _obey(self, verb: str, line: bytes) -> bool:
        if self._tls is not None:
            self._tls_session.tls_commands.append(line)
        word = line.split(b" ", 1)[0].upper()
        if verb == "EHLO":
            self._act("EHLO", self._ehlo_reply())
        elif word == b"STARTTLS" and self._tls is None:
            self._is_clear = False  # also when the script ends the connection there
            if self._act("STARTTLS", b"220 2.0.0 Ready to start TLS\r\n"):
                self._start_tls()
            self._is_clear = self._tls is None
        elif word == b"AUTH" and self._side.users:
            self._authenticate(line)
        elif verb == "MAIL" and (refusal := self._refusal()):
            self._act("MAIL", refusal)
        else:
            return super()._obey(verb, line)
        return True

    def _refusal(self) -> bytes:
        if self._side.is_tls_required and self._tls is None:
            return b"530 5.7.0 Must issue a STARTTLS command first\r\n"
        if self._side.is_auth_required and not self._tls_session.login:
            return b"530 5.7.0 Authentication required\r\n"
        return b""

    def _ehlo_reply(self) -> bytes:
        side = self._side
        keywords = list(side.keywords)
        if self._tls is None:
            keywords += ["STARTTLS", *side.clear_keywords]
        else:
            keywords += side.tls_keywords
        if side.users and (self._tls is not None or side.is_auth_in_clear):
            keywords.append(" ".join(("AUTH", *side.mechanisms)))
        shown = "".join(f"250-{keyword}\r\n" for keyword in keywords).encode()
        return EHLO_REPLY.replace(b"250 ", shown + b"250 ")

    def _authenticate(self, line: bytes) -> None:
        act = self._choose("AUTH")
        if act is not None and act.octets is not None:
            self._perform(act, b"")
            return
        if act is not None:
            self._perform(Act(b"", act.delay_s, then=act.then), b"")
        dialog = AuthDialog(self._side.users, self._side.tokens, self._side.is_forging)
        try:
            name, is_right = dialog.run(line, self._side.mechanisms, self._ask)
        except Aborted as end:
            if end.reply:
                self._send(end.reply)
            return
        self._tls_session.attempts.append((dialog.mechanism, name))
        usual = b"235 2.7.0 Authentication successful\r\n"
        if not is_right:
            usual = b"535 5.7.8 Error: authentication failed\r\n"
        if self._act("VERDICT", usual):
            self._tls_session.login = name

    def _ask(self, challenge: bytes) -> bytes | None:
        """A challenge in base64; the response as it came, None when the script ended it here."""
        if not self._act("CHALLENGE", b"334 " + challenge + b"\r\n"):
            return None
        return self._read_line()

    def _start_tls(self) -> None:
        session = self._tls_session
        self._is_clear = False
        self._buffer = b""  # what was said in clear is forgotten (RFC 3207 4.2)
        act = self._choose("HANDSHAKE")
        if act is not None:
            self._in.write(self._receive())
            self._perform(act, b"")
        context = self._tls_receiver.context
        tls = context.wrap_bio(self._in, self._out, server_side=True)
        try:
            self._shake(tls)
        except ssl.SSLError as error:
            session.tls_error = error.reason or str(error)
            self._socket.sendall(self._out.read())  # the alert
            self._socket.shutdown(socket.SHUT_WR)
            while True:  # whatever comes now, if not in TLS, is seen
                self._receive()
        self._tls = tls
        session.tls_version = tls.version() or ""
        session.is_resumed = bool(tls.session_reused)
        session.server_name = self._tls_receiver.server_name(tls)
        self._receiver.note()

    def _shake(self, tls: ssl.SSLObject) -> None:
        while True:
            try:
                tls.do_handshake()
            except ssl.SSLWantReadError:
                self._socket.sendall(self._out.read())
                self._in.write(self._receive())
            else:
                self._socket.sendall(self._out.read())
                return

    def _send(self, octets: bytes) -> None:
        if self._tls is not None and octets:
            self._tls.write(octets)
            octets = self._out.read()
        self._socket.sendall(octets)

    def _leave(self) -> None:
        if self._tls is not None:
            with contextlib.suppress(ssl.SSLError):
                self._tls.unwrap()
            self._socket.sendall(self._out.read())

    def _receive(self) -> bytes:
        tls, session = self._tls, self._tls_session
        while tls is not None:
            try:
                octets = tls.read(262144)
            except ssl.SSLWantReadError:
                self._in.write(self._receive_wire())
            except ssl.SSLError as error:
                session.tls_error = error.reason or str(error)
                raise Ended from None
            else:
                if not octets:
                    raise Ended
                session.octets += octets
                session.reads.append(octets)
                return octets
        if not self._is_clear:
            return self._receive_wire()
        octets = super()._receive()
        session.clear += octets
        return octets

    def _receive_wire(self) -> bytes:
        octets = self._socket.recv(262144)
        if not octets:
            raise Ended
        self._tls_session.wire += octets
        return octets


def _beside_records(wire: bytes) -> bytes:
    """What is left of it from the first octet on that begins no TLS record (RFC 8446 5.1)."""
    place = 0
    while place < len(wire):
        head = wire[place : place + 5]
        if head[0] not in _RECORD_KINDS or head[1:2] not in (b"", b"\x03"):
            return wire[place:]
        if len(head) < 5:
            return b""
        place += 5 + int.from_bytes(head[3:5], "big")
    return b""
