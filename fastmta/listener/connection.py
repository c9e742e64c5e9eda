"""One client's connection: a uvloop protocol that carries octets between a socket and a session."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from fastmta.session import Session, State
from fastmta.smtp import Reply
from fastmta.smtp import reply as replies

if TYPE_CHECKING:
    from .listener import Listener

# While a reply is pending a client may go on sending; from here on its socket is not read.
_BUFFERED_OCTETS_MAX = 64 * 1024
_CONTENT, _COMMITTING = State.CONTENT, State.COMMITTING
# How long a client may take to fetch our last reply before the connection is cut.
_LINGER_S = 10.0
# Slowest content that is put up with (Postfix's smtpd_min_data_rate).
_CONTENT_OCTETS_PER_S = 500


class Connection:
    """The buffered protocol of one client.

    Not derived from asyncio.Protocol: with that base uvloop would ignore `get_buffer`. Input is
    read into one scratch buffer that all connections share; it is parsed before control returns
    to the loop, so no other connection can overwrite it.
    """

    __slots__ = (
        "_address", "_content_from_s", "_content_octets",
        "_ends_at_s", "_is_at_end", "_is_reading", "_is_stuffed", "_listener",
        "_reason", "_session", "_transport", "bucket", "deadline_s",
    )  # fmt: skip

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self._transport: asyncio.Transport | None = None
        self._session: Session | None = None
        self._address = ""
        self._reason = "lost connection"
        self._is_at_end = False  # the client will send no more, but waits for an answer
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
        self._address = listener.normalise(peer[0])
        now_s = listener.now_s()
        self.deadline_s = now_s + listener.settings.idle_s
        self._ends_at_s = now_s + listener.settings.session_s
        refusal = listener.admit(self, self._address)
        if refusal is not None:
            transport.write(refusal.octets)
            transport.close()
            return
        listener.name_of(self._address, self._named)

    def _named(self, name: str) -> None:
        """The client's verified name is known (at once, for trusted networks): greet."""
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        self._session = session = self._listener.session(self._address, name, self._answer)
        self._listener.connected(session)
        self._answer(session.greeting())

    def get_buffer(self, size_hint: int) -> memoryview:
        return self._listener.scratch

    def buffer_updated(self, count: int) -> None:
        session = self._session
        listener = self._listener
        now_s = listener.now_s()
        if session is None:  # RFC 5321 4.3.1: the client waits for the greeting
            self._refuse(replies.R554_SYNCHRONIZATION, "lost connection")
            return
        try:
            octets = session.receive(listener.scratch, count)
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
                octets += session.refuse(
                    replies.r421_too_much_work(listener.ports.settings.hostname)
                )
        self._answer(octets)

    def eof_received(self) -> bool:
        """A client that half-closes behind its content still gets the reply to it."""
        session = self._session
        self._is_at_end = session is not None and session.state is _COMMITTING
        return self._is_at_end

    def pause_writing(self) -> None:
        """The client does not read our replies: stop reading its commands."""
        self._is_stuffed = True
        self._read(False)

    def resume_writing(self) -> None:
        self._is_stuffed = False
        session = self._session
        if session is not None and not session.delay_s:
            self._answer(b"")

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        # Session and connection know each other: without this each pair would wait for the
        # garbage collector.
        session, self._session = self._session, None
        self._listener.left(self, self._address)
        if session is not None:
            reason = (
                "" if session.is_closing and self._reason == "lost connection" else self._reason
            )
            self._listener.ports.emit(session.ended(reason))

    # Called by the wheel, the session and the listener.

    def on_deadline(self) -> None:
        """Nothing came for too long (RFC 5321 4.5.3.2.7), or our last reply was not fetched."""
        transport = self._transport
        if transport is None or transport.is_closing():
            if transport is not None:
                transport.abort()  # closing waits for the client to read, for ever if it must
            return
        session = self._session
        if session is not None and session.state is _COMMITTING:
            self.deadline_s = self._listener.now_s() + self._listener.settings.idle_s
            self._listener.watch(self)  # we are the ones who are late
            return
        if session is not None and session.is_behind:
            self.deadline_s = self._listener.now_s() + self._listener.settings.idle_s
            self._content_from_s += self._listener.settings.idle_s
            self._listener.watch(self)
            return
        self._refuse(replies.r421_timeout(self._listener.ports.settings.hostname), "timeout")
        self.deadline_s = self._listener.now_s() + _LINGER_S
        self._listener.watch(self)

    def shut_down(self) -> None:
        """Say 421 and close if no transaction is open."""
        if self._session is None or self._session.is_idle:
            self.cut()

    def cut(self) -> None:
        """Close whatever the state (the deadline of a shutdown)."""
        self._refuse(replies.r421_shutting_down(self._listener.ports.settings.hostname), "")

    def _refuse(self, reply: Reply, reason: str) -> None:
        self._reason = reason
        transport = self._transport
        if transport is None:
            return
        session = self._session
        transport.write(reply.octets if session is None else session.refuse(reply))
        transport.close()

    def _answer(self, octets: bytes) -> None:
        """Write replies, then close, wait or go on as the session says."""
        transport = self._transport
        session = self._session
        if transport is None or session is None:
            return
        if octets:
            transport.write(octets)
        if session.delay_s:
            self._read(False)
            self._listener.call_later(session.delay_s, self._resume)
        elif session.is_closing or (self._is_at_end and session.state is not _COMMITTING):
            transport.close()
        elif session.state is _COMMITTING:
            if session.buffered_octets > _BUFFERED_OCTETS_MAX:
                self._read(False)
        elif not self._is_reading and not self._is_stuffed and not session.is_behind:
            self._read(True)

    def _resume(self) -> None:
        """The penalty for an error is over: show its reply and go on."""
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
