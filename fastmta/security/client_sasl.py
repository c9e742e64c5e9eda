"""How we log in elsewhere: PLAIN, LOGIN, XOAUTH2, and the choice among them and SCRAM (RFC 4954).

No I/O, no base64. No text of an error has a secret in it, or octets of the server as they came.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Sequence
from typing import Final, Protocol

import msgspec

from .bearer import TOKEN_OCTETS_MAX
from .client_failure import CHALLENGE_OCTETS_MAX, SaslFailure
from .client_scram import NAME as SCRAM
from .client_scram import ScramClient, ScramKeyCache
from .password import NAME_OCTETS_MAX, PASSWORD_OCTETS_MAX

__all__ = ["ClientExchange", "Credential", "SaslFailure", "ScramKeyCache", "Work", "choose"]

Work = Callable[[], None]

_NONCE_OCTETS: Final = 18
_COMMAND_OCTETS_MAX: Final = 512  # RFC 4954 4: with a longer one no initial response is sent
_TOKEN = re.compile(r"[A-Za-z0-9._~+/-]+=*")  # RFC 6750 2.1
_STATUS = re.compile(rb'"status"[ \t]*:[ \t]*"?([A-Za-z0-9_.-]{1,40})"?')


class Credential(msgspec.Struct, frozen=True):
    """Whom we log in as. What is secret is not shown by `repr`."""

    username: str
    password: str = ""
    token: str = ""  # a bearer token
    mechanisms: tuple[str, ...] = ()  # that may be used; (): whatever fits

    def __repr__(self) -> str:
        parts = [f"username={self.username!r}"]
        parts += [f"{name}=***" for name in ("password", "token") if getattr(self, name)]
        parts += [f"mechanisms={self.mechanisms!r}"] if self.mechanisms else []
        return f"Credential({', '.join(parts)})"

    __str__ = __repr__


class ClientExchange(Protocol):
    """One AUTH command under way. After a SaslFailure it is over: cancel it with `*`."""

    name: str  # of the mechanism
    notice: str  # what the server said was wrong, fit for a log; "": nothing

    def initial(self) -> bytes | None:
        """The initial response; None: AUTH goes without one. Raises SaslFailure."""

    def prepare(self, challenge: bytes) -> Work | None:
        """What `respond` would have to compute for long; None: nothing.

        It may be done in a thread, while nothing else is done with this exchange. Raises nothing.
        """

    def respond(self, challenge: bytes) -> bytes:
        """The answer to a challenge (334). Raises SaslFailure."""

    def finish(self, final: bytes) -> None:
        """The server accepted us (235). `final` are its last octets, if the reply had any.

        Raises SaslFailure for a server that has not proved what it has to.
        """


def choose(
    offered: Sequence[str],
    credential: Credential,
    *,
    is_confidential: bool,
    keys: ScramKeyCache | None = None,
    make_nonce: Callable[[], bytes] | None = None,
) -> ClientExchange | None:
    """The strongest mechanism that both sides have; None: there is none.

    PLAIN, LOGIN and XOAUTH2 send the secret itself: only with `is_confidential`, which says that
    nobody but the right peer reads it, or that the operator does not mind. `keys` saves work from
    one login to the next.
    """
    known = {one.upper() for one in offered[:100]}
    if credential.mechanisms:
        known &= {one.upper() for one in credential.mechanisms}
    if credential.password and SCRAM in known:
        nonce = (make_nonce or _nonce)()
        return ScramClient(credential.username, credential.password, nonce, keys)
    if not is_confidential:
        return None
    if credential.token and XOAuth2Client.name in known:
        return XOAuth2Client(credential)
    if credential.password and PlainClient.name in known:
        return PlainClient(credential)
    if credential.password and LoginClient.name in known:
        return LoginClient(credential)
    return None


def _nonce() -> bytes:
    return secrets.token_urlsafe(_NONCE_OCTETS).encode("ascii")


class _OneMessage:
    """A mechanism of one message, sent with AUTH or, when it is long, in answer to a challenge."""

    name: str

    def __init__(self, credential: Credential) -> None:
        self._credential = credential
        self._is_said = False
        self.notice = ""

    def message(self) -> bytes:
        raise NotImplementedError

    def initial(self) -> bytes | None:
        message = self.message()
        size = len(f"AUTH {self.name} \r\n") + (len(message) + 2) // 3 * 4
        if size > _COMMAND_OCTETS_MAX:
            return None
        self._is_said = True
        return message

    def prepare(self, challenge: bytes) -> Work | None:
        return None

    def respond(self, challenge: bytes) -> bytes:
        if len(challenge) > CHALLENGE_OCTETS_MAX:
            raise SaslFailure(f"{self.name}: the challenge is too long")
        if self._is_said:
            return self.answer(challenge)
        self._is_said = True
        return self.message()

    def answer(self, challenge: bytes) -> bytes:
        """To a challenge after the message. Raises SaslFailure."""
        raise SaslFailure(f"{self.name}: a challenge that the mechanism does not have")

    def finish(self, final: bytes) -> None:
        if not self._is_said:
            raise SaslFailure(f"{self.name}: accepted before anything was said")


class PlainClient(_OneMessage):
    """PLAIN (RFC 4616), acting as ourselves."""

    name = "PLAIN"

    def message(self) -> bytes:
        username, password = _checked(self._credential, self.name)
        return b"\0%s\0%s" % (username, password)


class XOAuth2Client(_OneMessage):
    """XOAUTH2, as Google and Microsoft have it; their error is answered with nothing."""

    name = "XOAUTH2"

    def message(self) -> bytes:
        username = _octets(self._credential.username, "username", self.name, NAME_OCTETS_MAX)
        token = self._credential.token
        if len(token) > TOKEN_OCTETS_MAX or _TOKEN.fullmatch(token) is None:
            raise SaslFailure("XOAUTH2: the token is no bearer token")
        return b"user=%s\x01auth=Bearer %s\x01\x01" % (username, token.encode("ascii"))

    def answer(self, challenge: bytes) -> bytes:
        if self.notice:
            raise SaslFailure("XOAUTH2: a second error")
        match = _STATUS.search(challenge)
        self.notice = f"status {match[1].decode('ascii')}" if match is not None else "an error"
        return b""

    def finish(self, final: bytes) -> None:
        super().finish(final)
        if self.notice:
            raise SaslFailure("XOAUTH2: accepted after an error")


class LoginClient:
    """LOGIN: name and password, each when it is asked for. Nowhere specified."""

    name = "LOGIN"

    def __init__(self, credential: Credential) -> None:
        self._credential = credential
        self._said_count = 0
        self.notice = ""

    def initial(self) -> bytes | None:
        return None  # not every server takes one

    def prepare(self, challenge: bytes) -> Work | None:
        return None

    def respond(self, challenge: bytes) -> bytes:
        # What the challenge says is not looked at: servers ask in many words.
        if len(challenge) > CHALLENGE_OCTETS_MAX:
            raise SaslFailure("LOGIN: the challenge is too long")
        answers = _checked(self._credential, self.name)
        if self._said_count >= len(answers):
            raise SaslFailure("LOGIN: a third challenge")
        self._said_count += 1
        return answers[self._said_count - 1]

    def finish(self, final: bytes) -> None:
        if self._said_count < 2:
            raise SaslFailure("LOGIN: accepted before the password was said")


def _checked(credential: Credential, mechanism: str) -> tuple[bytes, bytes]:
    """Name and password in octets. Raises SaslFailure."""
    return (
        _octets(credential.username, "username", mechanism, NAME_OCTETS_MAX),
        _octets(credential.password, "password", mechanism, PASSWORD_OCTETS_MAX),
    )


def _octets(text: str, what: str, mechanism: str, octets_max: int) -> bytes:
    """UTF-8 without NUL and without what separates fields. Raises SaslFailure."""
    octets = text.encode("utf-8", "surrogatepass")
    is_text = not any("\ud800" <= one <= "\udfff" for one in text)
    if not is_text or b"\0" in octets or b"\x01" in octets or not 0 < len(octets) <= octets_max:
        raise SaslFailure(f"{mechanism}: the {what} cannot be sent")
    return octets
