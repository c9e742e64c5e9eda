"""Reasons why a path, a next hop or a lane does not start more, and the limits that hold for it.

Functions of what the scheduler has in RAM; nothing is changed, no mail is looked at.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import msgspec

from fastmta.budget.meter import Meter
from fastmta.budget.shape import Shape
from fastmta.message.attempt import Job

from .ceiling import Limit, constraints, limits_of
from .engine import Engine
from .health import PathState
from .hop import Hop, HopState
from .lane import Lane
from .path import NEVER_S, Path
from .retry import NS
from .waiting import Constraint, Explanation, Waiting, of_holdup, of_pause

CLASSES: Final = ("high", "normal", "bulk")


def general_reasons(engine: Engine) -> Iterator[Explanation]:
    """What holds everything up."""
    if engine.is_stopped:
        yield Explanation(Waiting.STOP)
    if engine.pause_reason:
        yield Explanation(Waiting.PAUSE, engine.pause_reason)


def hop_reasons(engine: Engine, hop: Hop) -> list[Explanation]:
    """Everything that keeps mail of a next hop from starting."""
    if hop.path is not None:
        lane = hop.path.gate.lane_at(hop)
        if lane is not None:
            return [*path_reasons(engine, hop.path), *lane_reasons(engine, hop.path, lane)]
        return [*path_reasons(engine, hop.path)] or _parked_reasons(engine, hop.path, hop)
    reasons = [*general_reasons(engine)]
    if hop.state is HopState.BACKING_OFF:
        detail = _cut_off(engine)
        reasons.append(Explanation(Waiting.LOOKUP_PAUSE, detail, hop.resume_at_s, hop.cause))
    elif hop.state in (HopState.RESOLVING, HopState.IN_LINE):
        reasons.append(Explanation(Waiting.LOOKUP, hop.state.value))
    return reasons


def _parked_reasons(engine: Engine, path: Path, hop: Hop) -> list[Explanation]:
    """Of a next hop whose mail has several lanes, where nothing of the path may start: what the
    lane waits for that may start first."""
    if not path.ready.parked or path.ready.is_open:
        return []
    start = hop.next_hop + b"\0"
    parked = [
        lane_reasons(engine, path, lane)[0]
        for lane in path.ready.lanes.values()
        if lane.holdup is not None
        and len(lane)
        and (isinstance(lane.key, str) or lane.key.startswith(start))
    ]
    return [min(parked, key=lambda one: one.until_s or NEVER_S)] if parked else []


def path_reasons(engine: Engine, path: Path) -> Iterator[Explanation]:
    """Everything that keeps the path from starting more, all at the same time."""
    health, holdup = path.health, path.holdup
    yield from general_reasons(engine)
    if path.gate.limits.pause is not None:
        yield _pause(engine, path.gate.limits.pause)
    if health.state is PathState.BACKING_OFF:
        yield Explanation(Waiting.SITE_PAUSE, _cut_off(engine), health.resume_at_s, health.cause)
        return
    if holdup is not None and not isinstance(holdup, Shape):
        yield of_holdup(holdup.state())
    if path.is_waiting_for_slot:
        yield Explanation(Waiting.SLOT, f"{engine.slots.used}/{engine.slots.limit} in use")
    if health.state is PathState.PROBING and path.in_flight:
        yield Explanation(Waiting.PROBE, cause=health.cause)
    elif path.in_flight >= health.limit:
        yield Explanation(Waiting.WINDOW, cause=health.cause)


def _cut_off(engine: Engine) -> str:
    return f"{engine.cut_off}: expiry is put off" if engine.cut_off else ""


def _pause(engine: Engine, shape: Shape) -> Explanation:
    until_s = 0.0
    if shape.until_ns:
        clock = engine.ports.clock
        until_s = clock.monotonic_s() + max(0, shape.until_ns - clock.wall_ns()) / NS
    return of_pause(shape, until_s)


def path_reasons_with(
    engine: Engine, path: Path, parked: Sequence[Explanation]
) -> list[Explanation]:
    """Where all that waits is parked, that is why nothing starts."""
    reasons = list(path_reasons(engine, path))
    if not reasons and parked and not path.ready.is_open:
        soonest = min(parked, key=lambda one: one.until_s or NEVER_S)
        return [msgspec.structs.replace(soonest, about="", name="", facts={}, children=())]
    return reasons


def in_turn(path: Path, lane: Lane, job: Job, reasons: list[Explanation]) -> list[Explanation]:
    """The same of one message: where it waits for a rate, what goes before it takes units, too."""
    meter = lane.holdup if lane.holdup is not None else path.holdup
    ahead = lane.count_ahead(job)
    if meter is None or isinstance(meter, Shape) or not ahead:
        return reasons
    interval_s = getattr(meter, "interval_s", 0.0)  # places have none
    state = meter.state()
    if lane.holdup is None:
        sharing = [one for one in path.ready.lanes.values() if len(one) and one.holdup is None]
        weights = sum(one.tenant.weight for one in sharing if _is_beside(one, lane))
        ahead = ahead * max(1, weights) // lane.tenant.weight
    later_s = ahead * max(1, state.waiting) * interval_s
    held = of_holdup(state)
    return [
        msgspec.structs.replace(
            one, detail=f"{one.detail}, about {ahead} go before it", until_s=one.until_s + later_s
        )
        if one.waiting is Waiting.RATE and one.detail == held.detail and one.until_s
        else one
        for one in reasons
    ]


def lane_reasons(engine: Engine, path: Path, lane: Lane) -> list[Explanation]:
    """What keeps a lane from its turn, beside what keeps its path."""
    if isinstance(lane.holdup, Shape):
        return [_pause(engine, lane.holdup)]
    if lane.holdup is not None:
        return [of_holdup(lane.holdup.state())]
    sharing = [one for one in path.ready.lanes.values() if len(one) and one.holdup is None]
    if len(sharing) < 2 or not len(lane):
        return []
    weights = sum(one.tenant.weight for one in sharing if _is_beside(one, lane))
    ahead = sum(len(one) for one in sharing if one.tenant.priority < lane.tenant.priority)
    detail = (
        f"{lane.tenant.name} has {lane.tenant.weight} of {weights} turns of class "
        f"{CLASSES[lane.tenant.priority]}, {len(lane)} wait"
    )
    if ahead:
        detail += f"; {ahead} of higher classes go before"
    return [Explanation(Waiting.SHARE, detail)]


def limits(
    engine: Engine, path: Path, subject: dict[str, str], holdup: Meter | Shape | None
) -> tuple[Explanation, ...]:
    """Each number that was declared for it, and whether it can bind."""
    options, limits = engine.options, path.gate.limits
    declared = limits_of(engine.shapes.in_force, subject)
    site = frozenset({"site", "source"})
    if not limits.connections:
        declared.append(Limit("the default of a site", site, connections=options.site.connections))
    declared.append(Limit("all sites together", frozenset(), connections=options.connections))
    if len(declared) == 2 and holdup is None:  # nothing but what always holds
        return ()
    state = None if holdup is None or isinstance(holdup, Shape) else holdup.state()
    is_lane = bool(subject["domain"] or subject["tenant"])
    return tuple(
        _of_constraint(constraint)
        for limit, constraint in zip(declared, constraints(declared, state), strict=True)
        if not is_lane or limit.dimensions & {"domain", "tenant"}  # the others are the site's
    )


def _is_beside(one: Lane, other: Lane) -> bool:
    return one.tenant.priority == other.tenant.priority


def _of_constraint(constraint: Constraint) -> Explanation:
    if constraint.is_binding:
        detail = f"{constraint.text}; it binds now"
    elif constraint.unreachable:
        detail = f"{constraint.text}; it can never bind: {constraint.unreachable}"
    else:
        detail = constraint.text
    facts: dict[str, int | str] = {
        "declared": constraint.text,
        "is_binding": int(constraint.is_binding),
        "unreachable": constraint.unreachable,
    }
    return Explanation(Waiting.NOTHING, detail, about="limit", name=constraint.name, facts=facts)
