"""TLS between a socket and a connection: a transport to the one, a protocol to the other.

Not derived from asyncio.Protocol: with that base uvloop would ignore `get_buffer`. Ciphertext is
read into one scratch buffer that all sessions of a loop share, and is taken from it before control
returns to the loop. A session in clear has nothing of this in its way.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from fastmta.security import TlsFailure

from .ports import TlsSession

if TYPE_CHECKING:
    from .connection import Connection

_SCRATCH_OCTETS: Final = 64 * 1024  # replies are short
_RECORD_OCTETS: Final = 16 * 1024  # RFC 8446 5.1: parts that fit one are sent in one


class Scratch:
    """The buffers of one loop."""

    __slots__ = ("cipher", "plain")

    def __init__(self) -> None:
        self.cipher = memoryview(bytearray(_SCRATCH_OCTETS))
        self.plain = memoryview(bytearray(_RECORD_OCTETS))


class SecureLink(asyncio.BufferedProtocol):
    """One TLS session. The connection writes to it as to a transport, and hears of its octets."""

    __slots__ = ("_connection", "_is_over", "_is_secured", "_scratch", "_tls", "_transport")

    def __init__(
        self,
        connection: Connection,
        transport: asyncio.Transport,
        tls: TlsSession,
        scratch: Scratch,
    ) -> None:
        self._connection = connection
        self._transport = transport
        self._tls = tls
        self._scratch = scratch
        self._is_secured = False
        self._is_over = False  # nothing is written or read any more

    def start(self) -> None:
        """Take over the socket and begin the handshake."""
        transport = self._transport
        transport.pause_reading()  # or uvloop goes on reading in the manner of the old protocol
        transport.set_protocol(self)
        transport.resume_reading()
        self._take()

    # What a connection asks of its transport.

    def write(self, octets: bytes) -> None:
        self._tls.write(octets)
        self._flush()

    def writelines(self, parts: Sequence[bytes]) -> None:
        if sum(map(len, parts)) <= _RECORD_OCTETS:
            self._tls.write(b"".join(parts))
        else:
            for part in parts:
                self._tls.write(part)
        self._flush()

    def get_write_buffer_size(self) -> int:
        return self._transport.get_write_buffer_size()

    def close(self) -> None:
        """After close_notify (RFC 8446 6.1)."""
        if not self._is_over:
            self._is_over = True
            self._tls.close()
            self._flush()
        self._transport.close()

    def abort(self) -> None:
        self._is_over = True
        self._transport.abort()

    # Called by the event loop. Nothing may escape into it.

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._scratch.cipher

    def buffer_updated(self, nbytes: int) -> None:
        if self._is_over:
            return
        try:
            self._tls.feed(self._scratch.cipher[:nbytes])
            self._take()
        except Exception as error:
            self._connection.broke(error)

    def eof_received(self) -> None:
        self._connection.eof_received()

    def pause_writing(self) -> None:
        self._connection.pause_writing()

    def resume_writing(self) -> None:
        self._connection.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        self._is_over = True
        self._connection.connection_lost(exc)

    # Inside.

    def _take(self) -> None:
        """Whatever has come: to the handshake, or decrypted to the connection."""
        tls = self._tls
        try:
            is_secured = self._is_secured or tls.handshake()
        except TlsFailure as failure:
            self._flush()  # the alert
            self._is_over = True
            self._connection.tls_failed(str(failure))
            return
        self._flush()
        if not is_secured:
            return
        if not self._is_secured:
            self._is_secured = True
            self._connection.secured(tls)
        self._read()

    def _read(self) -> None:
        """All that came at once is handed on at once: replies behind the last one owed are seen."""
        tls, plain = self._tls, self._scratch.plain
        pieces: list[bytes] = []
        is_broken = False
        try:
            while not self._is_over and (count := tls.read_into(plain)):
                pieces.append(bytes(plain[:count]))
        except TlsFailure:
            is_broken = True
        self._flush()
        if pieces:
            self._connection.data_received(b"".join(pieces))
        if is_broken:  # the server's octets cannot be trusted from here on: as if it had gone
            self.abort()
        elif tls.is_at_end and not self._is_over:
            self._connection.eof_received()
            self.close()

    def _flush(self) -> None:
        octets = self._tls.take_output()
        if octets and not self._transport.is_closing():
            self._transport.write(octets)
