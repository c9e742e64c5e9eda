"""Passwords: how they are prepared, and the hashes by which they are known again.

Two forms are stored. `$scrypt$ln=14,r=8,p=1$salt$hash` (a PHC string, RFC 7914) checks a password
that the client sends; `SCRAM-SHA-256$iterations:salt$StoredKey:ServerKey` (RFC 5802 5.1, written
as PostgreSQL and others do) lets a client prove that it knows it. One scrypt check with the cost
below takes 50 to 80 ms of one core and 16 MiB, measured on the machine this was written on.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
import secrets
import stringprep
import unicodedata
from typing import Final

import msgspec

NAME_OCTETS_MAX: Final = 320  # a local part of 64, "@", a domain of 255
PASSWORD_OCTETS_MAX: Final = 1024
SALT_OCTETS: Final = 16
HASH_OCTETS: Final = 32  # of SHA-256, and what scrypt is asked for
SCRAM_ITERATIONS: Final = 100_000  # of new verifiers; RFC 7677 4 asks for at least 4096
SCRAM_ITERATIONS_MIN: Final = 4096
SCRAM_ITERATIONS_MAX: Final = 10_000_000  # the client has to do them
_SCRYPT_MEMORY_MAX: Final = 64 * 1024 * 1024  # of one check; a stored hash may not ask for more
_SCRYPT_P_MAX: Final = 4
_STORED_SALT_MAX: Final = 64

_PHC = re.compile(
    r"\$scrypt\$ln=([1-9][0-9]?),r=([1-9][0-9]?),p=([1-9])"
    r"\$([A-Za-z0-9+/]{11,88})\$([A-Za-z0-9+/]{43})"
)
_SCRAM = re.compile(
    r"SCRAM-SHA-256\$([1-9][0-9]{0,8}):([A-Za-z0-9+/]{4,88}={0,2})"
    r"\$([A-Za-z0-9+/]{43}=):([A-Za-z0-9+/]{43}=)"
)


class BadPassword(ValueError):
    """A name, password or stored hash that cannot be used; the text says why."""


class Cost(msgspec.Struct, frozen=True):
    """What one scrypt check costs: 2**ln blocks of 128*r octets, p times."""

    ln: int = 14
    r: int = 8
    p: int = 1


COST: Final = Cost()  # of new hashes


class ScryptHash(msgspec.Struct, frozen=True):
    """A parsed `$scrypt$` string."""

    cost: Cost
    salt: bytes
    key: bytes


class ScramVerifier(msgspec.Struct, frozen=True):
    """What a SCRAM server stores of a password (RFC 5802 3)."""

    iterations: int
    salt: bytes
    stored_key: bytes
    server_key: bytes

    def render(self) -> str:
        """The stored form."""
        salt, stored, server = (
            base64.b64encode(each).decode("ascii")
            for each in (self.salt, self.stored_key, self.server_key)
        )
        return f"SCRAM-SHA-256${self.iterations}:{salt}${stored}:{server}"


def prepare_password(text: str) -> bytes:
    """`text` as both sides hash it (RFC 4013 2.1 to 2.3, with what Unicode has added since).

    Raises BadPassword for an empty one, for control characters and for one that is too long.
    """
    prepared = _prepare(text, "password", PASSWORD_OCTETS_MAX)
    if not prepared:
        raise BadPassword("the password is empty")
    return prepared.encode("utf-8")


def prepare_name(text: str) -> str:
    """`text` as the name of a user. Raises BadPassword for what no name may have in it.

    Beyond what a password may not have, that is whatever would be invisible in a log.
    """
    prepared = _prepare(text, "name", NAME_OCTETS_MAX)
    if not prepared:
        raise BadPassword("the name is empty")
    if not prepared.isprintable():
        raise BadPassword("the name has control characters in it")
    return prepared


def _prepare(text: str, what: str, octets_max: int) -> str:
    """RFC 4013 2.1 and 2.2: spaces to one kind, the invisible to nothing, then NFKC.

    Of at most `octets_max` before and after. Both are looked at before anything is done with the
    characters: NFKC of many combining marks takes quadratic time, makes up to eighteen characters
    of one, and some of this is done on the event loop. So it takes less than a millisecond.
    """
    _check_length(text, what, octets_max)
    if text.isascii() and text.isprintable():
        return text
    mapped = "".join(
        " " if stringprep.in_table_c12(each) else each
        for each in text
        if not stringprep.in_table_b1(each)
    )
    prepared = unicodedata.normalize("NFKC", mapped)
    _check_length(prepared, what, octets_max)
    for each in prepared:
        if stringprep.in_table_c21_c22(each) or stringprep.in_table_c4(each):
            raise BadPassword("control characters are not allowed")  # RFC 4013 2.3
        if stringprep.in_table_c5(each):
            raise BadPassword("it is not Unicode text")
    return prepared


def _check_length(text: str, what: str, octets_max: int) -> None:
    if len(text) > octets_max or len(text.encode("utf-8", "surrogatepass")) > octets_max:
        raise BadPassword(f"the {what} is longer than {octets_max} octets")


def hash_password(password: bytes, cost: Cost = COST) -> str:
    """A new PHC string for a prepared password. Takes as long as a check."""
    salt = secrets.token_bytes(SALT_OCTETS)
    key = _scrypt(password, salt, cost)
    return f"$scrypt$ln={cost.ln},r={cost.r},p={cost.p}${_bare_base64(salt)}${_bare_base64(key)}"


def parse_hash(text: str) -> ScryptHash:
    """A stored PHC string. Raises BadPassword."""
    match = _PHC.fullmatch(text)
    if match is None:
        raise BadPassword("not a hash of the form $scrypt$ln=..,r=..,p=..$salt$hash")
    cost = Cost(int(match[1]), int(match[2]), int(match[3]))
    if cost.ln >= 16 * cost.r:
        raise BadPassword("ln is too large for r")  # RFC 7914 2
    if cost.p > _SCRYPT_P_MAX or (128 * cost.r << cost.ln) > _SCRYPT_MEMORY_MAX:
        raise BadPassword("a check of this hash would cost too much")
    return ScryptHash(cost, _decoded(match[4]), _decoded(match[5]))


def verify_password(stored: ScryptHash, password: bytes) -> bool:
    """Whether `password`, prepared, is the one; how long it takes does not tell."""
    return hmac.compare_digest(_scrypt(password, stored.salt, stored.cost), stored.key)


def dummy_hash(cost: Cost = COST) -> ScryptHash:
    """A hash that no password has, to be checked in place of one that is not there."""
    return ScryptHash(cost, secrets.token_bytes(SALT_OCTETS), secrets.token_bytes(HASH_OCTETS))


def make_verifier(
    password: bytes, iterations: int = SCRAM_ITERATIONS, salt: bytes = b""
) -> ScramVerifier:
    """The SCRAM-SHA-256 verifier of a prepared password."""
    salt = salt or secrets.token_bytes(SALT_OCTETS)
    salted = hashlib.pbkdf2_hmac("sha256", password, salt, iterations)
    client_key = hmac.digest(salted, b"Client Key", "sha256")
    server_key = hmac.digest(salted, b"Server Key", "sha256")
    return ScramVerifier(iterations, salt, hashlib.sha256(client_key).digest(), server_key)


def parse_verifier(text: str) -> ScramVerifier:
    """A stored verifier. Raises BadPassword."""
    match = _SCRAM.fullmatch(text)
    if match is None:
        raise BadPassword("not a verifier of the form SCRAM-SHA-256$n:salt$StoredKey:ServerKey")
    iterations = int(match[1])
    if not SCRAM_ITERATIONS_MIN <= iterations <= SCRAM_ITERATIONS_MAX:
        raise BadPassword(
            f"SCRAM iterations must be {SCRAM_ITERATIONS_MIN} to {SCRAM_ITERATIONS_MAX}"
        )
    keys = [_decoded(match[number]) for number in (2, 3, 4)]
    if len(keys[0]) > _STORED_SALT_MAX:
        raise BadPassword("the salt is too long")
    return ScramVerifier(iterations, *keys)


def _scrypt(password: bytes, salt: bytes, cost: Cost) -> bytes:
    return hashlib.scrypt(
        password,
        salt=salt,
        n=1 << cost.ln,
        r=cost.r,
        p=cost.p,
        maxmem=2 * _SCRYPT_MEMORY_MAX,
        dklen=HASH_OCTETS,
    )


def _bare_base64(octets: bytes) -> str:
    return base64.b64encode(octets).decode("ascii").rstrip("=")


def _decoded(text: str) -> bytes:
    """Base64, with or without its padding. Raises BadPassword."""
    bare = text.rstrip("=")
    try:
        return base64.b64decode(bare + "=" * (-len(bare) % 4), validate=True)
    except binascii.Error:
        raise BadPassword("bad base64") from None
