"""Looks at a run in equal steps of its time: what charts show over time."""

from __future__ import annotations

from .clock import Agenda
from .network import Network
from .tally import Tallies

SAMPLES = 100  # while mail arrives
SAMPLES_MAX = 200  # in all; then every second one is left out


class Samples:
    """Rows of numbers: a list of times, and for each kind of receiver a list per quantity.

    `delivered` and `deferred` count from the beginning; `queued` and `busy` are what is there at
    that time; `waits` says how many of the tally's waits were known then.
    """

    def __init__(self, agenda: Agenda, tallies: Tallies, network: Network) -> None:
        self._agenda = agenda
        self._tallies = tallies
        self._network = network
        self._step_s = 1.0
        kinds = range(len(tallies.kinds))
        self.times_s: list[float] = []
        self.delivered: list[list[int]] = [[] for _ in kinds]
        self.deferred: list[list[int]] = [[] for _ in kinds]
        self.queued: list[list[int]] = [[] for _ in kinds]
        self.busy: list[list[int]] = [[] for _ in kinds]
        self.waits: list[list[int]] = [[] for _ in kinds]
        self.tenant_waits: list[list[int]] = [[] for _ in tallies.tenants]

    def start(self, duration_s: float) -> None:
        """Look now, and so often that it makes SAMPLES looks in this time."""
        self._step_s = duration_s / SAMPLES
        self._look()

    def resume(self) -> None:
        """The agenda was cleared: go on."""
        self._agenda.post(self._step_s, self._look)

    def _look(self) -> None:
        self.take()
        self.resume()

    def take(self) -> None:
        """One more row."""
        now_s = self._agenda.passed_s
        if self.times_s and now_s <= self.times_s[-1]:
            return
        if len(self.times_s) >= SAMPLES_MAX:
            self._thin()
        self.times_s.append(now_s)
        for kind, tally in enumerate(self._tallies.kinds):
            self.delivered[kind].append(tally.delivered)
            self.deferred[kind].append(sum(tally.deferrals.values()))
            self.queued[kind].append(tally.queued)
            self.busy[kind].append(self._network.busy_of[kind])
            self.waits[kind].append(len(tally.waits_s))
        for waits, tally in zip(self.tenant_waits, self._tallies.tenants, strict=True):
            waits.append(len(tally.waits_s))

    def _thin(self) -> None:
        """Keep every second row, and look half as often."""
        self._step_s *= 2
        lists = (self.delivered, self.deferred, self.queued, self.busy, self.waits)
        for rows in (*lists, self.tenant_waits):
            for row in rows:
                del row[1::2]
        del self.times_s[1::2]
