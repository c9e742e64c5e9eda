"""One next hop: what it has waiting, and how its site is found."""

from __future__ import annotations

import enum
from collections import deque
from typing import TYPE_CHECKING

from fastmta.budget import Backoff
from fastmta.message import Outcome
from fastmta.message.attempt import Job

if TYPE_CHECKING:
    from .path import Path


class HopState(enum.Enum):
    """Whether we know where mail for this next hop goes."""

    UNRESOLVED = "not looked up yet"
    RESOLVING = "being looked up"
    RESOLVED = "has a path"
    BACKING_OFF = "could not be looked up; tried again later"


class Reading:
    """How far the backlog of one next hop was read, and the fetch under way, if any."""

    __slots__ = ("cursor", "departed", "is_stale", "limit")

    def __init__(self) -> None:
        self.cursor = b""
        self.limit = 0  # of the fetch under way; 0 when there is none
        self.is_stale = False  # something was released while that fetch was under way
        self.departed: set[bytes] = set()  # ids that left RAM during that fetch


class Hop:
    """A next hop with mail in RAM, in the backlog or due later."""

    __slots__ = (
        "backoff",
        "cause",
        "due_at_ns",
        "held",
        "is_behind",
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
        self.waiting: deque[Job] = deque()  # jobs without a path
        self.held = 0  # jobs in RAM: waiting, ready, in flight, or being recorded
        self.backoff = backoff
        self.cause: Outcome | None = None  # of BACKING_OFF
        self.resume_at_s = 0.0  # when BACKING_OFF: monotonic
        self.is_behind = False  # the backlog has mail of this hop that is due
        self.due_at_ns: int | None = None  # earliest later due time in the backlog
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
