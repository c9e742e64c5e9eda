"""What a session needs of the world; called per command at most, never per line of content."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from fastmta.event import Event
from fastmta.message import ContentFile, Message
from fastmta.smtp import Reply

from .room import ContentRoom
from .settings import SessionSettings


class Rights(Protocol):
    """What one client may do; made once per connection by `Policy.admit`."""

    is_trusted: bool

    def reverse_path(self, path: bytes) -> bytes | Reply:
        """The reverse-path to store, or the refusal. `local-part@` is an unqualified one."""

    def forward_path(self, path: bytes) -> bytes | Reply:
        """The forward-path to store, or the refusal."""


class Policy(Protocol):
    """Decides about clients."""

    def admit(self, address: str) -> Rights:
        """Rights of the client at `address` (v4-mapped addresses already normalised)."""


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
