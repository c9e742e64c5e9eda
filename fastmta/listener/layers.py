"""What lies between a socket and its session: a PROXY header, then TLS.

Each layer is whole before the next sees an octet. A connection that has none of them pays nothing.
"""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

from fastmta.security import ServerTls, TlsFailure
from fastmta.smtp.tls import TlsFacts

from .proxy import ProxyHeader, ProxyProblem

if TYPE_CHECKING:
    from .connection import Connection

_NOBODY = ("0.0.0.0", 0)


class ProxyLayer:
    """Who the client is behind the proxy (the PROXY protocol, versions 1 and 2).

    Knows its connection, which has to let go of it: with the header it tells it `introduced`.
    """

    __slots__ = ("_connection", "_header")

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._header = ProxyHeader()

    def receive(self, octets: memoryview) -> None:
        """A part of the header, or all of it and what follows."""
        connection, header = self._connection, self._header
        try:
            used = header.feed(octets)
        except ProxyProblem as problem:
            connection.listener.tell_proxy(connection.address, str(problem))
            connection.abort()
            return
        if not header.is_complete:
            return
        source = header.source
        if source is None and not header.is_local:
            source = _NOBODY  # the proxy will not say who it is: nobody, but not the proxy
        connection.introduced(source, header.octets, bytes(octets[used:]))


class TlsLayer:
    """The server's side of TLS: ciphertext to a handshake, then decrypted to the session, and back.

    Knows its connection, which has to let go of it.
    """

    __slots__ = ("_connection", "_tls", "is_secure")

    def __init__(self, connection: Connection, context: ssl.SSLContext) -> None:
        self._connection = connection
        self._tls = ServerTls(context)
        self.is_secure = False  # the handshake is done

    @property
    def facts(self) -> TlsFacts:
        """What was agreed on, once the handshake is done."""
        return self._tls.facts

    def receive(self, octets: memoryview) -> None:
        """Ciphertext: to the handshake, or decrypted to the session."""
        tls, connection = self._tls, self._connection
        try:
            tls.feed(octets)
            if not self.is_secure:
                if not tls.handshake():
                    self.flush()
                    return
                self.is_secure = True
                connection.secured(self)
            plain = connection.listener.plain
            while count := tls.read_into(plain):  # 0, or the failure behind what was read
                connection.receive(plain, count)
                if connection.is_over:
                    return
        except TlsFailure as failure:
            self.flush()
            connection.listener.tell_tls(connection.address, str(failure))
            connection.close()
            return
        self.flush()
        if tls.is_at_end and not connection.eof_received():
            connection.close()

    def write(self, octets: bytes) -> None:
        """Encrypt to the client. Only once the handshake is done."""
        self._tls.write(octets)
        self.flush()

    def close(self) -> None:
        """Nothing more will be written: say so to the client."""
        self._tls.close()
        self.flush()

    def flush(self) -> None:
        """Hand on what TLS itself has to say."""
        octets = self._tls.take_output()
        transport = self._connection.transport
        if octets and transport is not None:
            transport.write(octets)
