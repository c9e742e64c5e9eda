"""SCRAM-SHA-256 (RFC 5802, RFC 7677), the client's side, without channel binding.

The server learns nothing by which it could log in elsewhere, and has to prove that it knows the
password, too. It says how much work that is: at least what RFC 7677 4 asks for, because fewer
iterations would make our proof a password to be guessed, and no more than a second of one core.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import secrets
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

import msgspec

from .client_failure import SaslFailure
from .password import SCRAM_ITERATIONS_MIN, BadPassword, prepare_name, prepare_password
from .scram import SCRAM_OCTETS_MAX
from .step import Malformed, decode_base64

NAME: Final = "SCRAM-SHA-256"
ITERATIONS_MAX: Final = 1_000_000
_SALT_OCTETS_MAX: Final = 256
_NONCE_OCTETS_MAX: Final = 512
_KEYS_MAX: Final = 256
_GS2_HEADER: Final = b"n,,"  # no channel binding, and nobody else's name

# RFC 5802 7; an `m=` in front announces what we would have to know and do not
_SERVER_FIRST = re.compile(
    rb"r=([\x21-\x2b\x2d-\x7e]+),s=([A-Za-z0-9+/=]+),i=([1-9][0-9]{0,8})"
    rb"(?:,[A-Za-z]=[^,\0]+)*"
)
_SERVER_FINAL = re.compile(rb"v=([A-Za-z0-9+/=]+)(?:,[A-Za-z]=[^,\0]+)*")
_SERVER_ERROR = re.compile(rb"e=([a-z0-9-]{1,40})(?:,[A-Za-z]=[^,\0]+)*")


class ScramKeys(msgspec.Struct, frozen=True):
    """What is computed of a password, a salt and a number of iterations (RFC 5802 3)."""

    client_key: bytes
    server_key: bytes

    def __repr__(self) -> str:
        return "ScramKeys(***)"

    __str__ = __repr__


class ScramKeyCache:
    """Keys of servers that have proved themselves, so that later logins there cost no hash."""

    def __init__(self, count_max: int = _KEYS_MAX) -> None:
        self._count_max = count_max
        self._secret = secrets.token_bytes(32)
        self._keys: OrderedDict[bytes, ScramKeys] = OrderedDict()

    def __len__(self) -> int:
        return len(self._keys)

    def get(self, password: bytes, salt: bytes, iterations: int) -> ScramKeys | None:
        key = self._key(password, salt, iterations)
        known = self._keys.get(key)
        if known is not None:
            self._keys.move_to_end(key)
        return known

    def add(self, password: bytes, salt: bytes, iterations: int, keys: ScramKeys) -> None:
        self._keys[self._key(password, salt, iterations)] = keys
        if len(self._keys) > self._count_max:
            self._keys.popitem(last=False)

    def _key(self, password: bytes, salt: bytes, iterations: int) -> bytes:
        octets = b"%d:%d:%s%s" % (iterations, len(salt), salt, password)
        return hashlib.blake2b(octets, key=self._secret, digest_size=32).digest()


class ScramClient:
    """client-first, server-first, client-final, server-final, and our empty answer."""

    name = NAME

    def __init__(
        self, username: str, password: str, nonce: bytes, cache: ScramKeyCache | None = None
    ) -> None:
        """`nonce` is printable ASCII without a comma, never used before."""
        self._username = username
        self._password_text = password
        self._nonce = nonce
        self._cache = cache
        self._password = b""
        self._bare = b""  # client-first-message-bare
        self._asked: tuple[bytes, int] | None = None  # salt and iterations
        self._keys: ScramKeys | None = None
        self._server_signature: bytes | None = None  # what it has to be
        self._is_proved = False
        self.notice = ""

    def initial(self) -> bytes | None:
        try:
            name = prepare_name(self._username).encode("utf-8")
            self._password = prepare_password(self._password_text)
        except (BadPassword, UnicodeEncodeError):
            raise SaslFailure(f"{NAME}: the username or the password cannot be used") from None
        name = name.replace(b"=", b"=3D").replace(b",", b"=2C")
        self._bare = b"n=%s,r=%s" % (name, self._nonce)
        return _GS2_HEADER + self._bare

    def prepare(self, challenge: bytes) -> Callable[[], None] | None:
        """The keys, which take many hashes; None when they are known, or are not to be made."""
        if self._server_signature is not None or not self._bare:
            return None
        try:
            _, salt, iterations = self._parse_first(challenge)
        except SaslFailure:
            return None  # `respond` says so
        self._look_up(salt, iterations)
        if self._keys is not None:
            return None
        return lambda: self._compute(salt, iterations)

    def respond(self, challenge: bytes) -> bytes:
        if not self._bare:
            initial = self.initial()
            assert initial is not None
            return initial
        if self._is_proved:
            raise SaslFailure(f"{NAME}: a challenge after the last")
        if self._server_signature is None:
            return self._final(challenge)
        self._prove(challenge)
        return b""

    def finish(self, final: bytes) -> None:
        if not self._is_proved and final:
            self._prove(final)
        if not self._is_proved or self._keys is None or self._asked is None:
            raise SaslFailure(f"{NAME}: the server has not proved that it knows the password")
        if self._cache is not None:
            self._cache.add(self._password, *self._asked, self._keys)

    def _final(self, challenge: bytes) -> bytes:
        nonce, salt, iterations = self._parse_first(challenge)
        self._look_up(salt, iterations)
        if self._keys is None:
            self._compute(salt, iterations)
        keys = self._keys
        assert keys is not None
        binding = base64.b64encode(_GS2_HEADER)
        without_proof = b"c=%s,r=%s" % (binding, nonce)
        signed = b",".join((self._bare, challenge, without_proof))
        stored_key = hashlib.sha256(keys.client_key).digest()
        signature = hmac.digest(stored_key, signed, "sha256")
        proof = bytes(a ^ b for a, b in zip(keys.client_key, signature, strict=True))
        self._server_signature = hmac.digest(keys.server_key, signed, "sha256")
        return without_proof + b",p=" + base64.b64encode(proof)

    def _parse_first(self, message: bytes) -> tuple[bytes, bytes, int]:
        """Nonce, salt and iterations of a server-first-message. Raises SaslFailure."""
        match = _SERVER_FIRST.fullmatch(message) if len(message) <= SCRAM_OCTETS_MAX else None
        if match is None:
            raise SaslFailure(f"{NAME}: malformed server-first-message")
        nonce = match[1]
        if not nonce.startswith(self._nonce) or len(nonce) <= len(self._nonce):
            raise SaslFailure(f"{NAME}: the nonce is not ours")
        if len(nonce) > _NONCE_OCTETS_MAX:
            raise SaslFailure(f"{NAME}: the nonce is too long")
        iterations = int(match[3])
        if not SCRAM_ITERATIONS_MIN <= iterations <= ITERATIONS_MAX:
            raise SaslFailure(f"{NAME}: {iterations} iterations are too few or too many")
        try:
            salt = decode_base64(match[2], _SALT_OCTETS_MAX)
        except Malformed:
            raise SaslFailure(f"{NAME}: malformed salt") from None
        return nonce, salt, iterations

    def _look_up(self, salt: bytes, iterations: int) -> None:
        """Take known keys, if these are what the server asks for."""
        if self._asked != (salt, iterations):
            self._asked, self._keys = (salt, iterations), None
        if self._keys is None and self._cache is not None:
            self._keys = self._cache.get(self._password, salt, iterations)

    def _compute(self, salt: bytes, iterations: int) -> None:
        """Takes from milliseconds to a second; the GIL is free meanwhile."""
        salted = hashlib.pbkdf2_hmac("sha256", self._password, salt, iterations)
        self._keys = ScramKeys(
            client_key=hmac.digest(salted, b"Client Key", "sha256"),
            server_key=hmac.digest(salted, b"Server Key", "sha256"),
        )

    def _prove(self, message: bytes) -> None:
        """Whether the server knows the password. Raises SaslFailure."""
        if len(message) > SCRAM_OCTETS_MAX:
            raise SaslFailure(f"{NAME}: malformed server-final-message")
        error = _SERVER_ERROR.fullmatch(message)
        if error is not None:
            self.notice = error[1].decode("ascii")
            raise SaslFailure(f"{NAME}: refused by the server")
        match = _SERVER_FINAL.fullmatch(message)
        expected = self._server_signature
        if match is None or expected is None:
            raise SaslFailure(f"{NAME}: malformed server-final-message")
        if not hmac.compare_digest(match[1], base64.b64encode(expected)):
            raise SaslFailure(f"{NAME}: the server does not know the password")
        self._is_proved = True
