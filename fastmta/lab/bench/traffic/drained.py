"""One drain of fastmta: fill its spool, start it, wait for the receivers, weigh it."""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ... import process
from ...server import Server
from ..workplace import Setting
from .field import Field
from .flow import Flow, flow_of
from .receivers import Counts, Town

_STALL_S = 60.0
_LIMIT_FACTOR = 20.0  # of the time that the optimum takes


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What is drained: `each` messages to each of the first `domains` domains."""

    town: Town
    domains: int  # that there are
    queued: int  # of them, those that there is mail for
    living: int  # of these, those at sites that are not dead
    each: int
    connections: int
    workers: int
    settings: Mapping[str, Setting]

    @property
    def optimum_s(self) -> float:
        """How long the optimum takes."""
        mean_s = sum(self.town.delays_ms) / len(self.town.delays_ms) / 1000
        return max(1.0, self.living * self.each * self.town.flights * mean_s / self.connections)


@dataclass(frozen=True, slots=True)
class Drained:
    """One drain, as far as the living sites go."""

    flow: Flow
    first_s: float  # from the start of the server to the first MAIL
    counts: Counts
    cpu_us: float  # of the server's tree, per message
    machine_busy: float  # share of all processors
    deferrals: int  # attempts that failed

    def values(self) -> dict[str, Any]:
        """For the JSON file."""
        return {**asdict(self), "optimum_per_s": self.flow.optimum}


def drain(directory: Path, load: Load, processors: int) -> Drained:
    """Fill, start, and wait for the last message to a living site; all of it is removed then."""
    with Field(directory, load.town, load.domains) as field:
        server = field.server("server", load.workers, load.settings)
        field.fill(server, load.queued * load.each, load.queued)
        found = _run(field, server, load, processors)
    shutil.rmtree(directory)
    return found


def _run(field: Field, server: Server, load: Load, processors: int) -> Drained:
    messages = load.living * load.each
    machine_s, begin_s = process.machine_cpu_s(), time.monotonic()
    server.start()
    is_whole = field.wait(messages, _STALL_S, _LIMIT_FACTOR * load.optimum_s + _STALL_S)
    end_s = time.monotonic()
    cpu_s = process.tree_cpu_s(server.pid)
    busy = (process.machine_cpu_s() - machine_s) / (end_s - begin_s) / processors
    server.kill()
    counts, arrivals = field.receivers.counts(), field.receivers.arrivals()
    assert not is_whole or len(arrivals) >= messages
    return Drained(
        flow=flow_of(arrivals, load.town, load.connections),
        first_s=min(each.begun_s for each in arrivals) - begin_s,
        counts=counts,
        cpu_us=cpu_s / len(arrivals) * 1e6,
        machine_busy=busy,
        deferrals=_deferrals(server),
    )


def _deferrals(server: Server) -> int:
    """Attempts that the whole log tells of as deferred."""
    return server.log.read_bytes().count(b" status=deferred ") if server.log.exists() else 0
