"""Why is this not moving? Answers from data: everything that waits, waits on something named."""

from __future__ import annotations

import enum

import msgspec

from fastmta.message import Outcome
from fastmta.message.attempt import Job

from .engine import Engine
from .health import PathState
from .hop import Hop, HopState
from .path import Path
from .table import Table


class Waiting(enum.Enum):
    """What something waits on."""

    NOTHING = "nothing: it starts as soon as there is mail"
    ATTEMPT = "an attempt that is under way, or the record of its outcome"
    EXPIRY = "the record of its expiry, or of an operator's decision"
    STOP = "the scheduler was stopped"
    PAUSE = "all deliveries are paused"
    LOOKUP = "the next hop is being looked up"
    LOOKUP_PAUSE = "the next hop could not be looked up; there is a pause"
    SITE_PAUSE = "the site could not be reached; there is a pause"
    PROBE = "the attempt that shows whether the site works again"
    WINDOW = "jobs in front of it: the window of the site is full"
    SLOT = "a connection: this worker has as many as it may"
    RATE = "the rate of the site"
    BACKLOG = "its turn to be read from the spool"
    DUE = "its due time"


class Explanation(msgspec.Struct, frozen=True):
    """One answer. `until_s` is monotonic, 0 when no time is known; `cause` the last trouble."""

    waiting: Waiting
    detail: str = ""
    until_s: float = 0.0
    cause: Outcome | None = None


def explain_path(engine: Engine, path: Path) -> Explanation:
    """Why this path does not start more."""
    health = path.health
    detail = f"{path.site.label}: {path.in_flight}/{health.limit} under way, {len(path.ready)} wait"
    if engine.is_stopped:
        return Explanation(Waiting.STOP, detail)
    if engine.pause_reason:
        return Explanation(Waiting.PAUSE, f"{engine.pause_reason}; {detail}")
    if health.state is PathState.BACKING_OFF:
        return Explanation(Waiting.SITE_PAUSE, detail, health.resume_at_s, health.cause)
    if path.is_throttled:
        return Explanation(Waiting.RATE, detail, path.wakes_at_s)
    if path.is_waiting_for_slot:
        return Explanation(Waiting.SLOT, f"{engine.slots.used}/{engine.slots.limit}; {detail}")
    if health.state is PathState.PROBING and path.in_flight:
        return Explanation(Waiting.PROBE, detail, 0.0, health.cause)
    if path.in_flight >= health.limit:
        return Explanation(Waiting.WINDOW, detail, 0.0, health.cause)
    return Explanation(Waiting.NOTHING, detail)


def explain_hop(engine: Engine, hop: Hop) -> Explanation:
    """Why mail of this next hop does not move."""
    name = hop.next_hop.decode("ascii", "backslashreplace")
    if hop.path is not None:
        return explain_path(engine, hop.path)
    if engine.is_stopped:
        return Explanation(Waiting.STOP, name)
    if engine.pause_reason:
        return Explanation(Waiting.PAUSE, f"{engine.pause_reason}; {name}")
    if hop.state is HopState.BACKING_OFF:
        return Explanation(Waiting.LOOKUP_PAUSE, name, hop.resume_at_s, hop.cause)
    if hop.state is HopState.RESOLVING:
        return Explanation(Waiting.LOOKUP, name)
    return Explanation(Waiting.NOTHING, name)


def explain_message(engine: Engine, table: Table, id: bytes) -> list[Explanation]:
    """One answer per job in RAM. Empty: not in RAM; its rows say when it is due."""
    resident = table.residence.find(id)
    if resident is None:
        return []
    if isinstance(resident, Job):
        jobs = [resident]
    elif resident.is_claimed and not resident.jobs:
        return [Explanation(Waiting.EXPIRY)]
    else:
        jobs = list(resident.jobs.values())
    found = []
    for job in jobs:
        if job.started_at_s:
            found.append(Explanation(Waiting.ATTEMPT, f"since {job.started_at_s:.3f}"))
        else:
            found.append(explain_hop(engine, table.hops[job.next_hop]))
    return found


def explain_backlog(engine: Engine, hop: Hop) -> Explanation:
    """Why mail of this next hop that is not in RAM does not move."""
    if hop.is_behind:
        path = explain_hop(engine, hop)
        if path.waiting is Waiting.NOTHING:
            return Explanation(Waiting.BACKLOG, path.detail)
        return path
    return Explanation(Waiting.DUE, f"earliest at {hop.due_at_ns or 0} ns")
