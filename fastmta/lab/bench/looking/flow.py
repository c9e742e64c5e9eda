"""Fresh mail that goes through a server, in pairs: alone, and beside what is measured."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

from ...loopback import LabError
from ...server import Server
from .. import workplace
from ..backlog.field import Field
from ..table import Row, at_least

ALONE = "alone"
FEW_DOMAINS = 20
LOSS = 0.05
_FIRST_RATE = 1_500
_POLL_S = 0.005
_STALL_S = 60.0


@dataclass(slots=True)
class Flows:
    """What the runs of all pairs gave."""

    name: str  # of what goes on beside the mail
    per_s: dict[str, list[float]] = field(default_factory=dict)
    done: list[int] = field(default_factory=list)  # of it, in each run
    sent: int = 0

    def row(self) -> Row:
        """The flow beside it over the flow alone, pair by pair."""
        beside, alone = self.per_s.get(self.name, ()), self.per_s.get(ALONE, ())
        ratios = (our / their for our, their in zip(beside, alone, strict=True))
        return at_least(f"flow {self.name} / {ALONE}", ratios, 1 - LOSS)


def measure(
    site: Field,
    server: Server,
    beside: Callable[[], AbstractContextManager[list[int]]],
    flows: Flows,
    pairs: int,
    seconds: float,
) -> None:
    """Send mail for so many pairs of runs; `beside` counts what it does."""
    if not pairs:
        return
    count = int(_FIRST_RATE * seconds)  # to warm up, and to learn how much a run needs
    rate = _send(site, server, count)
    flows.sent += count
    for pair in range(pairs):
        names = (ALONE, flows.name) if pair % 2 == 0 else (flows.name, ALONE)
        for name in names:
            count = max(200, int(rate * seconds))
            if name == ALONE:
                rate = _send(site, server, count)
            else:
                with beside() as done:
                    rate = _send(site, server, count)
                flows.done += done
            flows.sent += count
            flows.per_s.setdefault(name, []).append(rate)
            workplace.say(f"flow {pair + 1}/{pairs} {name}: {rate:.0f}/s")


def _send(site: Field, server: Server, count: int) -> float:
    """Relayed per second, from the first octet to the last delivery."""
    before, begin_s = site.delivered, time.monotonic()
    site.send(server, count, FEW_DOMAINS)
    known, changed_s = site.delivered, time.monotonic()
    while known < before + count:
        time.sleep(_POLL_S)
        now = site.delivered
        if now != known:
            known, changed_s = now, time.monotonic()
        elif time.monotonic() - changed_s > _STALL_S:
            raise LabError(f"deliveries stand still at {known - before} of {count}")
    return count / (changed_s - begin_s)
