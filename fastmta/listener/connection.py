"""One client's connection: a uvloop protocol that carries octets between a socket and a session."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from fastmta.event import ClientConnected
from fastmta.session import Session, State
from fastmta.smtp import Reply
from fastmta.smtp import reply as replies

from .door import LOCAL_PEER
from .early import has_spoken
from .layers import ProxyLayer, TlsLayer
from .lifetime import LOST, LimitedConnection

if TYPE_CHECKING:
    from .listener import Listener

# While a reply is pending a client may go on sending; from here on its socket is not read.
_BUFFERED_OCTETS_MAX = 64 * 1024
_CONTENT = State.CONTENT


class Connection(LimitedConnection):
    """The buffered protocol of one client.

    Not derived from asyncio.Protocol: with that base uvloop would ignore `get_buffer`. Input is
    read into one scratch buffer that all connections share; it is parsed before control returns
    to the loop, so no other connection can overwrite it.

    What comes first is taken off in layers: a PROXY header, then TLS; the session sees SMTP.
    What has no underscore and is not the loop's is for these and for the listener.
    """

    __slots__ = ("_header", "_is_delayed", "_is_greeted", "_is_stuffed", "_port", "address")

    def __init__(self, listener: Listener) -> None:
        LimitedConnection.__init__(self, listener)  # for each client: `super()` takes longer
        self.address = ""
        self._port = 0
        self._header = b""  # of a proxy, for hooks
        self._is_greeted = False
        self._is_delayed = False  # `_resume` will be called
        self._is_stuffed = False  # the client does not take what we write

    # Called by the loop.

    def connection_made(self, transport: asyncio.Transport) -> None:
        self.transport = transport
        listener = self.listener
        settings = listener.settings
        peer = LOCAL_PEER if settings.is_local else transport.get_extra_info("peername")
        if not peer:  # the client was gone before we looked
            transport.abort()
            return
        address, self._port = listener.normalise(peer[0]), peer[1]
        self.address = self.counted_as = address
        now_s = listener.now_s()
        self.deadline_s = now_s + settings.idle_s
        self._ends_at_s = now_s + settings.session_s
        refusal = listener.admit(self, address)
        if refusal is not None:
            transport.write(refusal.octets)
            transport.close()
        elif not listener.is_layered:
            listener.name_of(address, self._named)
        elif address in settings.proxies:
            self._proxy = ProxyLayer(self)
            self._hurry(settings.proxy_s)
        else:
            self._begin()

    def get_buffer(self, size_hint: int) -> memoryview:
        return self.listener.scratch

    def buffer_updated(self, count: int, octets: memoryview | bytes | None = None) -> None:
        """SMTP of the client: what the loop has read into `scratch`, or what a layer hands on."""
        listener = self.listener
        if octets is None:
            if not self._is_plain:
                self._receive_below(count)
                return
            octets = listener.scratch
        session = self._session
        assert session is not None
        now_s = listener.now_s()
        try:
            answer = session.receive(octets, count)
        except MemoryError:  # what was read is lost to this session, so it ends; the others do not
            self._refuse(replies.r421_no_resources(listener.ports.settings.hostname), "no memory")
            return
        if session.state is _CONTENT:
            self._content_deadline(now_s, count)
            if session.large is not None and session.is_behind:
                self._read(False)
        else:
            self._content_octets = 0
            if now_s >= self._ends_at_s:
                answer += self._end_of_life(session, now_s, count)
            elif session.unended_octets <= count:  # a command that drips in has the time of one
                self.deadline_s = now_s + listener.idle_s
        self._answer(answer)

    def eof_received(self) -> bool:
        """A client that half-closes behind its content still gets the reply to it."""
        session = self._session
        self._is_at_end = session is not None and session.is_pending and not self._is_parting
        return self._is_at_end

    def pause_writing(self) -> None:
        """The client does not read our replies: stop reading its commands."""
        self._is_stuffed = True
        self._read(False)

    def resume_writing(self) -> None:
        self._is_stuffed = False
        session = self._session
        if session is None or session.is_starting_tls:
            self._read(True)
        elif not session.delay_s:
            self._answer(b"")

    def connection_lost(self, error: Exception | None) -> None:
        self.transport = None
        # Session, layers and connection know each other: without this they would wait for the
        # garbage collector.
        session, self._session = self._session, None
        self._proxy = self._tls = None
        self.listener.left(self, self.counted_as)
        if session is not None:
            reason = "" if session.is_closing and self._reason == LOST else self._reason
            self.listener.ports.emit(session.ended(reason))

    # The layers below the session.

    def introduced(self, source: tuple[str, int] | None, header: bytes, rest: bytes) -> None:
        """A proxy has said by `header` who its client is (None: itself); `rest` came behind it."""
        self._proxy, self._header = None, header
        self.deadline_s = self.listener.now_s() + self.listener.settings.idle_s
        if source is not None:
            refusal = self.listener.rename(self, source[0])
            self.address, self._port = source
            if refusal is not None:
                self._refuse(refusal, "")
                return
        self._begin()
        if rest and self.transport is not None:
            session = self._session
            if self._tls is not None:
                self._tls.receive(memoryview(rest))
            elif session is not None and not session.is_trusted:  # it did not wait to be greeted
                self._refuse(replies.R554_SYNCHRONIZATION, LOST)
            else:
                self.receive(rest, len(rest))

    def _begin(self) -> None:
        """The client's address is known."""
        listener = self.listener
        if listener.settings.is_implicit_tls:
            if not listener.may_start_tls(self.address):
                self.abort()
                return
            self._start_tls()
        else:
            listener.name_of(self.address, self._named)

    def _start_tls(self) -> None:
        listener = self.listener
        self._tls = TlsLayer(self, listener.tls_context())
        self._is_plain = False
        self._hurry(listener.settings.handshake_s)

    def secured(self, tls: TlsLayer) -> None:
        """The handshake is done: after STARTTLS the client speaks next, else we greet."""
        listener = self.listener
        self._hurry(listener.settings.idle_s)
        if self._session is None:
            tls.flush()
            listener.name_of(self.address, self._named)
        else:
            self._session.tls_started(tls.facts)

    # The session.

    def _named(self, name: str) -> None:
        """The client's verified name is known (at once, for trusted networks): greet."""
        transport = self.transport
        if transport is None or self._is_parting or transport.is_closing():
            return
        ports = self.listener.ports
        try:
            session = Session(ports, self.address, name, self._answer, self._port)
        except BaseException:  # a defect of ours: the client must not wait for a greeting
            transport.abort()
            raise
        self._session = session
        ports.emit(ClientConnected(session.client, ports.settings.service))
        if self._tls is not None:
            session.tls_started(self._tls.facts)
        elif not session.rights.is_trusted and has_spoken(transport):
            self._refuse(replies.R554_SYNCHRONIZATION, LOST)
            return
        if self._header:
            header, self._header = self._header, b""
            session.proxied(header, self._greet)
        else:
            self._greet(None)

    def _greet(self, refusal: Reply | None) -> None:
        session = self._session
        if session is None:
            return
        if refusal is None:
            self._is_greeted = True
            self._is_plain = self._tls is None
            self._answer(session.greeting())
        else:
            self._refuse(refusal, "")

    def receive(self, octets: memoryview | bytes, count: int) -> None:
        """What came through the layers."""
        if self._session is None or not self._is_greeted:  # RFC 5321 4.3.1: we greet first
            self._refuse(replies.R554_SYNCHRONIZATION, LOST)
        else:
            self.buffer_updated(count, octets)

    def _receive_below(self, count: int) -> None:
        """What was read is not SMTP, or is not to be taken for it."""
        scratch = self.listener.scratch
        if self._is_parting:
            self._drop(count)
        elif self._tls is not None:
            self._tls.receive(scratch[:count])
        elif self._proxy is not None:
            self._proxy.receive(scratch[:count])
        else:
            self.receive(scratch, count)

    def _end_of_life(self, session: Session, now_s: float, count: int) -> bytes:
        """Past its longest life a session has `idle_s` to end its transaction; what we say then."""
        if session.unended_octets <= count:
            self.deadline_s = self._ends_at_s + self.listener.idle_s
        if not session.is_idle or session.is_closing:
            return b""
        hostname = self.listener.ports.settings.hostname
        return session.refuse(replies.r421_too_much_work(hostname))

    def _answer(self, octets: bytes) -> None:
        """Write replies, then close, wait or go on as the session says."""
        session, transport = self._session, self.transport
        if session is None or transport is None or self._is_parting or transport.is_closing():
            return
        if octets:
            if self._tls is None:
                transport.write(octets)
            else:
                self._tls.write(octets)
        if session.is_closing:
            self.close()
        elif session.is_waiting:  # for the end of a penalty, or because we owe it an answer
            if session.delay_s:
                self._wait(session.delay_s)
            elif session.buffered_octets > _BUFFERED_OCTETS_MAX:
                self._read(False)
        elif self._is_at_end:
            self.close()
        elif session.is_starting_tls:
            if self._tls is None:
                self._start_tls()
        elif not self._is_reading and not self._is_stuffed and not session.is_behind:
            self._read(True)

    def _wait(self, delay_s: float) -> None:
        """For the end of a penalty."""
        self._read(False)
        if not self._is_delayed:  # what was decrypted already still comes, and changes nothing
            self._is_delayed = True
            self.listener.call_later(delay_s, self._resume)

    def _resume(self) -> None:
        """The penalty for an error is over: show its reply and go on."""
        self._is_delayed = False
        session = self._session
        if session is not None and not session.is_closing:
            self._answer(session.resume())
