"""What the room needs of others to talk safely: TLS sessions, logins, a look at addresses."""

from __future__ import annotations

import enum
from collections.abc import Callable, Sequence
from typing import Protocol

import msgspec

from fastmta.route.way import TlsPolicy
from fastmta.security import Credential
from fastmta.security.client_sasl import ClientExchange
from fastmta.smtp.tls import TlsFacts

from .classify import Rules


class TlsSession(Protocol):
    """The client's half of a TLS session, without a socket.

    After each `feed`: `handshake` until it is True, then `read_into` until it returns 0; in the
    end, also after a failure, `take_output`. Both raise TlsFailure.
    """

    facts: TlsFacts  # once the handshake is done
    is_at_end: bool  # the server said close_notify

    @property
    def is_trusted(self) -> bool:
        """Whether the server is who the policy wants; may take half a millisecond."""

    @property
    def trust(self) -> enum.Enum:
        """The same in more detail; the value is Postfix's word: Untrusted, Trusted, Verified."""

    def feed(self, octets: memoryview | bytes) -> None:
        """Take ciphertext; it is copied."""

    def handshake(self) -> bool:
        """Go on with it; True once it is done."""

    def read_into(self, buffer: memoryview) -> int:
        """Put plaintext into `buffer`; 0: there is no more for now."""

    def write(self, octets: bytes) -> None:
        """Encrypt for `take_output`."""

    def close(self) -> None:
        """Say close_notify."""

    def take_output(self) -> bytes:
        """Ciphertext for the socket."""


class TlsContexts(Protocol):
    """Makes TLS sessions."""

    def preparation(self, policy: TlsPolicy) -> Callable[[], None] | None:
        """What takes long before `begin`, to be called in a thread; None: nothing does."""

    def begin(self, policy: TlsPolicy, host: str, names: tuple[str, ...], port: int) -> TlsSession:
        """A session with `host` at `port`. `names` are those of the next hop.

        Raises ValueError about files.
        """


class Choose(Protocol):
    """Picks the mechanism."""

    def __call__(
        self, offered: Sequence[str], credential: Credential, *, is_confidential: bool
    ) -> ClientExchange | None:
        """The exchange to use; None: nothing of what is offered serves."""


class Credentials(Protocol):
    """Where logins come from."""

    def get(self, name: str, done: Callable[[Credential | None, str], None]) -> None:
        """Call `done(credential, "")` or `done(None, what went wrong)`, once, at once or later."""

    def refuse(self, name: str, token: str) -> None:
        """A server refused what `get` gave: if that is a `token`, the next must be another.

        "" stands for a password. `get` may have given another token since.
        """


class CountTls(Protocol):
    """Counts a handshake."""

    def __call__(self, policy: str, version: str, result: str) -> None:
        """`policy` is the level of the way; `version` is "none" where there is none."""


class CourierPorts(msgspec.Struct, frozen=True):
    """All of them. Without `contexts` there is no TLS, without the next two no login."""

    contexts: TlsContexts | None = None
    credentials: Credentials | None = None
    choose: Choose | None = None
    rules: Rules | None = None  # what refusals mean; None: what their codes say
    why_not: Callable[[str], str] | None = None  # what is wrong with an address; "": nothing
    count_tls: CountTls | None = None


NO_PORTS = CourierPorts()
