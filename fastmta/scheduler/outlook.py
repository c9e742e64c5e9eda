"""When something is tried next: of mail that is due, and of all mail.

A look over all next hops; nothing is asked of the spool, and nothing is changed.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from fastmta.budget.meter import Meter
from fastmta.budget.shape import Shape

from .engine import Engine
from .health import PathState
from .hop import Hop, HopState
from .path import NEVER_S, Path
from .retry import NS
from .table import Table

_NEVER: Final = 1 << 63


class Outlook(NamedTuple):
    """Wall clock (ns); 0: now, or as soon as what is under way lets it; None: not until somebody
    does something, or there is nothing."""

    due_ns: int | None  # the first start of mail that is due already, in memory or in the spool
    next_ns: int | None  # of all mail


def outlook(engine: Engine, table: Table) -> Outlook:
    """As it is now."""
    if engine.pause_reason:
        return Outlook(None, None)
    opens: dict[Path, float] = {}
    due_ns = later_ns = _NEVER
    for hop in table.hops.values():
        is_due = hop.is_behind or hop.held
        if not is_due and hop.mail_due_ns is None:
            continue
        opens_ns = _wall_ns(engine, _opens_s(engine, hop, opens))
        if is_due:
            due_ns = min(due_ns, opens_ns)
        elif hop.mail_due_ns is not None:
            later_ns = min(later_ns, max(hop.mail_due_ns, opens_ns))
    now_ns = engine.ports.clock.wall_ns()
    first, soonest = (
        None if at_ns == _NEVER else at_ns if at_ns > now_ns else 0
        for at_ns in (due_ns, min(due_ns, later_ns))
    )
    return Outlook(first, soonest)


def _wall_ns(engine: Engine, at_s: float) -> int:
    if at_s in (0.0, NEVER_S):
        return _NEVER if at_s else 0
    clock = engine.ports.clock
    return clock.wall_ns() + int((at_s - clock.monotonic_s()) * NS)


def _opens_s(engine: Engine, hop: Hop, opens: dict[Path, float]) -> float:
    """When mail of `hop` may start (monotonic); 0: as far as we know it may now."""
    path = hop.path
    if path is None:
        return hop.resume_at_s if hop.state is HopState.BACKING_OFF else 0.0
    found = opens.get(path)
    if found is None:
        found = opens[path] = _path_opens_s(engine, path)
    if not path.ready.parked:
        return found
    lane = path.gate.lane_at(hop) if path.gate.has_own_lane(hop) else None
    if lane is not None:
        return max(found, _ends_s(engine, lane.holdup))
    if path.ready.is_open:
        return found
    waiting = [one for one in path.ready.lanes.values() if one.holdup is not None and len(one)]
    return max(found, min((_ends_s(engine, one.holdup) for one in waiting), default=0.0))


def _path_opens_s(engine: Engine, path: Path) -> float:
    opens_s = max(_ends_s(engine, path.gate.limits.pause), _ends_s(engine, path.holdup))
    if path.health.state is PathState.BACKING_OFF:
        opens_s = max(opens_s, path.health.resume_at_s)
    return opens_s


def _ends_s(engine: Engine, holdup: Meter | Shape | None) -> float:
    """When what holds something up is over; 0: nobody knows, or nothing does."""
    if holdup is None:
        return 0.0
    if not isinstance(holdup, Shape):
        return holdup.state().until_s
    if not holdup.until_ns:
        return NEVER_S
    clock = engine.ports.clock
    return clock.monotonic_s() + max(0, holdup.until_ns - clock.wall_ns()) / NS
