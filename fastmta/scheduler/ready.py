"""The jobs that wait for a path: whose turn it is.

Classes. High goes before normal, normal before bulk; but a class that has work gets one start in
FLOOR at least, so that nobody waits for ever.

Tenants. Within a class lanes take turns by deficit round robin: at its turn a lane may start
QUANTUM recipients times its weight; what a large job takes too much is missing in the next turns.
So a tenant that floods a path takes its share of it and no more.

A lane that something holds up (its own rate, its connections, a pause) is parked: it is not looked
at again until that is over.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from fastmta.budget.meter import Meter
from fastmta.budget.shape import Shape
from fastmta.message.attempt import Job

from .lane import Lane

FLOOR: Final = 10
QUANTUM: Final = 1
LANES_KEPT: Final = 4  # empty ones: a lane is used again and again by whoever sends steadily
_CLASSES: Final = 3


class Ready:
    """All lanes of a path. Counts leave parked lanes out, `len` does not."""

    __slots__ = ("_passed", "_rings", "backlog_count", "fresh_count", "lanes", "parked")

    def __init__(self) -> None:
        self.lanes: dict[str | bytes, Lane] = {}
        self._rings: list[deque[Lane] | None] = [None] * _CLASSES  # of lanes that may start
        self._passed = [0] * _CLASSES  # starts of others while a class had work
        self.fresh_count = 0
        self.backlog_count = 0
        self.parked = 0  # jobs in parked lanes

    def __len__(self) -> int:
        return self.fresh_count + self.backlog_count + self.parked

    def __iter__(self) -> Iterator[Job]:
        for lane in self.lanes.values():
            yield from lane

    @property
    def is_open(self) -> bool:
        """Whether there is a job that only the path keeps from starting."""
        return self.fresh_count + self.backlog_count > 0

    # In

    def add(self, lane: Lane, job: Job, *, is_fresh: bool) -> None:
        """`job` waits behind the others of `lane`."""
        was_empty = not len(lane)
        if is_fresh:
            lane.add_fresh(job)
        else:
            lane.backlog.append(job)
        if lane.holdup is not None:
            self.parked += 1
            return
        if is_fresh:
            self.fresh_count += 1
        else:
            self.backlog_count += 1
        if was_empty:
            self._enter(lane)

    def _enter(self, lane: Lane) -> None:
        lane.deficit = 0
        ring = self._rings[lane.tenant.priority]
        if ring is None:
            ring = self._rings[lane.tenant.priority] = deque()
        ring.append(lane)

    def _leave(self, lane: Lane) -> None:
        ring = self._rings[lane.tenant.priority]
        assert ring is not None
        ring.remove(lane)
        if not ring:
            self._rings[lane.tenant.priority] = None

    # Out

    def next_lane(self) -> Lane | None:
        """The lane whose turn it is; None when no lane may start anything."""
        ring = self._ring()
        if ring is None:
            return None
        lane = ring[0]
        if len(ring) == 1:
            return lane
        for _ in range(len(ring)):
            if lane.deficit > 0:
                return lane
            lane.deficit += QUANTUM * lane.tenant.weight
            if lane.deficit > 0:
                return lane
            ring.rotate(-1)
            lane = ring[0]
        # All have debts, of large jobs: as many turns at once as the first to be free needs.
        turns = min(-one.deficit // (QUANTUM * one.tenant.weight) for one in ring)
        for one in ring:
            one.deficit += turns * QUANTUM * one.tenant.weight
        while lane.deficit <= 0:
            lane.deficit += QUANTUM * lane.tenant.weight
            if lane.deficit <= 0:
                ring.rotate(-1)
                lane = ring[0]
        return lane

    def _ring(self) -> deque[Lane] | None:
        first = None
        for number, ring in enumerate(self._rings):
            if ring is None:
                continue
            if first is None:
                first = ring
            elif self._passed[number] >= FLOOR - 1:
                return ring
        return first

    def pop(self, lane: Lane) -> Job:
        """The next job of the lane that `next_lane` returned."""
        if lane.peek_is_fresh():
            self.fresh_count -= 1
        else:
            self.backlog_count -= 1
        job = lane.pop()
        priority = lane.tenant.priority
        ring = self._rings[priority]
        assert ring is not None
        for number in range(_CLASSES):
            if number != priority and self._rings[number] is not None:
                self._passed[number] += 1
        self._passed[priority] = 0
        if not len(lane):
            self._leave(lane)
            if len(self.lanes) > LANES_KEPT:
                del self.lanes[lane.key]
        elif len(ring) > 1:
            lane.deficit -= len(job.indices)
            if lane.deficit <= 0:
                ring.rotate(-1)
        return job

    # Parking

    def park(self, lane: Lane, holdup: Meter | Shape) -> None:
        """`lane`, which may start something, may not until `unpark`."""
        lane.holdup = holdup
        if len(lane):
            self._leave(lane)
            self._count(lane, -1)
            self.parked += len(lane)

    def unpark(self, lane: Lane) -> None:
        """It may again."""
        lane.holdup = None
        if len(lane) and self.lanes.get(lane.key) is lane:
            self._enter(lane)
            self._count(lane, 1)
            self.parked -= len(lane)

    def _count(self, lane: Lane, sign: int) -> None:
        """Its jobs may start (1), or not any more (-1)."""
        self.fresh_count += sign * lane.fresh_count
        self.backlog_count += sign * len(lane.backlog)

    # Rare

    @contextmanager
    def _changing(self, lane: Lane) -> Iterator[None]:
        """Something is done to the jobs of `lane` that is neither `add` nor `pop`."""
        if lane.holdup is not None:
            self.parked -= len(lane)
            yield
            self.parked += len(lane)
            return
        had = bool(len(lane))
        self._count(lane, -1)
        yield
        self._count(lane, 1)
        if had and not len(lane):
            self._leave(lane)

    def prefer_fresh(self) -> None:
        """Let a fresh job be next of each lane."""
        for lane in self.lanes.values():
            lane.prefer_fresh()

    def remove(self, job: Job) -> bool:
        """Take `job` out wherever it is; False when it is not here. Slow, for rare use."""
        for lane in self.lanes.values():
            if any(one is job for one in lane):
                with self._changing(lane):
                    return lane.remove(job)
        return False

    def keep_first(self, count: int) -> list[Job]:
        """Keep at most `count` jobs, of long lanes less than of short ones; return the others."""
        dropped: list[Job] = []
        left, lanes = count, sorted(self.lanes.values(), key=len)
        for number, lane in enumerate(lanes):
            share = left // (len(lanes) - number)
            if len(lane) > share:
                with self._changing(lane):
                    dropped += lane.keep_first(share)
            left -= len(lane)
        return dropped

    def take_hop(self, next_hop: bytes) -> list[Job]:
        """Take out every job of one next hop (its site has changed)."""
        taken: list[Job] = []
        for lane in self.lanes.values():
            with self._changing(lane):
                taken += lane.take_hop(next_hop)
        return taken

    def forget(self, lane: Lane) -> None:
        """Take `lane` out with all that waits in it."""
        with self._changing(lane):
            lane.keep_first(0)
        del self.lanes[lane.key]

    def forget_empty(self) -> None:
        """Lanes that nobody uses."""
        for key in [key for key, one in self.lanes.items() if not len(one)]:
            del self.lanes[key]
