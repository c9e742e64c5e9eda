"""Where mail stands, for lists: a few look-ups in RAM for each message. And how all of it is waked.

Postfix's queues, as far as the scheduler knows: what is tried now or as soon as its path lets it is
active; what waits for a site, or a look-up, that is in trouble is deferred, by their reason.
"""

from __future__ import annotations

from collections.abc import Iterable

from fastmta.message.attempt import Job
from fastmta.route.hop import domain_of

from .due import TURN_S, WAKES_PER_TURN
from .engine import Engine
from .health import PathState
from .hop import Hop, HopState
from .path import Path
from .table import Table


class Standing:
    """Looks at one scheduler's next hops and paths."""

    __slots__ = ("_engine", "_table")

    def __init__(self, engine: Engine, table: Table) -> None:
        self._engine = engine
        self._table = table

    def is_active(self, id: bytes) -> bool:
        """Whether some of message `id` is under way, or ready to go over a path that works."""
        resident = self._table.residence.find(id)
        if resident is None:
            return False
        jobs = [resident] if isinstance(resident, Job) else list(resident.jobs.values())
        return any(job.started_at_s or not self.trouble(job.next_hop) for job in jobs)

    def trouble(self, next_hop: bytes) -> str:
        """Why nothing goes to `next_hop` just now; empty: no trouble is known."""
        hop = self._table.hops.get(next_hop)
        if hop is None:
            return ""
        path = hop.path
        if path is None:
            cause = hop.cause if hop.state is HopState.BACKING_OFF else None
        else:
            cause = path.health.cause if path.health.state is not PathState.OPEN else None
        return "" if cause is None else cause.text

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
