"""How long a connection may last, and how it ends: nobody keeps us or misses our last reply."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from fastmta.session import Session
from fastmta.smtp import Reply
from fastmta.smtp import reply as replies

from .layers import ProxyLayer, TlsLayer

if TYPE_CHECKING:
    from .listener import Listener

LOST = "lost connection"
# How long a client may take to fetch our last reply before the connection is cut.
_LINGER_S = 10.0
_DROPPED_OCTETS_MAX = 1024 * 1024  # from a client that goes on sending behind our last reply
# Slowest content that is put up with (Postfix's smtpd_min_data_rate).
_CONTENT_OCTETS_PER_S = 500


class LimitedConnection:
    """A client's connection as to its time and its end; what else it does, `Connection` says.

    `deadline_s` moves while the client is active; the wheel of the listener looks at it.
    """

    __slots__ = (
        "_content_from_s", "_content_octets", "_dropped_octets", "_ends_at_s", "_is_at_end",
        "_is_parting", "_is_plain", "_is_reading", "_proxy", "_reason", "_session", "_tls",
        "bucket", "counted_as", "deadline_s", "listener", "transport",
    )  # fmt: skip

    def __init__(self, listener: Listener) -> None:
        self.listener = listener
        self.transport: asyncio.Transport | None = None
        self._session: Session | None = None
        self._proxy: ProxyLayer | None = None  # until the header is there
        self._tls: TlsLayer | None = None
        self.counted_as = ""  # the address under which the census knows it
        self._is_plain = False  # greeted, and nothing between the socket and the session
        self._is_reading = True
        # Its end.
        self._reason = LOST
        self._is_at_end = False  # the client will send no more, but waits for an answer
        self._is_parting = False  # our last octet is written; what comes is dropped
        self._dropped_octets = 0
        # Its time.
        self._ends_at_s = 0.0
        self._content_from_s = 0.0
        self._content_octets = 0
        self.deadline_s = 0.0
        self.bucket = 0

    # Its time.

    def on_deadline(self) -> None:
        """Nothing came for too long (RFC 5321 4.5.3.2.7), or our last reply was not fetched."""
        transport = self.transport
        if transport is None or self.is_over:
            if transport is not None:
                transport.abort()  # closing waits for the client to read, for ever if it must
            return
        session = self._session
        if self._proxy is not None or (self._tls is not None and not self._tls.is_secure):
            self._reason = "timeout"
            self.abort()  # nothing can be said before the header, or within a handshake
            return
        if session is not None and session.is_pending:
            self.deadline_s = self.listener.now_s() + self.listener.settings.idle_s
            self.listener.watch(self)  # we are the ones who are late
            return
        if session is not None and session.is_behind:
            self.deadline_s = self.listener.now_s() + self.listener.settings.idle_s
            self._content_from_s += self.listener.settings.idle_s
            self.listener.watch(self)
            return
        self._refuse(replies.r421_timeout(self.listener.ports.settings.hostname), "timeout")

    def _hurry(self, seconds: float) -> None:
        """A deadline that may be nearer than the one before."""
        self.deadline_s = self.listener.now_s() + seconds
        self.listener.watch(self)

    def _content_deadline(self, now_s: float, count: int) -> None:
        """Content may take `idle_s` plus what it needs at the slowest rate, not longer."""
        if not self._content_octets:
            self._content_from_s = now_s
        self._content_octets += count
        self.deadline_s = (
            self._content_from_s
            + self.listener.settings.idle_s
            + self._content_octets / _CONTENT_OCTETS_PER_S
        )

    # Its end.

    def shut_down(self) -> None:
        """Say 421 and close if no transaction is open."""
        if self._session is None or self._session.is_idle:
            self.cut()

    def cut(self) -> None:
        """Close whatever the state (the deadline of a shutdown)."""
        self._refuse(replies.r421_shutting_down(self.listener.ports.settings.hostname), "")
        if self.transport is not None:
            self.transport.close()

    def _refuse(self, reply: Reply, reason: str) -> None:
        transport = self.transport
        if transport is None or self.is_over:
            return
        self._reason = reason
        session = self._session
        octets = reply.octets if session is None else session.refuse(reply)
        if self._tls is None:
            transport.write(octets)
        elif self._tls.is_secure:
            self._tls.write(octets)
        self.close()

    @property
    def is_over(self) -> bool:
        """Nothing more can be written."""
        transport = self.transport
        return transport is None or self._is_parting or transport.is_closing()

    def close(self) -> None:
        """Nothing more will be written."""
        transport = self.transport
        if transport is None or self._is_parting or transport.is_closing():
            return
        if self._tls is not None:
            self._tls.close()
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
        self.listener.parting(self)

    def _drop(self, count: int) -> None:
        self._dropped_octets += count
        if self._dropped_octets > _DROPPED_OCTETS_MAX:
            self.abort()

    def give_way(self) -> None:
        """Others need the place of one that parts."""
        self.listener.left(self, self.counted_as)
        self.abort()

    def abort(self) -> None:
        """End now; nothing can be said any more."""
        if self.transport is not None:
            self.transport.abort()

    def _read(self, is_reading: bool) -> None:
        transport = self.transport
        if transport is None or transport.is_closing() or is_reading == self._is_reading:
            return
        self._is_reading = is_reading
        if is_reading:
            transport.resume_reading()
        else:
            transport.pause_reading()
