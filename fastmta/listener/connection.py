"""One client's connection: a uvloop protocol that carries octets between a socket and a session."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from fastmta.security import ServerTls, TlsFailure
from fastmta.session import Session, State
from fastmta.smtp import Reply
from fastmta.smtp import reply as replies

from .early import has_spoken
from .proxy import ProxyHeader, ProxyProblem

if TYPE_CHECKING:
    from .listener import Listener

# While a reply is pending a client may go on sending; from here on its socket is not read.
_BUFFERED_OCTETS_MAX = 64 * 1024
_CONTENT = State.CONTENT
# How long a client may take to fetch our last reply before the connection is cut.
_LINGER_S = 10.0
_DROPPED_OCTETS_MAX = 1024 * 1024  # from a client that goes on sending behind our last reply
# Slowest content that is put up with (Postfix's smtpd_min_data_rate).
_CONTENT_OCTETS_PER_S = 500
_LOST = "lost connection"
_NOBODY = ("0.0.0.0", 0)


class Connection:
    """The buffered protocol of one client.

    Not derived from asyncio.Protocol: with that base uvloop would ignore `get_buffer`. Input is
    read into one scratch buffer that all connections share; it is parsed before control returns
    to the loop, so no other connection can overwrite it.

    What comes first is taken off in layers: a PROXY header, then TLS; the session sees SMTP.
    """

    __slots__ = (
        "_address", "_content_from_s", "_content_octets", "_dropped_octets", "_ends_at_s",
        "_header", "_is_at_end", "_is_delayed", "_is_greeted", "_is_parting", "_is_plain",
        "_is_reading", "_is_secure", "_is_stuffed", "_listener", "_port", "_proxy", "_reason",
        "_session", "_tls", "_transport", "bucket", "counted_as", "deadline_s",
    )  # fmt: skip

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self._transport: asyncio.Transport | None = None
        self._session: Session | None = None
        self._proxy: ProxyHeader | None = None  # until the header is there
        self._header = b""  # for hooks
        self._tls: ServerTls | None = None
        self._is_secure = False  # the handshake is done
        self._address = ""
        self._port = 0
        self.counted_as = ""  # the address under which the census knows it
        self._reason = _LOST
        self._is_at_end = False  # the client will send no more, but waits for an answer
        self._is_delayed = False  # `_resume` will be called
        self._is_plain = False  # greeted, and nothing between the socket and the session
        self._is_parting = False  # our last octet is written; what comes is dropped
        self._dropped_octets = 0
        self._is_greeted = False
        self._is_reading = True
        self._is_stuffed = False  # the client does not take what we write
        self._ends_at_s = 0.0
        self._content_from_s = 0.0
        self._content_octets = 0
        self.deadline_s = 0.0
        self.bucket = 0

    # Called by the loop.

    def connection_made(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        listener = self._listener
        peer = transport.get_extra_info("peername")
        if not peer:  # the client was gone before we looked
            transport.abort()
            return
        self._address, self._port = listener.normalise(peer[0]), peer[1]
        self.counted_as = self._address
        now_s = listener.now_s()
        self.deadline_s = now_s + listener.settings.idle_s
        self._ends_at_s = now_s + listener.settings.session_s
        refusal = listener.admit(self, self._address)
        if refusal is not None:
            transport.write(refusal.octets)
            transport.close()
        elif self._address in listener.settings.proxies:
            self._proxy = ProxyHeader()
            self._hurry(listener.settings.proxy_s)
        else:
            self._begin()

    def get_buffer(self, size_hint: int) -> memoryview:
        return self._listener.scratch

    def buffer_updated(self, count: int) -> None:
        listener = self._listener
        if self._is_plain:
            self._receive(listener.scratch, count)
        elif self._is_parting:
            self._drop(count)
        elif self._tls is not None:
            self._receive_tls(listener.scratch[:count])
        elif self._proxy is not None:
            self._receive_proxy(self._proxy, listener.scratch[:count])
        else:
            self._receive(listener.scratch, count)

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
        self._transport = None
        # Session and connection know each other: without this each pair would wait for the
        # garbage collector.
        session, self._session = self._session, None
        self._tls = None
        self._listener.left(self, self.counted_as)
        if session is not None:
            reason = "" if session.is_closing and self._reason == _LOST else self._reason
            self._listener.ports.emit(session.ended(reason))

    # The layers below the session.

    def _receive_proxy(self, proxy: ProxyHeader, octets: memoryview) -> None:
        """Who the client is behind the proxy (the PROXY protocol, versions 1 and 2)."""
        try:
            used = proxy.feed(octets)
        except ProxyProblem as problem:
            self._listener.tell_proxy(self._address, str(problem))
            self._abort()
            return
        if not proxy.is_complete:
            return
        self._proxy, self._header = None, proxy.octets
        self.deadline_s = self._listener.now_s() + self._listener.settings.idle_s
        source = proxy.source
        if source is None and not proxy.is_local:
            source = _NOBODY  # the proxy will not say who it is: nobody, but not the proxy
        if source is not None:
            refusal = self._listener.rename(self, source[0])
            self._address, self._port = source
            if refusal is not None:
                self._refuse(refusal, "")
                return
        self._begin()
        if used < len(octets) and self._transport is not None:
            rest = memoryview(bytes(octets[used:]))
            session = self._session
            if self._tls is not None:
                self._receive_tls(rest)
            elif session is not None and not session.is_trusted:  # it did not wait to be greeted
                self._refuse(replies.R554_SYNCHRONIZATION, _LOST)
            else:
                self._receive(rest, len(rest))

    def _begin(self) -> None:
        """The client's address is known."""
        listener = self._listener
        if listener.settings.is_implicit_tls:
            if not listener.may_start_tls(self._address):
                self._abort()
                return
            self._start_tls()
        else:
            listener.name_of(self._address, self._named)

    def _start_tls(self) -> None:
        listener = self._listener
        context = listener.tls_context()
        self._tls = ServerTls(context)
        self._is_plain = False
        self._hurry(listener.settings.handshake_s)

    def _receive_tls(self, octets: memoryview) -> None:
        """Ciphertext: to the handshake, or decrypted to the session."""
        tls = self._tls
        assert tls is not None
        try:
            tls.feed(octets)
            if not self._is_secure:
                if not tls.handshake():
                    self._flush_tls(tls)
                    return
                self._secured(tls)
            plain = self._listener.plain
            while count := tls.read_into(plain):  # 0, or the failure behind what was read
                self._receive(plain, count)
                if self._is_over:
                    return
        except TlsFailure as failure:
            self._flush_tls(tls)
            self._listener.tell_tls(self._address, str(failure))
            self._close()
            return
        self._flush_tls(tls)
        if tls.is_at_end and not self.eof_received():
            self._close()

    def _secured(self, tls: ServerTls) -> None:
        """The handshake is done: after STARTTLS the client speaks next, else we greet."""
        self._is_secure = True
        listener = self._listener
        self._hurry(listener.settings.idle_s)
        if self._session is None:
            self._flush_tls(tls)
            listener.name_of(self._address, self._named)
        else:
            self._session.tls_started(tls.facts)

    def _flush_tls(self, tls: ServerTls) -> None:
        octets = tls.take_output()
        if octets and self._transport is not None:
            self._transport.write(octets)

    # The session.

    def _named(self, name: str) -> None:
        """The client's verified name is known (at once, for trusted networks): greet."""
        transport = self._transport
        if transport is None or self._is_over:
            return
        listener = self._listener
        try:
            session = listener.session(self._address, name, self._answer, self._port)
        except BaseException:  # a defect of ours: the client must not wait for a greeting
            transport.abort()
            raise
        self._session = session
        listener.connected(session)
        if self._tls is not None:
            session.tls_started(self._tls.facts)
        elif not session.is_trusted and has_spoken(transport):
            self._refuse(replies.R554_SYNCHRONIZATION, _LOST)
            return
        header, self._header = self._header, b""
        session.proxied(header, self._greet)

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

    def _receive(self, octets: memoryview, count: int) -> None:
        session = self._session
        listener = self._listener
        now_s = listener.now_s()
        if session is None or not self._is_greeted:  # RFC 5321 4.3.1: the greeting comes first
            self._refuse(replies.R554_SYNCHRONIZATION, _LOST)
            return
        try:
            answer = session.receive(octets, count)
        except MemoryError:  # what was read is lost to this session, so it ends; the others do not
            self._refuse(replies.r421_no_resources(listener.ports.settings.hostname), "no memory")
            return
        if session.state is _CONTENT:
            self._content_deadline(now_s, count)
            if session.is_behind:
                self._read(False)
        else:
            self._content_octets = 0
            # Past its longest life a session has `idle_s` to end its transaction.
            self.deadline_s = min(now_s, self._ends_at_s) + listener.settings.idle_s
            if now_s > self._ends_at_s and session.is_idle and not session.is_closing:
                answer += session.refuse(
                    replies.r421_too_much_work(listener.ports.settings.hostname)
                )
        self._answer(answer)

    # Called by the wheel, the session and the listener.

    def on_deadline(self) -> None:
        """Nothing came for too long (RFC 5321 4.5.3.2.7), or our last reply was not fetched."""
        transport = self._transport
        if transport is None or self._is_over:
            if transport is not None:
                transport.abort()  # closing waits for the client to read, for ever if it must
            return
        session = self._session
        if self._proxy is not None or (self._tls is not None and not self._is_secure):
            self._reason = "timeout"
            self._abort()  # nothing can be said before the header, or within a handshake
            return
        if session is not None and session.is_pending:
            self.deadline_s = self._listener.now_s() + self._listener.settings.idle_s
            self._listener.watch(self)  # we are the ones who are late
            return
        if session is not None and session.is_behind:
            self.deadline_s = self._listener.now_s() + self._listener.settings.idle_s
            self._content_from_s += self._listener.settings.idle_s
            self._listener.watch(self)
            return
        self._refuse(replies.r421_timeout(self._listener.ports.settings.hostname), "timeout")

    def _hurry(self, seconds: float) -> None:
        """A deadline that may be nearer than the one before."""
        self.deadline_s = self._listener.now_s() + seconds
        self._listener.watch(self)

    def shut_down(self) -> None:
        """Say 421 and close if no transaction is open."""
        if self._session is None or self._session.is_idle:
            self.cut()

    def cut(self) -> None:
        """Close whatever the state (the deadline of a shutdown)."""
        self._refuse(replies.r421_shutting_down(self._listener.ports.settings.hostname), "")
        if self._transport is not None:
            self._transport.close()

    def _refuse(self, reply: Reply, reason: str) -> None:
        if self._is_over:
            return
        self._reason = reason
        session = self._session
        octets = reply.octets if session is None else session.refuse(reply)
        if self._tls is None or self._is_secure:
            self._write(octets)
        self._close()

    def _write(self, octets: bytes) -> None:
        transport = self._transport
        assert transport is not None
        tls = self._tls
        if tls is None:
            transport.write(octets)
            return
        tls.write(octets)
        self._flush_tls(tls)

    @property
    def _is_over(self) -> bool:
        """Nothing more can be written."""
        transport = self._transport
        return transport is None or self._is_parting or transport.is_closing()

    def _close(self) -> None:
        """Nothing more will be written."""
        transport = self._transport
        if transport is None or self._is_over:
            return
        if self._tls is not None:
            self._tls.close()
            self._flush_tls(self._tls)
        session = self._session
        if self._is_at_end or (session is not None and session.has_quit):
            transport.close()
        else:
            self._part(transport)

    def _part(self, transport: asyncio.Transport) -> None:
        """Say that this was all, and drop what still comes until the client has seen that.

        Closing at once, with input that nobody has read, would reset the connection: the client
        could lose our last reply by that (RFC 1122 4.2.2.13).
        """
        self._is_parting = True
        self._is_plain = False
        transport.write_eof()
        self._read(True)
        self._hurry(_LINGER_S)

    def _drop(self, count: int) -> None:
        self._dropped_octets += count
        if self._dropped_octets > _DROPPED_OCTETS_MAX:
            self._abort()

    def _abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def _answer(self, octets: bytes) -> None:
        """Write replies, then close, wait or go on as the session says."""
        session, transport = self._session, self._transport
        if session is None or transport is None or self._is_parting or transport.is_closing():
            return
        if octets:
            if self._tls is None:
                transport.write(octets)
            else:
                self._write(octets)
        if session.is_closing:
            self._close()
        elif session.is_waiting:
            self._wait(session)
        elif self._is_at_end:
            self._close()
        elif session.is_starting_tls:
            if self._tls is None:
                self._start_tls()
        elif not self._is_reading and not self._is_stuffed and not session.is_behind:
            self._read(True)

    def _wait(self, session: Session) -> None:
        """The client has to: for the end of a penalty, or because we owe it an answer."""
        if session.delay_s:
            self._read(False)
            if not self._is_delayed:  # what was decrypted already still comes, and changes nothing
                self._is_delayed = True
                self._listener.call_later(session.delay_s, self._resume)
        elif session.buffered_octets > _BUFFERED_OCTETS_MAX:
            self._read(False)

    def _resume(self) -> None:
        """The penalty for an error is over: show its reply and go on."""
        self._is_delayed = False
        session = self._session
        if session is not None and not session.is_closing:
            self._answer(session.resume())

    def _read(self, is_reading: bool) -> None:
        transport = self._transport
        if transport is None or transport.is_closing() or is_reading == self._is_reading:
            return
        self._is_reading = is_reading
        if is_reading:
            transport.resume_reading()
        else:
            transport.pause_reading()

    def _content_deadline(self, now_s: float, count: int) -> None:
        """Content may take `idle_s` plus what it needs at the slowest rate, not longer."""
        if not self._content_octets:
            self._content_from_s = now_s
        self._content_octets += count
        self.deadline_s = (
            self._content_from_s
            + self._listener.settings.idle_s
            + self._content_octets / _CONTENT_OCTETS_PER_S
        )
