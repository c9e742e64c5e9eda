"""What every mechanism needs: the steps it can give, its fields, and the one that checks them."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable
from typing import Final, Protocol, TypeAlias

import msgspec

from fastmta.smtp.sasl import LOCKED, Done, SaslStep, Verdict

from .password import BadPassword, prepare_name

INVALID: Final = "credentials invalid"  # the one text for whatever was wrong about them
BUSY: Final = "too many logins are being checked"
NO_USERS: Final = "the users cannot be read"
_REASON_CHARACTERS_MAX: Final = 200

Cancel: TypeAlias = Callable[[], None]


class Client(msgspec.Struct, frozen=True):
    """Who is at the other end, as far as a check may need it."""

    address: str
    is_secure: bool


class Checker(Protocol):
    """Decides about credentials. Each call ends with one ACCEPTED, REFUSED or UNAVAILABLE step,
    given to `done` now or later, unless the function that the call returns is called before."""

    def check_password(self, login: str, password: str, client: Client, done: Done) -> Cancel:
        """Whether the password, as it was sent, is that of `login`."""

    def check_token(
        self, mechanism: str, message: bytes, token: tuple[str, str], client: Client, done: Done
    ) -> Cancel:
        """Whether the token is good, and for whom; `token` is (login as claimed or "", token)."""


def challenge(octets: bytes) -> SaslStep:
    return SaslStep(Verdict.CHALLENGE, octets)


def accepted(login: str) -> SaslStep:
    return SaslStep(Verdict.ACCEPTED, login=login)


def refused(reason: str, login: str = "") -> SaslStep:
    return SaslStep(Verdict.REFUSED, login=login, reason=readable(reason))


def locked(login: str) -> SaslStep:
    """Right credentials of an account that may not be used now: only the log tells it."""
    return SaslStep(Verdict.REFUSED, login=login, reason=INVALID, log_reason=LOCKED)


def unavailable(reason: str, login: str = "") -> SaslStep:
    return SaslStep(Verdict.UNAVAILABLE, login=login, reason=readable(reason))


def readable(text: str) -> str:
    """`text` fit for a reply and a log line: printable ASCII, not long."""
    return "".join(each if " " <= each <= "~" else "?" for each in text[:_REASON_CHARACTERS_MAX])


def never_locked(login: str) -> bool:
    """Nobody counts refused logins."""
    return False


def nothing_to_cancel() -> None:
    """Of a check that has already answered."""


class Malformed(Exception):
    """A response breaks the rules of its mechanism; the text says which."""


def decode_text(octets: bytes, what: str) -> str:
    """UTF-8 text without NUL. Raises Malformed."""
    try:
        text = octets.decode("utf-8")
    except UnicodeDecodeError:
        raise Malformed(f"the {what} is not UTF-8") from None
    if "\0" in text:
        raise Malformed(f"the {what} has a NUL in it")
    return text


def decode_name(octets: bytes) -> str:
    """The name of a user, prepared. Raises Malformed."""
    try:
        return prepare_name(decode_text(octets, "name"))
    except BadPassword as problem:
        raise Malformed(str(problem)) from None


def decode_base64(octets: bytes, size_max: int) -> bytes:
    """Strict base64 (RFC 4648 4) of at most `size_max` octets. Raises Malformed."""
    if len(octets) > (size_max + 2) // 3 * 4:
        raise Malformed("a field is too long")
    try:
        decoded = base64.b64decode(octets, validate=True)
    except binascii.Error:
        raise Malformed("bad base64") from None
    if base64.b64encode(decoded) != octets:
        raise Malformed("bad base64")
    return decoded
