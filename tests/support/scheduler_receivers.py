"""Receivers for the scheduler: each site behaves as a function says."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

from fastmta.message import Outcome, OutcomeKind, Scope
from fastmta.message.attempt import AttemptResult, Job
from fastmta.route import Site
from tests.support.agenda import Agenda

CLOSE_S = 0.001

DELIVERED = Outcome(OutcomeKind.DELIVERED, "2.0.0", "250 Ok", remote="mx[192.0.2.1]:25")
FAILED = Outcome(OutcomeKind.FAILED, "5.1.1", "no such user", remote="mx[192.0.2.1]:25")
DEFERRED = Outcome(OutcomeKind.DEFERRED, "4.2.2", "mailbox full", remote="mx[192.0.2.1]:25")
LOST = Outcome(
    OutcomeKind.DEFERRED, "4.4.2", "lost connection", Scope.HOST, remote="mx[192.0.2.1]:25"
)
REFUSED = Outcome(OutcomeKind.DEFERRED, "4.4.1", "Connection refused", Scope.HOST)


Behaviour = Callable[[Job, Site], AttemptResult]


class Receivers:
    """Deliver: each site's behaviour is a function; every attempt takes `latency_s`."""

    def __init__(self, agenda: Agenda) -> None:
        self._agenda = agenda
        self.behaviours: dict[str, Behaviour] = {}
        self.latency_s: dict[str, float] = {}
        self.silent: set[str] = set()  # no host of these takes a connection
        self.in_flight: Counter[str] = Counter()
        self.most: Counter[str] = Counter()
        self.most_together = 0
        self.attempts: Counter[str] = Counter()
        self.log: list[tuple[float, bytes, str]] = []  # started at, id, site
        self.open: Counter[str] = Counter()  # connections, idle ones too: for ever, or until closed
        self.closings = 0  # how often idle ones were to be closed
        self._open_log: list[tuple[str, int]] = []  # site, how many it has from then on

    def start(self, job: Job, site: Site, done: Callable[[Job, AttemptResult], None]) -> None:
        label = site.label
        job.is_connected = label not in self.silent
        self.attempts[label] += 1
        self.in_flight[label] += 1
        self.most[label] = max(self.most[label], self.in_flight[label])
        if self.in_flight[label] > self.open[label]:
            self.open[label] += 1
            self._open_log.append((label, self.open[label]))
        self.most_together = max(self.most_together, self.in_flight.total())
        self.log.append((self._agenda.now_s, job.message.id, label))
        behaviour = self.behaviours.get(label, deliver_all)
        self._agenda.call_later(
            self.latency_s.get(label, 0.01), self._finish, job, site, behaviour, done
        )

    def close_idle(self, site: Site, done: Callable[[], None]) -> None:
        """Idle ones are closed a moment later: until then the receiver has them."""
        self.closings += 1
        self._agenda.call_later(CLOSE_S, self._closed, site.label, done)

    def _closed(self, label: str, done: Callable[[], None]) -> None:
        self.open[label] = self.in_flight[label]
        self._open_log.append((label, self.open[label]))
        done()

    def restart(self) -> None:
        """Every connection is gone."""
        self.in_flight.clear()
        self._open_log += [(label, 0) for label in self.open]
        self.open.clear()

    def open_most(self, labels: Sequence[str]) -> int:
        """How many connections these sites had at once, at most."""
        count: Counter[str] = Counter()
        most = 0
        for label, open_now in self._open_log:
            if label in labels:
                count[label] = open_now
                most = max(most, count.total())
        return most

    def _finish(
        self,
        job: Job,
        site: Site,
        behaviour: Behaviour,
        done: Callable[[Job, AttemptResult], None],
    ) -> None:
        self.in_flight[site.label] -= 1
        done(job, behaviour(job, site))


def answer(outcome: Outcome) -> Behaviour:
    """Every recipient gets `outcome`, without trouble."""
    return lambda job, site: AttemptResult([outcome] * len(job.indices))


def fail_site(outcome: Outcome) -> Behaviour:
    """The site is in trouble: no recipient gets an outcome of its own."""
    return lambda job, site: AttemptResult([outcome] * len(job.indices), outcome)


deliver_all = answer(DELIVERED)
