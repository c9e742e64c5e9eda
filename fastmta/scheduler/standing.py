"""Where mail stands, for lists: a picture of all that is in RAM. And how all of it is waked.

What is tried now or as soon as its path lets it is active; what waits for a site, or a look-up,
that is in trouble, or that an operator paused, waits with that reason: `message.situation`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from fastmta.budget.shape import Shape
from fastmta.message import Outcome
from fastmta.message.attempt import Job
from fastmta.message.situation import NOWHERE, Situation, Trouble
from fastmta.route.hop import domain_of

from .due import TURN_S, WAKES_PER_TURN
from .engine import Engine
from .health import PathState
from .hop import Hop, HopState
from .outlook import Outlook, outlook
from .path import Path
from .table import Table

# A picture is good for so many times what it took to draw: with a hundred thousand next hops that
# must not be done for every page of a list.
_GOOD_FOR = 20


class Standing:
    """Looks at one scheduler's next hops and paths."""

    __slots__ = ("_engine", "_good_until_s", "_known", "_outlook", "_picture", "_table")

    def __init__(self, engine: Engine, table: Table) -> None:
        self._engine = engine
        self._table = table
        self._picture = NOWHERE
        self._outlook = Outlook(None, None)
        self._good_until_s = 0.0
        self._known: dict[bytes, Trouble] = {}

    def recall(self, suspended: Mapping[bytes, Trouble]) -> None:
        """These were suspended when the last process ended; true of each until it is tried."""
        self._known = dict(suspended)

    @property
    def situation(self) -> Situation:
        """The picture, as new as need be."""
        self._look()
        return self._picture

    @property
    def outlook(self) -> Outlook:
        """When something is tried next, as new as need be."""
        self._look()
        return self._outlook

    def changed(self) -> None:
        """Somebody did something that whoever looks next should see."""
        self._good_until_s = 0.0

    def _look(self) -> None:
        clock = self._engine.ports.clock
        begin_s = clock.monotonic_s()
        if begin_s < self._good_until_s:
            return
        suspended = self._suspended()
        self._picture = Situation(self._active(suspended), suspended)
        self._outlook = outlook(self._engine, self._table)
        end_s = clock.monotonic_s()
        self._good_until_s = end_s + _GOOD_FOR * (end_s - begin_s)

    def _active(self, suspended: Mapping[bytes, Trouble]) -> frozenset[bytes]:
        """Messages of which something is under way, or ready to go over a path that works."""
        hops = self._table.hops

        def is_active(job: Job) -> bool:
            if job.started_at_s:
                return True
            if job.next_hop in suspended:
                return False
            path = hops[job.next_hop].path
            if path is None or not path.ready.parked:
                return True
            lane = path.gate.find_lane(job)
            return lane is None or not isinstance(lane.holdup, Shape)

        return frozenset(
            id
            for id, resident in self._table.residence.items()
            if (
                is_active(resident)
                if isinstance(resident, Job)
                else any(map(is_active, resident.jobs.values()))
            )
        )

    def _suspended(self) -> dict[bytes, Trouble]:
        """Next hops to which nothing goes just now."""
        of_paths: dict[Path, Trouble | None] = {}
        found: dict[bytes, Trouble] = {}
        for next_hop, hop in self._table.hops.items():
            trouble = self._trouble(hop, of_paths)
            if trouble is not None:
                found[next_hop] = trouble
        for next_hop, trouble in self._known.items():
            known = self._table.hops.get(next_hop)
            if known is None or _is_unknown(known):
                found.setdefault(next_hop, trouble)
        return found

    def _trouble(self, hop: Hop, of_paths: dict[Path, Trouble | None]) -> Trouble | None:
        path = hop.path
        if path is None:
            return _said(hop.cause) if hop.state is HopState.BACKING_OFF else None
        if path not in of_paths:
            pause, health = path.gate.limits.pause, path.health
            if pause is not None:
                of_paths[path] = _paused(pause)
            else:
                of_paths[path] = None if health.state is PathState.OPEN else _said(health.cause)
        trouble = of_paths[path]
        if trouble is None and path.ready.parked and path.gate.has_own_lane(hop):
            lane = path.gate.lane_at(hop)
            if lane is not None and isinstance(lane.holdup, Shape):
                return _paused(lane.holdup)
        return trouble

    def hops_of(self, domain: str) -> list[bytes]:
        """The next hops of a domain, or of a relay, that are known now."""
        octets = domain.lower().encode("utf-8", "surrogateescape")
        return [
            next_hop
            for next_hop in self._table.hops
            if octets in next_hop and domain_of(next_hop) == domain.lower()
        ]

    def wake(self, next_hops: Iterable[bytes] | None = None) -> int:
        """End the pauses after trouble (None: all of them); how many. What an operator paused stays
        paused."""
        table = self._table
        if next_hops is None:
            hops = list(table.hops.values())
            paths = list(table.paths.values())
        else:
            hops = [hop for hop in map(table.hops.get, next_hops) if hop is not None]
            paths = list(dict.fromkeys(hop.path for hop in hops if hop.path is not None))
        closed: list[Path | Hop] = [
            path for path in paths if path.health.state is PathState.BACKING_OFF
        ]
        closed += [hop for hop in hops if hop.state is HopState.BACKING_OFF]
        self._wake(closed)
        self.changed()
        return len(closed)

    def _wake(self, closed: list[Path | Hop]) -> None:
        """Some in every turn of the loop."""
        for one in closed[:WAKES_PER_TURN]:
            if isinstance(one, Path):
                one.end_pause()
            else:
                self._table.routing.wake(one)
        if rest := closed[WAKES_PER_TURN:]:
            self._engine.ports.timers.call_later(TURN_S, self._wake, rest)


def _is_unknown(hop: Hop) -> bool:
    """Whether nothing was tried there since we began."""
    path = hop.path
    if path is None:
        return hop.state is not HopState.BACKING_OFF
    return path.health.cause is None and not path.is_proved


def _said(cause: Outcome | None) -> Trouble | None:
    return None if cause is None else Trouble.of(cause.text, cause.status)


def _paused(shape: Shape) -> Trouble:
    note = f", {shape.note}" if shape.note else ""
    return Trouble.of(f"paused by an operator ({shape.name}{note})")
