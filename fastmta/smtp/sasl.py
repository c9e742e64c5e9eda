"""Authentication as the protocol sees it (RFC 4954, RFC 4422): one exchange, step by step."""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import Final, Protocol

import msgspec

LOCKED: Final = "account locked after too many failures"


class Verdict(enum.Enum):
    """How one step of an exchange ends."""

    CHALLENGE = "challenge"  # 334: the client has to answer `octets`
    ACCEPTED = "accepted"  # 235: the client is `login`
    REFUSED = "refused"  # 535: wrong, whatever it was
    UNAVAILABLE = "unavailable"  # 454: we cannot say just now


class SaslStep(msgspec.Struct, frozen=True, gc=False):
    """What an exchange says to one response. `reason` is for the log and the reply's text."""

    verdict: Verdict
    octets: bytes = b""  # of a CHALLENGE, not encoded
    login: str = ""  # of ACCEPTED; also of REFUSED when the client named one
    reason: str = ""
    log_reason: str = ""  # of REFUSED, when the log may say more than the client is told


Done = Callable[[SaslStep], None]


class Exchange(Protocol):
    """One AUTH command under way. Nothing here blocks or raises."""

    def step(self, response: bytes | None, done: Done) -> None:
        """Take the client's response, decoded; None: AUTH came without an initial response.

        Calls `done` exactly once, now or later. No step while one is under way.
        """

    def cancel(self) -> None:
        """The client is gone or gave up: `done` of a step under way is not called any more."""
