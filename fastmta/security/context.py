"""TLS contexts of a listener: made of files, renewed when these change, chosen by server name.

Session tickets. Their keys belong to the context of the listener: processes that are forked from
one that made it resume each other's sessions, another listener's context does not. A refresh makes
new keys, in each process its own: until the next start a ticket is good only where it was made, and
a client that shows it elsewhere gets a full handshake. That also ends, with the old keys, what
clients may resume whose certificates are no longer accepted.
"""

from __future__ import annotations

import datetime
import os
import ssl
from collections.abc import Callable
from dataclasses import dataclass

from .certificate import Certificate, TlsProblem, load_authorities, load_pair, read_certificate

VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}

# Forward secrecy, and AEAD or SHA-2. Written out, because Python is built with various defaults.
_CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20:ECDHE+AES:!aNULL:!SHA1:!AESCCM"

Stamp = tuple[int, int, int] | None  # mtime_ns, size, inode; None: no such file


@dataclass(frozen=True, slots=True)
class TlsOptions:
    """What a listener is to offer. Paths name PEM files."""

    certificate: str  # the leaf first, then its chain
    key: str = ""  # "": in the certificate's file
    others: tuple[str, ...] = ()  # key and chain each, for clients that ask for their names
    version_min: str = "1.2"  # or "1.3"
    ciphers: str = ""  # OpenSSL's list for TLS 1.2; "": with forward secrecy, and AEAD or SHA-2
    client_ca: str = ""  # "": no client certificate is asked for
    is_client_certificate_required: bool = False


class ListenerContext(ssl.SSLContext):
    """The context of new sessions, which knows the contexts for names."""

    exact: dict[str, ssl.SSLContext]
    wildcard: dict[str, ssl.SSLContext]  # by what follows "*."

    def chosen(self, name: str) -> ssl.SSLContext:
        """The context for a name in lower case: its own, then a wildcard's, else this one."""
        found = self.exact.get(name) or self.wildcard.get(name.partition(".")[2])
        return found or self


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)


class ServerContexts:
    """Holds the context of one listener.

    Raises TlsProblem (a ValueError) when it cannot be made.
    """

    def __init__(self, options: TlsOptions, now: Callable[[], datetime.datetime] = _now) -> None:
        self.options = options
        self._now = now
        self._problem = ""
        self._stamps = self._stamps_now()
        self.context, self._certificates = self._load()
        self.warnings = self._warnings_now()  # as of the last time files were read
        self._told = set(self.warnings)

    def refresh(self) -> list[str]:
        """Read the files again if they changed; what an operator has to know, each thing once.

        That is also what only time brings: a certificate that comes to its end. Sessions under way
        keep their context, and so do new ones as long as the files are bad.
        """
        stamps = self._stamps_now()  # before reading: what changes meanwhile is seen next time
        is_changed = stamps != self._stamps
        if not is_changed and not self._problem:
            return self._untold()
        self._stamps = stamps
        try:
            self.context, self._certificates = self._load()
        except TlsProblem as problem:
            text = str(problem)
            is_told = text == self._problem and not is_changed
            self._problem = text
            said = [] if is_told else [f"{text} (the TLS certificates in use stay)"]
            return said + self._untold()
        self._problem = ""
        self._told.clear()
        self.warnings = self._untold()
        return self.warnings

    def _untold(self) -> list[str]:
        """Warnings that were not given yet."""
        texts = [text for text in self._warnings_now() if text not in self._told]
        self._told.update(texts)
        return texts

    def _warnings_now(self) -> list[str]:
        now = self._now()
        texts = [certificate.warning(now) for certificate in self._certificates]
        return [text for text in texts if text]

    def _stamps_now(self) -> dict[str, Stamp]:
        options = self.options
        paths = {options.certificate, options.key, *options.others, options.client_ca}
        return {path: stamp_of(path) for path in paths if path}

    def _load(self) -> tuple[ListenerContext, list[Certificate]]:
        """A context made of the files as they are, and the certificates in it."""
        options = self.options
        main = read_certificate(options.certificate)
        context = ListenerContext(ssl.PROTOCOL_TLS_SERVER)
        _prepare(context, options)
        load_pair(context, options.certificate, options.key)
        pairs: list[tuple[Certificate, ssl.SSLContext]] = [(main, context)]
        pairs += _load_others(options)
        context.exact, context.wildcard = {}, {}
        for certificate, inner in pairs:  # of two certificates for a name the first is shown
            for name in certificate.names:
                if name.startswith("*."):
                    context.wildcard.setdefault(name[2:], inner)
                else:
                    context.exact.setdefault(name, inner)
        return context, [certificate for certificate, _ in pairs]


def _load_others(options: TlsOptions) -> list[tuple[Certificate, ssl.SSLContext]]:
    """The certificates for names, each with its context. Raises TlsProblem."""
    pairs = []
    for path in options.others:
        other = read_certificate(path)
        inner = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        _prepare(inner, options)
        load_pair(inner, path, path)
        pairs.append((other, inner))
    return pairs


def check_tls(options: TlsOptions) -> list[str]:
    """What a ServerContexts would warn of. Raises TlsProblem, as it would.

    `certificate` may be "": one that is still to be made.
    """
    if options.certificate:
        return ServerContexts(options).warnings
    import cryptography  # who makes one needs it: ImportError

    assert cryptography.__version__
    _prepare(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), options)
    now = _now()
    texts = [certificate.warning(now) for certificate, _ in _load_others(options)]
    return [text for text in texts if text]


def stamp_of(path: str) -> Stamp:
    """What changes when the file does."""
    try:
        status = os.stat(path)
    except (OSError, ValueError):  # ValueError: NUL in the path
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino


def _prepare(context: ssl.SSLContext, options: TlsOptions) -> None:
    """All but certificate and names. Raises TlsProblem."""
    version = VERSIONS.get(options.version_min)
    if version is None:
        raise TlsProblem(f"TLS version {options.version_min!r} is not known: 1.2 or 1.3")
    context.minimum_version = version
    # Early data is off unless asked for, which the ssl module cannot.
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    context.options |= ssl.OP_CIPHER_SERVER_PREFERENCE
    context.num_tickets = 1  # one connection at a time is what resumes
    try:
        context.set_ciphers(options.ciphers or _CIPHERS)
    except ssl.SSLError as error:
        raise TlsProblem(f"TLS ciphers {options.ciphers!r}: OpenSSL knows none") from error
    if options.client_ca:
        load_authorities(context, options.client_ca, "client certificates")
        is_required = options.is_client_certificate_required
        context.verify_mode = ssl.CERT_REQUIRED if is_required else ssl.CERT_OPTIONAL
    elif options.is_client_certificate_required:
        raise TlsProblem("a client certificate is required, but no file says which: set client_ca")
