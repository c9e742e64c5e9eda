"""A TLS session on two memory BIOs, whichever side we are: octets in, octets out, no socket."""

from __future__ import annotations

import contextlib
import hashlib
import re
import ssl
from typing import ClassVar

from fastmta.smtp.tls import TlsFacts

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
    """The TLS session is broken; its text says how. An alert may be waiting in `take_output`.

    `detail` is for the log, where more can be said than a peer or a sender should be told.
    """

    def __init__(self, text: str, detail: str = "") -> None:
        super().__init__(text)
        self.detail = detail or text


class MemoryTls:
    """What both sides of a TLS session share.

    After each `feed`: `handshake` until it is True, then `read_into` until it returns 0; and in
    the end, also after a failure, `take_output`. A failure is final and is raised again by every
    later `handshake` and `read_into`; what is written after it is dropped.
    """

    __slots__ = (
        "_detail", "_failure", "_incoming", "_is_deaf", "_is_established", "_is_mute",
        "_outgoing", "_output", "_sslobj", "_waiting", "_written", "facts", "is_at_end",
    )  # fmt: skip

    facts: TlsFacts  # once the handshake is done
    PEER: ClassVar[str]  # who is at the other end, in texts

    def __init__(
        self,
        context: ssl.SSLContext,
        *,
        server_side: bool,
        server_name: str | None = None,
        session: ssl.SSLSession | None = None,
    ) -> None:
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._sslobj = context.wrap_bio(
            self._incoming, self._outgoing, server_side, server_name, session
        )
        self._waiting = _NOTHING  # ciphertext that found no place in the BIO
        self._output: list[bytes] | None = None  # ciphertext before that in the BIO
        self._written = 0  # of the outgoing BIO, what we wanted to say
        self._failure = ""
        self._detail = ""
        self._is_established = False
        self._is_deaf = False  # nothing is read any more
        self._is_mute = False  # nothing is written any more
        self.is_at_end = False  # the peer sent close_notify (RFC 8446 6.1)

    def feed(self, octets: memoryview | bytes) -> None:
        """Take ciphertext as it came from the socket; it is copied.

        Raises RuntimeError when more than 1 MB of earlier feeds is there that nobody read.
        """
        if self._is_deaf:
            return
        if self._waiting or self._incoming.pending + len(octets) > _BIO_OCTETS_MAX:
            if len(self._waiting) > _UNREAD_OCTETS_MAX:
                raise RuntimeError("TLS input is fed faster than it is read")
            self._waiting = memoryview(b"".join((self._waiting, octets)))
        else:
            self._incoming.write(octets)

    def handshake(self) -> bool:
        """Go on with the handshake; True once it is done. Raises TlsFailure."""
        if self._failure:
            raise TlsFailure(self._failure, self._detail)
        while not self._is_established:
            self._top_up()
            try:
                self._sslobj.do_handshake()
            except ssl.SSLWantReadError:
                if not self._waiting:
                    break
            except ssl.SSLError as error:
                self._break(self._text_of(error), self._detail_of(error))
                raise TlsFailure(self._failure, self._detail) from error
            else:
                self._establish()
        return self._is_established

    def _establish(self, server_name: str = "", *, is_verified: bool = True) -> None:
        """The handshake is done: the facts."""
        sslobj = self._sslobj
        name, _, bits = sslobj.cipher() or ("", "", 0)
        certificate = sslobj.getpeercert(binary_form=True)
        self.facts = TlsFacts(
            protocol=sslobj.version() or "",
            cipher=name,
            bits=bits,
            server_name=server_name,
            fingerprint=hashlib.sha256(certificate).hexdigest() if certificate else "",
            is_verified=is_verified,
            is_resumed=bool(sslobj.session_reused),
        )
        self._is_established = True
        self._written = self._outgoing.pending  # session tickets, or the end of our handshake

    def read_into(self, buffer: memoryview) -> int:
        """Put plaintext into `buffer` and return how many octets; 0: nothing (more) for now.

        Fewer than `buffer` holds means that there is no more. What came in order before a failure
        is returned first. Raises TlsFailure.
        """
        if self._is_deaf or not self._is_established:
            if self._failure:
                raise TlsFailure(self._failure, self._detail)
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
            raise TlsFailure(self._failure, self._detail)
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
            self._break(self._text_of(error))
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
            self._break(self._text_of(error))
        self._written = self._outgoing.pending

    def _write_large(self, octets: bytes) -> None:
        """The same in pieces, so that the outgoing BIO stays small too."""
        if self._output is None:
            self._output = []
        view = memoryview(octets)
        for begin in range(0, len(view), _WRITE_OCTETS_MAX):
            self._sslobj.write(view[begin : begin + _WRITE_OCTETS_MAX])
            self._output.append(self._outgoing.read())

    def close(self) -> None:
        """Say close_notify, once; what the peer still sends is not read."""
        if self._is_established and not self._is_mute:
            # It says so and then looks for the peer's close_notify, which is not waited for.
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

    def _break(self, text: str, detail: str = "") -> None:
        self._failure = text
        self._detail = detail
        self._is_deaf = self._is_mute = True
        self._waiting = _NOTHING

    def _text_of(self, error: ssl.SSLError) -> str:
        """What went wrong, in a few words: "wrong version number"."""
        if isinstance(error, ssl.SSLCertVerificationError):
            return f"certificate verify failed: {error.verify_message}"
        if isinstance(error, ssl.SSLZeroReturnError):
            return f"closed by the {self.PEER}"
        text = (error.reason or "protocol error").replace("_", " ").lower()
        alert = _ALERT.fullmatch(text)
        return f"alert from the {self.PEER}: {alert[1]}" if alert else text

    def _detail_of(self, error: ssl.SSLError) -> str:
        """What the log is told beyond that; "": nothing."""
        return ""
