"""What a job needs before it may start on a path: units of rates, places, no pause.

What all mail of the path needs holds the path up as a whole, until that comes back. What only one
lane needs parks that lane, and the others go on.
"""

from __future__ import annotations

import math
from typing import Protocol

from fastmta.budget.meter import Meter, RateMeter
from fastmta.budget.rate import Rate
from fastmta.budget.shape import NO_LIMITS, Limits, Shape
from fastmta.budget.turn import wait_for_all
from fastmta.message.attempt import Job
from fastmta.route import Site
from fastmta.route.hop import domain_of, owner_of

from .engine import Engine
from .hop import Hop
from .lane import Lane
from .ready import Ready
from .tenure import Tenure


class Guarded(Protocol):
    """The path."""

    holdup: Meter | Shape | None
    in_flight: int
    is_proved: bool
    key: tuple[str, bytes]
    ready: Ready
    site: Site

    def reopen(self, lane: Lane) -> None:
        """What held `lane` up is over."""

    def resume(self) -> None:
        """What held the path up may be over."""


class Gate:
    """The shapes in force for one path and for its lanes."""

    __slots__ = ("_engine", "_path", "_throttles", "is_metered", "limits", "tenure")

    def __init__(self, path: Guarded, engine: Engine) -> None:
        self._path = path
        self._engine = engine
        self._throttles: tuple[RateMeter, ...] = ()
        self.limits: Limits = NO_LIMITS
        self.tenure: Tenure | None = None  # None: no place is shared
        self.is_metered = False  # whether `admit` has to be asked for every job

    def shape(self) -> int:
        """Take up the shapes in force; how many connections the site may have."""
        engine, path, options = self._engine, self._path, self._engine.options.site
        site = path.site
        self.limits = limits = engine.shapes.of_path(site.label, site.provider, path.key[0])
        wanted = limits.connections or options.connections
        is_leased = engine.meters.is_shared
        connections = wanted
        if not (is_leased and limits.connections):  # what an operator has set is never divided
            connections = engine.broker.share(site.key, wanted)
            is_leased = is_leased and connections == wanted
        throttles, places = limits.throttles, limits.places
        name = f"site {site.label} {site.key.hex()[:8]}"
        if options.rate_per_s > 0:
            rate = Rate(options.rate_per_s * connections / wanted, 1.0, options.rate_burst)
            throttles = (*throttles, engine.meters.throttle(name, rate))
        if is_leased:
            places = (*places, engine.meters.places(name, connections))
        self._throttles = throttles
        if places or self.tenure is not None:
            self.tenure = self.tenure or Tenure(path, engine)
            self.tenure.become(places)
        self.is_metered = bool(limits or throttles or places)
        for lane in list(path.ready.lanes.values()):
            self._renew(lane)
        return connections

    def _renew(self, lane: Lane) -> None:
        """What is under way of `lane` counts for the limits that it began with."""
        fresh, backlog = list(lane.fresh or ()), list(lane.backlog)
        ready = self._path.ready
        ready.forget(lane)
        for job in fresh:
            ready.add(self.lane(job), job, is_fresh=True)
        for job in backlog:
            ready.add(self.lane(job), job, is_fresh=False)

    def lane(self, job: Job) -> Lane:
        """The lane in which `job` waits."""
        engine, path = self._engine, self._path
        ready = path.ready
        tenant = engine.ports.tenant_of(job.message.envelope)
        key = self._lane_key(job, tenant.name)
        lane = ready.lanes.get(key)
        if lane is None:
            subject = {
                "site": path.site.label,
                "provider": path.site.provider,
                "source": path.key[0],
                "domain": domain_of(job.next_hop),
                "tenant": tenant.name,
            }
            lane = ready.lanes[key] = Lane(key, tenant, path, engine.shapes.of_lane(subject))
            if lane.limits.pause is not None:
                ready.park(lane, lane.limits.pause)
        return lane

    def _lane_key(self, job: Job, tenant: str) -> str | bytes:
        """By what the lane of mail of that tenant is known: what limits of lanes tell apart."""
        shapes = self._engine.shapes
        if not shapes.has_lane_rules or not shapes.has_domain_rule(domain_of(job.next_hop)):
            return tenant
        if shapes.has_tenant_rules and not owner_of(job.next_hop):
            return job.next_hop + b"\0" + tenant.encode()
        return job.next_hop

    def find_lane(self, job: Job) -> Lane | None:
        """The lane in which `job` waits, if there is one now."""
        tenant = self._engine.ports.tenant_of(job.message.envelope).name
        return self._path.ready.lanes.get(self._lane_key(job, tenant))

    @property
    def rate_per_s(self) -> float:
        """The slowest rate for all of the path's mail; 0: there is none."""
        return 1.0 / max((one.interval_s for one in self._throttles), default=math.inf)

    @property
    def is_paused(self) -> bool:
        """Whether an operator wants nothing of the path to start."""
        return self.limits.pause is not None

    def waiting_at(self, hop: Hop) -> int:
        """How many jobs from the backlog wait so that no more of `hop` need be read: those of its
        tenant, if that has next hops of its own, so that shares hold for the backlog as well."""
        ready = self._path.ready
        if self.has_own_lane(hop):
            own = self.lane_at(hop)
            return 0 if own is None else len(own.backlog)
        return ready.backlog_count + ready.parked

    def has_own_lane(self, hop: Hop) -> bool:
        """Whether what waits of `hop` is for a lane that others do not use."""
        if owner_of(hop.next_hop):
            return True
        shapes = self._engine.shapes
        if not shapes.has_lane_rules or shapes.has_tenant_rules:
            return False
        return shapes.has_domain_rule(domain_of(hop.next_hop))

    def lane_at(self, hop: Hop) -> Lane | None:
        """The lane of a next hop that has one of its own, or whose tenant has; there may be none
        while nothing waits."""
        lanes = self._path.ready.lanes
        lane = lanes.get(hop.next_hop)
        return lane if lane is not None else lanes.get(owner_of(hop.next_hop))

    def waiting_of(self, job: Job) -> int:
        """How many jobs wait in the lane of `job`."""
        lane = self.find_lane(job)
        return 0 if lane is None else len(lane)

    def is_parked(self, hop: Hop) -> bool:
        """Whether the mail of `hop`, which has a lane of its own, waits for what only it needs."""
        lane = self.lane_at(hop) if self.has_own_lane(hop) else None
        return lane is not None and lane.holdup is not None

    def admit(self, lane: Lane) -> bool:
        """Whether a job of `lane` may start: then everything that it needs is taken, else nothing
        that does not come back by itself, and the path or the lane waits for what is missing."""
        path = self._path
        if self._throttles and (lacking := wait_for_all(self._throttles, path)) is not None:
            path.holdup = lacking
            return False
        own_throttles = lane.limits.throttles
        if own_throttles and (lacking := wait_for_all(own_throttles, lane)) is not None:
            path.ready.park(lane, lacking)
            return False
        if self.tenure is not None and (places := self.tenure.enter()) is not None:
            path.holdup = places
            return False
        for number, own in enumerate(lane.limits.places):
            if not own.take(lane):
                for taken in lane.limits.places[:number]:
                    taken.give(lane)
                path.ready.park(lane, own)
                own.wait(lane)
                return False
        for throttle in self._throttles:
            throttle.take(path)
        for throttle in own_throttles:
            throttle.take(lane)
        return True

    def go_on(self) -> None:
        """A job has ended: who waits for one more place may go on with those that are there."""
        path = self._path
        if self.tenure is not None and self.tenure.has_room(path.holdup):
            path.holdup = self.limits.pause

    def leave(self) -> None:
        """The path is forgotten: whatever it holds of what others want goes back."""
        if self.tenure is not None:
            self.tenure.give_spare()


def give_lane(job: Job) -> None:
    """A job that had places of its lane has ended."""
    lane, job.lane = job.lane, None
    assert isinstance(lane, Lane)
    for places in lane.limits.places:
        places.give(lane)
