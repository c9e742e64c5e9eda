"""The server's side of one TLS session: octets in, octets out, no socket (RFC 8446, RFC 5246)."""

from __future__ import annotations

import ssl

from .context import ListenerContext
from .hello import scan_server_name
from .memory import MemoryTls, TlsFailure

__all__ = ["ServerTls", "TlsFailure"]


class ServerTls(MemoryTls):
    """A TLS session with one client; how it is used is written at `MemoryTls`."""

    __slots__ = ("_hello", "_server_name")

    PEER = "client"

    def __init__(self, context: ssl.SSLContext) -> None:
        super().__init__(context, server_side=True)
        self._hello: bytearray | None = bytearray()  # until all of it is here
        self._server_name = ""

    def feed(self, octets: memoryview | bytes) -> None:
        """Take ciphertext as it came from the socket; it is copied.

        Raises RuntimeError when more than 1 MB of earlier feeds is there that nobody read.
        """
        if self._hello is None:
            super().feed(octets)
        elif not self._is_deaf:
            self._feed_hello(self._hello, octets)

    def _feed_hello(self, hello: bytearray, octets: memoryview | bytes) -> None:
        """Collect the ClientHello, choose the certificate by it, then let OpenSSL have it."""
        hello += octets
        name = scan_server_name(hello)
        if name is None:
            return
        self._hello = None
        self._server_name = name
        context = self._sslobj.context
        if name and isinstance(context, ListenerContext):
            # Certificate and trust change; tickets stay those of the listener's own context.
            self._sslobj.context = context.chosen(name)
        super().feed(bytes(hello))

    def handshake(self) -> bool:
        """Go on with the handshake; True once it is done. Raises TlsFailure."""
        return self._hello is None and super().handshake()

    def _establish(self, server_name: str = "", *, is_verified: bool = True) -> None:
        super()._establish(server_name or self._server_name, is_verified=is_verified)
