"""How next hops get their paths.

    state         asked              Site        DEFERRED       FAILED         timer
    UNRESOLVED    RESOLVING or       -           -              -              -
                  IN_LINE
    IN_LINE       RESOLVING          -           -              -              -
    RESOLVING     -                  RESOLVED    BACKING_OFF    UNRESOLVED     -
    RESOLVED      RESOLVING          -           -              -              -
    BACKING_OFF   -                  -           -              -              UNRESOLVED

One look-up per next hop at a time. After a start the backlog may have tens of thousands of next
hops: while LOOKUPS_MAX are under way, those of which nothing is in RAM wait IN_LINE, so that mail
which just came in does not wait behind them at the name servers. DEFERRED (DNS trouble) delays the
next hop as a dead site would be delayed, bounces nothing and burns no attempts. FAILED (no such
domain) fails the mail that waits here, and the rest of the backlog as it is fetched. A next hop
that has a path keeps it while it is looked up again, and when that is DEFERRED.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from fastmta.message import Outcome, OutcomeKind, Scope
from fastmta.message.attempt import Job
from fastmta.route import RouteProblem, Site

from .due import TURN_S, WAKES_PER_TURN
from .engine import Engine
from .hop import Hop, HopState
from .path import Path

if TYPE_CHECKING:
    from .table import Table

EGRESS_SOURCE = "default"  # the only one, until there are egress pools
LOOKUPS_MAX = 200  # under way while others wait; each is a few queries


class Routing:
    """Resolves next hops and puts them on paths."""

    __slots__ = ("_engine", "_is_moving_up", "_line", "_table", "_under_way")

    def __init__(self, engine: Engine, table: Table) -> None:
        self._engine = engine
        self._table = table
        self._under_way = 0
        self._line: deque[Hop] = deque()  # some of which may not be IN_LINE any more
        self._is_moving_up = False

    def wait(self, hop: Hop, job: Job) -> None:
        """`job` is in RAM and waits until `hop` has a path."""
        hop.waiting.append(job)
        if hop.state in (HopState.UNRESOLVED, HopState.IN_LINE):
            self.resolve(hop)

    def resolve(self, hop: Hop) -> None:
        """Look the next hop up, unless that is under way or has to wait."""
        if hop.state in (HopState.RESOLVING, HopState.BACKING_OFF):
            return
        if hop.path is None and not hop.waiting and self._under_way >= LOOKUPS_MAX:
            if hop.state is not HopState.IN_LINE:
                hop.state = HopState.IN_LINE
                self._line.append(hop)
            return
        hop.state = HopState.RESOLVING
        self._under_way += 1
        self._engine.ports.resolve.resolve(hop.next_hop, self._resolved)

    def _move_up(self) -> None:
        """A look-up has ended: whoever stands in line is next."""
        if self._is_moving_up:  # an answer that was known at once; or we wait for the next turn
            return
        self._is_moving_up = True
        for _ in range(WAKES_PER_TURN):
            if not self._line or self._under_way >= LOOKUPS_MAX:
                self._is_moving_up = False
                return
            hop = self._line.popleft()
            if hop.state is HopState.IN_LINE:
                self._resume(hop)
        self._engine.ports.timers.call_later(TURN_S, self._next_turn)

    def _next_turn(self) -> None:
        self._is_moving_up = False
        self._move_up()

    def _resolved(self, next_hop: bytes, answer: Site | RouteProblem) -> None:
        hop = self._table.hops[next_hop]
        assert hop.state is HopState.RESOLVING
        self._under_way -= 1
        self._settle(hop, answer)
        self._move_up()

    def _settle(self, hop: Hop, answer: Site | RouteProblem) -> None:
        if isinstance(answer, Site):
            self._attach(hop, answer)
            return
        if not self._engine.may_start:  # nobody is given up now
            hop.state = HopState.UNRESOLVED if hop.path is None else HopState.RESOLVED
            return
        outcome = Outcome(answer.kind, answer.status, answer.text, Scope.SITE)
        if answer.kind is OutcomeKind.FAILED:
            self._fail(hop, outcome)
        elif answer.kind is OutcomeKind.DEFERRED:
            self._delay(hop, outcome)
        else:
            raise AssertionError(answer.kind)

    def _attach(self, hop: Hop, site: Site) -> None:
        hop.state = HopState.RESOLVED
        hop.cause = None
        hop.backoff.reset()
        key = (EGRESS_SOURCE, site.key)
        path = self._table.paths.get(key)
        if path is None:
            path = self._table.paths[key] = Path(key, site, self._engine, self._table)
        else:
            path.update(site)
        if hop.path is not path:
            self._detach(hop)
            hop.path = path
            path.hop_count += 1
        for job in hop.waiting:
            path.add_fresh(job)
        hop.waiting.clear()
        if hop.is_behind and hop.reading.limit == 0:
            path.behind[hop] = None
        path.pump()

    def _detach(self, hop: Hop) -> None:
        """Take the next hop and what waits from its old path, if it has one."""
        path = hop.path
        if path is not None:
            hop.path = None
            path.hop_count -= 1
            path.behind.pop(hop, None)
            hop.waiting.extend(path.ready.take_hop(hop.next_hop))

    def _fail(self, hop: Hop, outcome: Outcome) -> None:
        hop.state = HopState.UNRESOLVED
        hop.cause = None
        self._detach(hop)
        jobs = list(hop.waiting)
        hop.waiting.clear()
        for job in jobs:
            self._table.lifecycle.unroutable(job, outcome)
        if hop.is_behind:  # the rest of the backlog meets the same answer as it is read
            self._table.refiller.read(hop)

    def _delay(self, hop: Hop, outcome: Outcome) -> None:
        if hop.path is not None:
            hop.state = HopState.RESOLVED
            return
        hop.state = HopState.BACKING_OFF
        hop.cause = outcome
        ports = self._engine.ports
        pause_s = hop.backoff.next_s(ports.random())
        hop.resume_at_s = ports.clock.monotonic_s() + pause_s
        ports.timers.call_later(pause_s, self._end_pause, hop, hop.resume_at_s)
        jobs = list(hop.waiting)
        hop.waiting.clear()
        for job in jobs:  # one line each, then back to `waiting`, or to the backlog
            self._table.lifecycle.unroutable(job, outcome)

    def wake(self, hop: Hop) -> None:
        """End the pause after a look-up that failed, if there is one."""
        if hop.state is HopState.BACKING_OFF:
            self._resume(hop)

    def _end_pause(self, hop: Hop, resume_at_s: float) -> None:
        if hop.state is HopState.BACKING_OFF and hop.resume_at_s == resume_at_s:
            self._resume(hop)

    def _resume(self, hop: Hop) -> None:
        hop.state = HopState.UNRESOLVED
        if (hop.waiting or hop.is_behind) and self._engine.may_start:
            self.resolve(hop)
