"""One lane: what one tenant has waiting on a path, and what holds it up.

A tenant whose mail has next hops of its own (see `fastmta.route.hop`) has one lane on each path; so
has a domain that is metered by itself. All others have a lane each while something of theirs waits.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Protocol

from fastmta.budget.meter import Meter
from fastmta.budget.shape import NO_LIMITS, Limits, Shape
from fastmta.message.attempt import Job

from .tenant import Tenant


class LaneOwner(Protocol):
    """The path."""

    def reopen(self, lane: Lane) -> None:
        """What held `lane` up is over."""


class Lane:
    """Fresh mail and mail from the backlog, one of each in turn while there are both.

    The order within is first in, first out.
    """

    __slots__ = ("__weakref__", "_is_backlog_turn", "_owner", "backlog", "deficit", "fresh",
                 "holdup", "key", "limits", "tenant")  # fmt: skip

    def __init__(
        self, key: str | bytes, tenant: Tenant, owner: LaneOwner, limits: Limits = NO_LIMITS
    ) -> None:
        self.key = key
        self.tenant = tenant
        self.limits = limits
        # Lists, but for floods: there are tens of thousands of paths, and an empty deque takes
        # 624 octets.
        self.fresh: deque[Job] | None = None
        self.backlog: list[Job] = []  # fetched from the spool, or to be tried again
        self.deficit = 0  # recipients that are still its turn's; see `Ready`
        self.holdup: Meter | Shape | None = None  # why it is parked
        self._is_backlog_turn = False
        self._owner = owner

    def __len__(self) -> int:
        return (len(self.fresh) if self.fresh else 0) + len(self.backlog)

    def __iter__(self) -> Iterator[Job]:
        if self.fresh:
            yield from self.fresh
        yield from self.backlog

    @property
    def fresh_count(self) -> int:
        """Jobs that were never in the backlog."""
        return len(self.fresh) if self.fresh else 0

    def add_fresh(self, job: Job) -> None:
        """Behind the others."""
        if self.fresh is None:
            self.fresh = deque()
        self.fresh.append(job)

    def pop(self) -> Job:
        """The next job; there must be one."""
        fresh = self.fresh
        if not fresh or (self._is_backlog_turn and self.backlog):
            self._is_backlog_turn = False
            return self.backlog.pop(0)
        self._is_backlog_turn = True
        return fresh.popleft()

    def peek_is_fresh(self) -> bool:
        """Whether `pop` would return a fresh job."""
        return bool(self.fresh) and not (self._is_backlog_turn and self.backlog)

    def count_ahead(self, job: Job) -> int:
        """About how many go before `job`, which waits here. Slow, for explanations."""
        fresh_count = self.fresh_count
        for place, one in enumerate(self):
            if one is job and place < fresh_count:
                return place + min(place, len(self.backlog))
            if one is job:
                return place - fresh_count + min(place - fresh_count + 1, fresh_count)
        return len(self)

    def prefer_fresh(self) -> None:
        """Let a fresh job be next: what was tried before may be what the peer dislikes."""
        self._is_backlog_turn = False

    def remove(self, job: Job) -> bool:
        """Take `job` out; False when it is not here. Slow, for rare use."""
        for queue in (self.fresh or (), self.backlog):
            for position, one in enumerate(queue):
                if one is job:
                    del queue[position]  # type: ignore[union-attr]  # an empty tuple has no job
                    return True
        return False

    def keep_first(self, count: int) -> list[Job]:
        """Keep at most `count` jobs; those that would go last are taken out and returned."""
        dropped: list[Job] = []
        while self.fresh and len(self) > count:
            dropped.append(self.fresh.pop())
        while len(self) > count:
            dropped.append(self.backlog.pop())
        return dropped

    def take_hop(self, next_hop: bytes) -> list[Job]:
        """Take out every job of one next hop."""
        taken = [job for job in self if job.next_hop == next_hop]
        if taken:
            if self.fresh:
                self.fresh = deque(job for job in self.fresh if job.next_hop != next_hop)
            self.backlog = [job for job in self.backlog if job.next_hop != next_hop]
        return taken

    # `Holder`: its places are those of jobs under way, so none is ever idle.

    def has_spare(self, places: Meter) -> bool:
        """None."""
        return False

    def yield_place(self, places: Meter) -> None:
        """Never asked."""

    def resume(self) -> None:
        """`Waiter`: what held it up is over. Units of rates are secured: the path may be held up
        just now, and who waits in two lines would lose its turn in one for ever."""
        if len(self):
            for throttle in self.limits.throttles:
                if throttle.wait_s(self) == 0.0:
                    throttle.secure(self)
        if self.holdup is not None:
            self.holdup = None
            self._owner.reopen(self)
