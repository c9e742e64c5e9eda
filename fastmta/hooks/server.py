"""The `server` that hooks are given, in place of an instance of aiosmtpd's SMTP class."""

from __future__ import annotations

import asyncio
import copy
from typing import Any

import aiosmtpd.smtp as real

from fastmta.session.port import Client

_OFFERED = (
    "hostname session envelope event_handler loop transport data_size_limit enable_SMTPUTF8 "
    "push challenge_auth"
)


class Transport:
    """As much of a connection as a hook may know; `close` ends the session with its reply."""

    def __init__(self, view: Client) -> None:
        self.peer = view.peer
        self._is_closing = False
        self.ssl: dict[str, Any] | None = None

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """`peername`, and under TLS `cipher`, `compression` and `peercert`."""
        if name == "peername":
            return self.peer
        return default if self.ssl is None else self.ssl.get(name, default)

    def is_closing(self) -> bool:
        """Whether a hook has called `close`."""
        return self._is_closing

    def close(self) -> None:
        """The session ends when the hook has returned: its reply becomes a 421."""
        self._is_closing = True

    abort = close


class Server:
    """One per session. What a hook says with `push` is kept for its reply.

    Attributes that are not here raise AttributeError with the list of those that are.
    """

    __ident__ = "fastmta"
    AuthLoginUsernameChallenge = real.SMTP.AuthLoginUsernameChallenge
    AuthLoginPasswordChallenge = real.SMTP.AuthLoginPasswordChallenge
    enable_SMTPUTF8 = True

    def __init__(self, view: Client, handler: Any, octets_max: int) -> None:
        self.hostname = view.hostname
        self.event_handler = handler
        self.data_size_limit = octets_max
        self.transport = Transport(view)
        self.loop: asyncio.AbstractEventLoop | None = None
        self.session: real.Session | None = None
        self.envelope: real.Envelope | None = None
        self._pushed: list[object] = []
        self.exchange: Any = None  # ours: the AUTH command under way

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"fastmta gives handlers no server.{name}; there are: {_OFFERED}")

    def begin(self, session: real.Session, envelope: real.Envelope) -> None:
        """A hook is about to run, on the thread and loop of the caller."""
        self.loop = session.loop = asyncio.get_running_loop()
        self.session = session
        self.envelope = envelope
        self._pushed = []

    def copy(self) -> Server:
        """One more for the same session: what is done to this one does not reach it."""
        other = copy.copy(self)
        other.transport = copy.copy(self.transport)
        other.exchange = None
        other._pushed = []
        return other

    def take_pushed(self) -> list[object]:
        """What has been pushed since `begin`."""
        pushed, self._pushed = self._pushed, []
        return pushed

    async def push(self, status: str | bytes) -> None:
        """Say a line of the reply."""
        if not isinstance(status, str | bytes):
            raise TypeError(f"push() takes str or bytes, not {type(status).__name__}")
        self._pushed.append(status)

    async def challenge_auth(
        self,
        challenge: str | bytes,
        encode_to_b64: bool = True,
        log_client_response: bool = False,
    ) -> Any:
        """Ask the client and return its response, or MISSING when it gave up.

        `log_client_response` is ignored: a response is a secret.
        """
        if self.exchange is None:
            raise RuntimeError("challenge_auth() is for AUTH only")
        octets = challenge.encode() if isinstance(challenge, str) else challenge
        return await self.exchange.challenge(octets, encode_to_b64)
