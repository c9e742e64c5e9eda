"""A TLS client over memory BIOs, certificates to use with it, and records made by hand."""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import itertools
import ssl
import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path

import trustme
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from fastmta.security import ServerContexts, ServerTls, TlsFailure, TlsOptions

Cut = Callable[[bytes], list[bytes]]
_KEY = trustme.KeyType.ECDSA
_NAMES = {"1.0": "TLSv1", "1.1": "TLSv1_1", "1.2": "TLSv1_2", "1.3": "TLSv1_3"}


@cache
def authority() -> trustme.CA:
    """The one that clients of these tests trust."""
    return trustme.CA(key_type=_KEY)


def issue(path: Path, *names: str, ca: trustme.CA | None = None) -> str:
    """Write key and chain of a new certificate for `names` to one file; its path."""
    issued = (ca or authority()).issue_cert(*names, key_type=_KEY)
    path.write_bytes(issued.private_key_and_cert_chain_pem.bytes())
    return str(path)


def fingerprint(path: str | Path) -> str:
    """SHA-256 of the first certificate in a file, as TlsFacts gives it."""
    pem = Path(path).read_text(encoding="ascii")
    begin = pem.index("-----BEGIN CERTIFICATE")
    end = pem.index("-----END CERTIFICATE-----") + len("-----END CERTIFICATE-----")
    return hashlib.sha256(ssl.PEM_cert_to_DER_cert(pem[begin:end])).hexdigest()


def client_context(version: str = "1.3", certificate: str = "") -> ssl.SSLContext:
    """Of a client that speaks exactly this version and verifies what it is shown."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    authority().configure_trust(context)
    number = getattr(ssl.TLSVersion, _NAMES[version])
    with warnings.catch_warnings():  # old versions, to see them refused
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = context.maximum_version = number
    if version in ("1.0", "1.1"):
        context.set_ciphers("ALL:@SECLEVEL=0")
    if certificate:
        context.load_cert_chain(certificate)
    return context


def whole(octets: bytes) -> list[bytes]:
    return [octets]


def octet_by_octet(octets: bytes) -> list[bytes]:
    return [octets[i : i + 1] for i in range(len(octets))]


def split_at(position: int) -> Cut:
    return lambda octets: [piece for piece in (octets[:position], octets[position:]) if piece]


def every(count: int) -> Cut:
    return lambda octets: [octets[i : i + count] for i in range(0, len(octets), count)]


class Pair:
    """A client and a ServerTls that talk in memory.

    The server is fed from one buffer that is overwritten after each piece, as a listener's.
    """

    def __init__(
        self,
        server: ssl.SSLContext,
        client: ssl.SSLContext,
        name: str | None = "mx.example.org",
        session: ssl.SSLSession | None = None,
        buffer_octets: int = 65536,
    ) -> None:
        self.server = ServerTls(server)
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.client = client.wrap_bio(self._in, self._out, server_hostname=name, session=session)
        self.buffer = memoryview(bytearray(buffer_octets))
        self.is_established = False

    def shake(self, first: Cut = whole, later: Cut = whole) -> Pair:
        """Handshake; the client's first flight and its others arrive cut so. TlsFailure passes."""
        is_done = False
        for cut in itertools.chain([first], itertools.repeat(later, 4)):
            if not is_done:
                try:
                    self.client.do_handshake()
                    is_done = True
                except ssl.SSLWantReadError:
                    pass
            self.to_server(self._out.read(), cut)
            self._in.write(self.server.take_output())
            if is_done and self.is_established:
                return self
        raise AssertionError("the handshake does not end")

    def to_server(self, octets: bytes, cut: Cut = whole) -> bytes:
        """Feed the server as a listener would; the plaintext that came out."""
        plaintext = bytearray()
        for piece in cut(octets) if octets else ():
            scratch = bytearray(piece)
            self.server.feed(memoryview(scratch))
            scratch[:] = bytes(len(scratch))
            self.is_established = self.is_established or self.server.handshake()
            if self.is_established:
                plaintext += self.read()
        return bytes(plaintext)

    def read(self) -> bytes:
        """All that the server has now."""
        plaintext = bytearray()
        while count := self.server.read_into(self.buffer):
            plaintext += self.buffer[:count]
        return bytes(plaintext)

    def encrypt(self, plaintext: bytes) -> bytes:
        """What the client sends for it."""
        view = memoryview(plaintext)
        while view:
            view = view[self.client.write(bytes(view)) :]
        return self._out.read()

    def from_server(self) -> bytes:
        """What the client reads of all that the server wrote; SSLError passes."""
        self._in.write(self.server.take_output())
        return self.client_reads()

    def client_reads(self) -> bytes:
        plaintext = bytearray()
        while True:
            try:
                octets = self.client.read(65536)
            except ssl.SSLWantReadError:
                return bytes(plaintext)
            if not octets:
                return bytes(plaintext)
            plaintext += octets

    def client_leaves(self) -> bytes:
        """The client's close_notify."""
        with contextlib.suppress(ssl.SSLWantReadError):
            self.client.unwrap()
        return self._out.read()

    def shown(self) -> str:
        """Fingerprint of the certificate that the server showed."""
        certificate = self.client.getpeercert(binary_form=True)
        assert certificate is not None
        return hashlib.sha256(certificate).hexdigest()


def failure_of(pair: Pair, cut: Cut = whole) -> str:
    """Shake hands in vain; the text of the failure."""
    try:
        pair.shake(cut)
    except TlsFailure as failure:
        return str(failure)
    raise AssertionError("no TlsFailure")


class ClientRecords:
    """Records of a TLS 1.3 client after its handshake, made by hand of its logged secret."""

    def __init__(self, keylog: Path) -> None:
        lines = [line.split(" ") for line in keylog.read_text(encoding="ascii").split("\n")]
        secrets = {line[0]: bytes.fromhex(line[2]) for line in lines if len(line) == 3}
        self._begin(secrets["CLIENT_TRAFFIC_SECRET_0"])

    def _begin(self, secret: bytes) -> None:
        self._secret = secret
        self._key = AESGCM(self._derive(b"key", 32))
        self._iv = int.from_bytes(self._derive(b"iv", 12), "big")
        self._sequence = 0

    def _derive(self, label: bytes, size: int) -> bytes:
        """HKDF-Expand-Label of RFC 8446 7.1 with SHA-384, one block."""
        name = b"tls13 " + label
        info = size.to_bytes(2, "big") + bytes([len(name)]) + name + b"\0\x01"
        return hmac.digest(self._secret, info, "sha384")[:size]

    def record(self, plaintext: bytes, kind: int = 23) -> bytes:
        inner = plaintext + bytes([kind])
        header = b"\x17\x03\x03" + (len(inner) + 16).to_bytes(2, "big")
        nonce = (self._iv ^ self._sequence).to_bytes(12, "big")
        self._sequence += 1
        return header + self._key.encrypt(nonce, inner, header)

    def key_update(self) -> bytes:
        """One that asks for one in return (RFC 8446 4.6.3)."""
        octets = self.record(b"\x18\x00\x00\x01\x01", 22)
        self._begin(self._derive(b"traffic upd", 48))
        return octets


def contexts(path: Path, *names: str) -> ServerContexts:
    """Of a listener whose certificate, for `names`, is written to `path`."""
    return ServerContexts(TlsOptions(issue(path, *names)))
