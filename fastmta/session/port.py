"""What a session needs of the world; called per command at most, never per line of content."""

from collections.abc import Callable
from typing import Protocol

from fastmta.event import Event
from fastmta.message import Message
from fastmta.smtp import Reply


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


class Accept(Protocol):
    """Takes responsibility for messages."""

    def refusal(self, declared_octets: int) -> Reply | None:
        """Why no message can be taken just now, asked at MAIL; None when all is well.

        `declared_octets` is the client's SIZE, 0 if it gave none.
        """

    def new_id(self) -> bytes:
        """A queue id that was never used before."""

    def accept(self, message: Message, done: Callable[[Message, Exception | None], None]) -> None:
        """Make `message` durable, then call `done` once: None after the flush, or the error."""


class Clock(Protocol):
    """Wall clock, read at most once per message."""

    def wall_ns(self) -> int:
        """Nanoseconds since the epoch."""

    def date(self) -> bytes:
        """The current date-time for a trace field (cached by the second)."""


Emit = Callable[[Event], None]
