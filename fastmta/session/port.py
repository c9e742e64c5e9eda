"""What a session needs of the world; called per command at most, never per line of content."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from fastmta.event import Event
from fastmta.message import ContentFile, Envelope, Message
from fastmta.smtp import Reply, Verb
from fastmta.smtp.sasl import Exchange
from fastmta.smtp.tls import TlsFacts
from fastmta.smtp.use import Use

from .room import ContentRoom
from .settings import SessionSettings

if TYPE_CHECKING:
    from .command import Command


class Rights(Protocol):
    """What one client may do; made by `Policy.admit`, again when more is known of the client."""

    is_trusted: bool  # may send to anyone
    is_known: bool  # has shown who it is, beyond its address

    def reverse_path(self, path: bytes) -> bytes | Reply:
        """The reverse-path to store, or the refusal. `local-part@` is an unqualified one."""

    def forward_path(self, path: bytes) -> bytes | Reply:
        """The forward-path to store, or the refusal."""


class Policy(Protocol):
    """Decides about clients."""

    def admit(self, address: str, login: str = "", fingerprint: str = "") -> Rights:
        """Rights of the client at `address` (v4-mapped addresses already normalised).

        `login` is who it has shown to be, `fingerprint` that of its certificate.
        """


class Authenticate(Protocol):
    """Checks who clients are (RFC 4954)."""

    def mechanisms(self, is_secure: bool) -> tuple[str, ...]:
        """Names to offer, in that order; none: AUTH is not offered. `is_secure`: within TLS."""

    def begin(self, mechanism: str, address: str, is_secure: bool) -> Exchange | None:
        """An exchange with the client at `address`; None: no such mechanism, or not now."""

    def may_send_as(self, login: str, reverse_path: bytes) -> bool:
        """Whether `reverse_path` belongs to `login`."""


class Quota(Protocol):
    """Counts what clients do, over all workers."""

    def is_exempt(self, address: str) -> bool:
        """Whether this client is not counted, unless it logs in."""

    def spend(self, use: Use, address: str, login: str = "", amount: int = 1) -> bool:
        """Count; False when that is more than the client may do, and nothing was counted.

        Below 0 an amount gives back what was counted.
        """

    def is_locked(self, login: str, address: str) -> bool:
        """Whether an account has failed too often to be used now by the client at `address`."""


@dataclass(frozen=True, slots=True)
class HookArgument:
    """A command that our own checks let pass."""

    octets: bytes  # behind the verb, as received
    path: bytes  # canonical, of MAIL and RCPT; else b""
    parameters: tuple[tuple[bytes, bytes], ...]  # of MAIL and RCPT: (KEYWORD, value)
    reply: Reply  # what we would answer


class Hook(Protocol):
    """Somebody else's code that has a say in one session. Nothing here blocks or raises."""

    stages: frozenset[Verb]  # asked about these, and always about contents

    @property
    def authenticate(self) -> Authenticate | None:
        """Who looks after logins, if the hook does so itself."""

    def ask(self, verb: Verb, argument: HookArgument, done: Callable[[Reply | None], None]) -> None:
        """Call `done` once, now or later: None, our reply stands; or the reply to give instead.

        One that is not positive refuses the command.
        """

    def content(self, message: Message, done: Callable[[Reply | None], None]) -> None:
        """A whole message, before it is stored; envelope and content may be replaced.

        `done(None)`: store it; `done(reply)`: that is the answer, and nothing is stored.
        """

    def proxied(self, header: bytes, done: Callable[[Reply | None], None]) -> None:
        """A PROXY header told who the client is; `done(reply)` refuses it."""

    def forget(self) -> None:
        """The transaction is over, however it ended."""

    def renamed(self) -> None:
        """The client is another one, by XCLIENT: whatever was known of it is void."""

    def tls_started(self, facts: TlsFacts) -> None:
        """All that was said before is void."""

    def logged_in(self, login: str, mechanism: str) -> None:
        """The client has shown who it is."""

    def ended(self) -> None:
        """The client is gone: what was asked is not answered any more."""


class Client(Protocol):
    """What a hook may look at: the session itself."""

    client: str  # `name[address]`

    tls: TlsFacts | None

    @property
    def hostname(self) -> str:
        """Our name, as in the greeting."""

    @property
    def peer(self) -> tuple[str, int]:
        """Address and port."""


class Spill(Protocol):
    """One large content on its way to a file. Nothing here blocks or raises."""

    is_behind: bool  # the disk is slower than what is written: write no more for a while

    def write(self, octets: bytes) -> None:
        """The next canonical octets; in order, they are the content."""

    def finish(self, done: Callable[[ContentFile | None, Exception | None], None]) -> None:
        """That was all: call `done` once, with the durable file or with what prevented it."""

    def abandon(self) -> None:
        """Forget it and leave no file. Not after `finish`."""


class Accept(Protocol):
    """Takes responsibility for messages."""

    def refusal(self, declared_octets: int) -> Reply | None:
        """Why no message can be taken just now, asked at MAIL; None when all is well.

        `declared_octets` is the client's SIZE, 0 if it gave none.
        """

    def new_id(self) -> bytes:
        """A queue id that was never used before."""

    def begin_big(self, id: bytes, caught_up: Callable[[], None]) -> Spill:
        """The content of message `id` is large; `caught_up` is called when a spill that was behind
        is not any more. The message follows by `accept`, with the finished file."""

    def accept(self, message: Message, done: Callable[[Message, Exception | None], None]) -> None:
        """Make `message` durable, then call `done` once: None after the flush, or the error."""


class Clock(Protocol):
    """Wall clock, read at most once per message."""

    def wall_ns(self) -> int:
        """Nanoseconds since the epoch."""

    def date(self) -> bytes:
        """The current date-time for a trace field (cached by the second)."""


Emit = Callable[[Event], None]


@dataclass(frozen=True, slots=True)
class Ports:
    """Everything a session needs of others, shared by all sessions of a listener."""

    settings: SessionSettings
    policy: Policy
    accept: Accept
    clock: Clock
    emit: Emit
    room: ContentRoom
    authenticate: Authenticate | None = None
    quota: Quota | None = None
    hook: Callable[[Client], Hook] | None = None  # made once per session
    # Whose mail it is, if that is somebody whom the configuration knows; for counting.
    tenant_of: Callable[[Envelope], str] | None = None
    # Replies to EHLO by what they offer; bounded, as that is of the configuration's choosing.
    welcomes: dict[tuple[object, ...], Reply] = field(default_factory=dict)
    # What answers each command, by whether TLS is there; filled by the first sessions.
    commands: dict[bool, tuple[tuple[Command, ...], ...]] = field(init=False, default_factory=dict)
