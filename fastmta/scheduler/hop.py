"""One next hop: what it has waiting, and how its site is found."""

from __future__ import annotations

import enum
from collections.abc import Set
from typing import TYPE_CHECKING, Final

from fastmta.budget import Backoff
from fastmta.message import Outcome
from fastmta.message.attempt import Job

from .cursor import just_before

if TYPE_CHECKING:
    from .path import Path


_NOBODY: Final[Set[bytes]] = frozenset()


class HopState(enum.Enum):
    """Whether we know where mail for this next hop goes."""

    UNRESOLVED = "not looked up yet"
    IN_LINE = "waits for its turn to be looked up"
    RESOLVING = "being looked up"
    RESOLVED = "has a path"
    BACKING_OFF = "could not be looked up; tried again later"


class Reading:
    """How far the backlog of one next hop was read, and the read under way, if any.

    Rows at or before `cursor` are in RAM or gone. Whoever puts one back lowers the cursor.
    """

    __slots__ = (
        "_departed",
        "_lowest",
        "cursor",
        "is_restart_due",
        "is_stale",
        "limit",
        "reserved",
    )

    def __init__(self) -> None:
        self.cursor = b""  # position in the backlog, see `Backlog.fetch`
        self.limit = 0  # of the read under way; 0 when there is none
        self._departed: set[bytes] | None = None  # ids that left RAM during that read
        self.reserved = 0  # slots that the read under way has reserved
        self.is_stale = False  # there may be more than that read can see
        self.is_restart_due = False  # some row may be anywhere: the next wake begins anew
        self._lowest: bytes | None = None  # of the rows put back during that read

    def lower(self, tail: bytes) -> None:
        """The row at position `tail` is not in RAM (any more)."""
        if self.limit:
            if self._lowest is None or tail < self._lowest:
                self._lowest = tail
        elif tail <= self.cursor:
            self.cursor = just_before(tail)

    def left(self, id: bytes) -> None:
        """Message `id` is not in RAM any more; what is being read of it is older than that."""
        if self.limit:
            if self._departed is None:
                self._departed = set()
            self._departed.add(id)

    @property
    def has_departed(self) -> bool:
        """Whether some message left RAM during the read under way."""
        return bool(self._departed)

    def end(self, cursor: bytes) -> Set[bytes]:
        """The read got up to `cursor`; the ids that must not be taken from it."""
        self.limit = 0
        self.is_stale = False
        self.cursor = cursor
        if self._lowest is not None:
            self.lower(self._lowest)
            self._lowest = None
        departed, self._departed = self._departed, None
        return departed or _NOBODY


class Hop:
    """A next hop with mail in RAM, in the backlog or due later.

    There may be tens of thousands: empty containers are small ones or not there.
    """

    __slots__ = (
        "backoff",
        "cause",
        "due_at_ns",
        "held",
        "is_behind",
        "mail_due_ns",
        "next_hop",
        "path",
        "reading",
        "resume_at_s",
        "state",
        "waiting",
    )

    def __init__(self, next_hop: bytes, backoff: Backoff) -> None:
        self.next_hop = next_hop
        self.state = HopState.UNRESOLVED
        self.path: Path | None = None  # set when RESOLVED, kept while being looked up again
        self.waiting: list[Job] = []  # jobs without a path
        self.held = 0  # jobs in RAM: waiting, ready, in flight, or being recorded
        self.backoff = backoff
        self.cause: Outcome | None = None  # of BACKING_OFF
        self.resume_at_s = 0.0  # when BACKING_OFF: monotonic
        self.is_behind = False  # the backlog has mail of this hop that is due
        self.due_at_ns: int | None = None  # when to look at the backlog
        self.mail_due_ns: int | None = None  # earliest later due time of mail there, if known
        self.reading = Reading()

    @property
    def is_idle(self) -> bool:
        """Nothing would be lost by forgetting this hop."""
        return (
            self.held == 0
            and not self.is_behind
            and self.reading.limit == 0
            and self.due_at_ns is None
            and self.state in (HopState.UNRESOLVED, HopState.RESOLVED)
        )
