"""A TLS session and logins of paper, as the client dialog and the courier ask others for them."""

from __future__ import annotations

import enum
from collections.abc import Callable, Sequence

from fastmta.security import Credential
from fastmta.security.client_failure import SaslFailure
from fastmta.smtp.tls import TlsFacts

NO_FACTS = TlsFacts("TLSv1.3", "TLS_AES_256_GCM_SHA384", 256)


class Trust(enum.Enum):
    UNTRUSTED = "Untrusted"
    VERIFIED = "Verified"


class PaperTls:
    """A session that is done, without any octet of its own."""

    facts = NO_FACTS
    is_at_end = False

    def __init__(self, is_trusted: bool = True) -> None:
        self.is_trusted = is_trusted
        self.trust = Trust.VERIFIED if is_trusted else Trust.UNTRUSTED

    def feed(self, octets: memoryview | bytes) -> None:
        raise AssertionError("nothing is fed")

    def handshake(self) -> bool:
        return True

    def read_into(self, buffer: memoryview) -> int:
        return 0

    def write(self, octets: bytes) -> None:
        raise AssertionError("nothing is written")

    def close(self) -> None:
        return

    def take_output(self) -> bytes:
        return b""


class Logins:
    """Credentials by name."""

    def __init__(self, **known: Credential) -> None:
        self.known = known
        self.problem = ""
        self.asked: list[str] = []
        self.refused: list[str] = []
        self.refused_tokens: list[str] = []
        self.waiting: list[Callable[[Credential | None, str], None]] | None = None  # held back

    def get(self, name: str, done: Callable[[Credential | None, str], None]) -> None:
        self.asked.append(name)
        if self.waiting is not None:
            self.waiting.append(done)
        else:
            found = self.known.get(name)
            done(found, "" if found else self.problem or f"no login {name}")

    def refuse(self, name: str, token: str) -> None:
        self.refused.append(name)
        self.refused_tokens.append(token)


class Spoken:
    """An exchange as data: what is said first, then one answer for each challenge."""

    def __init__(
        self, name: str = "PLAIN", initial: bytes | None = b"\0u\0p", answers: Sequence[bytes] = ()
    ) -> None:
        self.name = name
        self.notice = ""
        self._initial = initial
        self._answers = list(answers)
        self.challenges: list[bytes] = []
        self.is_forged = False  # the server proves in vain to know the password
        self.is_slow = False  # an answer takes long to compute

    def initial(self) -> bytes | None:
        return self._initial

    def prepare(self, challenge: bytes) -> Callable[[], None] | None:
        return (lambda: None) if self.is_slow else None

    def respond(self, challenge: bytes) -> bytes:
        self.challenges.append(challenge)
        if not self._answers:
            raise SaslFailure("a challenge that makes no sense")
        return self._answers.pop(0)

    def finish(self, final: bytes) -> None:
        if self.is_forged:
            raise SaslFailure("the server does not know the password")
