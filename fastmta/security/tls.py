"""The server's side of one TLS session: octets in, octets out, no socket (RFC 8446, RFC 5246)."""

from __future__ import annotations

import contextlib
import hashlib
import re
import ssl

from fastmta.smtp.tls import TlsFacts

from .context import ListenerContext
from .hello import scan_server_name

# OpenSSL's memory BIO keeps the size it once had: it is never given more than this at a time, or
# a session that carried one large message would hold 350 kB until it ends.
_BIO_OCTETS_MAX = 24 * 1024
_RECORD_OCTETS_MAX = 5 + 16384 + 256  # RFC 8446 5.2
_UNREAD_OCTETS_MAX = 1024 * 1024
_WRITE_OCTETS_MAX = 16 * 1024
# What OpenSSL may want to say after the handshake, unasked: a key update in answer to one is 30.
_UNASKED_OCTETS_MAX = 4096
_NOTHING = memoryview(b"")
# OpenSSL names an alert for the protocol that brought it in, whichever is spoken.
_ALERT = re.compile(r"(?:sslv3|tlsv1|tlsv13) alert (.+)")


class TlsFailure(Exception):
    """The TLS session is broken; its text says how. An alert may be waiting in `take_output`."""


class ServerTls:
    """A TLS session with one client.

    After each `feed`: `handshake` until it is True, then `read_into` until it returns 0; and in
    the end, also after a failure, `take_output`. A failure is final and is raised again by every
    later `handshake` and `read_into`; what is written after it is dropped.
    """

    __slots__ = (
        "_failure", "_hello", "_incoming", "_is_deaf", "_is_established", "_is_mute", "_outgoing",
        "_output", "_server_name", "_sslobj", "_waiting", "_written", "facts", "is_at_end",
    )  # fmt: skip

    facts: TlsFacts  # once the handshake is done

    def __init__(self, context: ssl.SSLContext) -> None:
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._sslobj = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._hello: bytearray | None = bytearray()  # until all of it is here
        self._server_name = ""
        self._waiting = _NOTHING  # ciphertext that found no place in the BIO
        self._output: list[bytes] | None = None  # ciphertext before that in the BIO
        self._written = 0  # of the outgoing BIO, what we wanted to say
        self._failure = ""
        self._is_established = False
        self._is_deaf = False  # nothing is read any more
        self._is_mute = False  # nothing is written any more
        self.is_at_end = False  # the client sent close_notify (RFC 8446 6.1)

    def feed(self, octets: memoryview | bytes) -> None:
        """Take ciphertext as it came from the socket; it is copied.

        Raises RuntimeError when more than 1 MB of earlier feeds is there that nobody read.
        """
        if self._is_deaf:
            return
        if self._hello is not None:
            self._feed_hello(octets)
        elif self._waiting or self._incoming.pending + len(octets) > _BIO_OCTETS_MAX:
            if len(self._waiting) > _UNREAD_OCTETS_MAX:
                raise RuntimeError("TLS input is fed faster than it is read")
            self._waiting = memoryview(b"".join((self._waiting, octets)))
        else:
            self._incoming.write(octets)

    def _feed_hello(self, octets: memoryview | bytes) -> None:
        """Collect the ClientHello, choose the certificate by it, then let OpenSSL have it."""
        hello = self._hello
        assert hello is not None
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
        self.feed(bytes(hello))

    def handshake(self) -> bool:
        """Go on with the handshake; True once it is done. Raises TlsFailure."""
        if self._failure:
            raise TlsFailure(self._failure)
        if self._is_established or self._hello is not None:
            return self._is_established
        while not self._is_established:
            self._top_up()
            try:
                self._sslobj.do_handshake()
                self._establish()
            except ssl.SSLWantReadError:
                if not self._waiting:
                    break
            except ssl.SSLError as error:
                self._break(_text_of(error))
                raise TlsFailure(self._failure) from error
        return self._is_established

    def _establish(self) -> None:
        sslobj = self._sslobj
        name, _, bits = sslobj.cipher() or ("", "", 0)
        certificate = sslobj.getpeercert(binary_form=True)
        self.facts = TlsFacts(
            protocol=sslobj.version() or "",
            cipher=name,
            bits=bits,
            server_name=self._server_name,
            fingerprint=hashlib.sha256(certificate).hexdigest() if certificate else "",
        )
        self._is_established = True
        self._written = self._outgoing.pending  # session tickets

    def read_into(self, buffer: memoryview) -> int:
        """Put plaintext into `buffer` and return how many octets; 0: nothing (more) for now.

        Fewer than `buffer` holds means that there is no more. What came in order before a failure
        is returned first. Raises TlsFailure.
        """
        if self._is_deaf or not self._is_established:
            if self._failure:
                raise TlsFailure(self._failure)
            return 0
        incoming, sslobj = self._incoming, self._sslobj
        size = len(buffer)
        filled = 0
        # Asked before each read: only a record that is not whole yet makes an exception.
        while filled < size and (incoming.pending or self._waiting or sslobj.pending()):
            count = self._read_record(buffer[filled:] if filled else buffer)
            filled += count
            if self._is_deaf or not (count or self._waiting):
                break
        if self._failure and not filled:
            raise TlsFailure(self._failure)
        return filled

    def _read_record(self, buffer: memoryview) -> int:
        """The plaintext of one record, or as much of it as finds room; 0: none is whole."""
        if self._waiting:
            self._top_up()
        count: int = 0
        try:
            # With a buffer it is a number, which typeshed does not know.
            count = self._sslobj.read(len(buffer), buffer)  # type: ignore[assignment]  # see above
            if not count:
                self.is_at_end = self._is_deaf = True
                self._waiting = _NOTHING
        except ssl.SSLWantReadError:
            pass  # the rest of the record has not come yet
        except ssl.SSLError as error:
            self._break(_text_of(error))
        if self._outgoing.pending - self._written > _UNASKED_OCTETS_MAX:
            self._break("too many messages after the handshake")
        return count

    def _top_up(self) -> None:
        """Give the BIO more of what waits, so that a whole record is in it if there is one."""
        waiting = self._waiting
        pending = self._incoming.pending
        if waiting and pending < _RECORD_OCTETS_MAX:
            room = _BIO_OCTETS_MAX - pending
            self._incoming.write(waiting[:room])
            self._waiting = waiting[room:] if len(waiting) > room else _NOTHING

    def write(self, octets: bytes) -> None:
        """Encrypt `octets` for `take_output`; dropped when the session is broken or closed.

        Raises RuntimeError before the handshake is done.
        """
        if self._is_mute:
            return
        if not self._is_established:
            raise RuntimeError("plaintext before the TLS handshake is done")
        try:
            if len(octets) <= _WRITE_OCTETS_MAX:
                if octets:
                    self._sslobj.write(octets)
            else:
                self._write_large(octets)
        except ssl.SSLError as error:
            self._break(_text_of(error))
        self._written = self._outgoing.pending

    def _write_large(self, octets: bytes) -> None:
        """The same in pieces, so that the outgoing BIO stays small too."""
        if self._output is None:
            self._output = []
        for begin in range(0, len(octets), _WRITE_OCTETS_MAX):
            self._sslobj.write(octets[begin : begin + _WRITE_OCTETS_MAX])
            self._output.append(self._outgoing.read())

    def close(self) -> None:
        """Say close_notify, once; what the client still sends is not read."""
        if self._is_established and not self._is_mute:
            # It says so and then looks for the client's close_notify, which is not waited for.
            with contextlib.suppress(ssl.SSLError):
                self._sslobj.unwrap()
        self._is_mute = self._is_deaf = True
        self._waiting = _NOTHING

    def take_output(self) -> bytes:
        """Ciphertext to write to the socket; b"" when there is none."""
        octets = self._outgoing.read()
        self._written = 0
        if self._output is not None:
            octets = b"".join((*self._output, octets))
            self._output = None
        return octets

    def _break(self, text: str) -> None:
        self._failure = text
        self._is_deaf = self._is_mute = True
        self._waiting = _NOTHING


def _text_of(error: ssl.SSLError) -> str:
    """What went wrong, in a few words: "wrong version number"."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"certificate verify failed: {error.verify_message}"
    if isinstance(error, ssl.SSLZeroReturnError):
        return "closed by the client"
    text = (error.reason or "protocol error").replace("_", " ").lower()
    alert = _ALERT.fullmatch(text)
    return f"alert from the client: {alert[1]}" if alert else text
