"""Who sends what to whom when: every stream of mail has a chance of its own.

So whatever the receivers and the scheduler do, the same seed sends the same mail.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import accumulate
from random import Random

from fastmta.message import ClientIdentity, Envelope, RecipientState, RecipientStatus

from .clock import NS, START_NS, START_S, Agenda
from .mail import Mail
from .scenario import Backlog, Scenario, Traffic

CHUNK = 1_000  # drawn together, which is cheaper
_CLIENT = ClientIdentity("192.0.2.25", "client.example")


class Numbers:
    """Numbers of messages, in the order of arrival."""

    __slots__ = ("last",)

    def __init__(self) -> None:
        self.last = 0

    def next(self) -> int:
        """One more."""
        self.last += 1
        return self.last


class Destinations:
    """Recipients by chance, as one section says. Envelopes with one recipient are made once."""

    def __init__(
        self,
        source: Traffic | Backlog,
        tenant: str,
        paths_of: Callable[[str], Sequence[bytes]],
        random: Random,
    ) -> None:
        """`paths_of` has the addresses of a kind of receiver, one for each domain."""
        self._random = random
        self._count = source.recipients
        self._tenant = tenant
        self._reverse_path = b"news@" + tenant.encode("ascii", "replace") + b".example"
        self._paths: list[bytes] = []
        weights: list[float] = []
        shares = source.weights or [float(len(paths_of(name))) for name in source.to]
        for name, share in zip(source.to, shares, strict=True):
            paths = list(paths_of(name))
            random.shuffle(paths)
            ranks = [1.0 if source.spread == "even" else 1.0 / (n + 1) for n in range(len(paths))]
            total = sum(ranks)
            self._paths += paths
            weights += [share * rank / total for rank in ranks]
        self._cumulated = list(accumulate(weights))
        self._envelopes = [self._envelope((path,)) for path in self._paths]

    def __iter__(self) -> Iterator[Envelope]:
        random, cumulated = self._random, self._cumulated
        while self._count == 1:
            yield from random.choices(self._envelopes, cum_weights=cumulated, k=CHUNK)
        while True:
            paths = random.choices(self._paths, cum_weights=cumulated, k=self._count)
            yield self._envelope(tuple(paths))

    def _envelope(self, forward_paths: tuple[bytes, ...]) -> Envelope:
        return Envelope(self._reverse_path, forward_paths, _CLIENT, tenant=self._tenant)


def _gaps_s(traffic: Traffic, random: Random) -> Iterator[float]:
    """Times between two bursts, the first one after the beginning."""
    rate_per_s = traffic.rate_per_s / traffic.burst
    if traffic.arrival == "steady":
        yield 0.0
        while True:
            yield 1.0 / rate_per_s
    draw = random.expovariate
    while True:
        yield draw(rate_per_s)


class Stream:
    """One section of traffic. `arrive` is called with each message when its time has come."""

    def __init__(
        self,
        traffic: Traffic,
        tenant: int,
        scenario: Scenario,
        envelopes: Iterator[Envelope],
        random: Random,
    ) -> None:
        self._traffic = traffic
        self._tenant = tenant
        self._envelopes = envelopes
        self._gaps_s = _gaps_s(traffic, random)
        self._end_s = START_S + (traffic.until_s or scenario.duration_s)
        self._left = traffic.count or -1
        self._next_s = START_S + traffic.from_s + next(self._gaps_s)

    @property
    def is_over(self) -> bool:
        """Whether nothing more comes."""
        return self._left == 0 or self._next_s >= self._end_s

    def arm(self, agenda: Agenda, numbers: Numbers, arrive: Callable[[Mail], None]) -> None:
        """See to it that the next message arrives, and those after it."""
        if not self.is_over:
            call = partial(self._arrive, agenda, numbers, arrive)
            agenda.post(max(0.0, self._next_s - agenda.now_s), call, call)

    def _arrive(
        self,
        agenda: Agenda,
        numbers: Numbers,
        arrive: Callable[[Mail], None],
        again: Callable[..., None],
    ) -> None:
        now_s = agenda.now_s
        now_ns = agenda.wall_ns()
        tenant, size_octets, envelopes = self._tenant, self._traffic.size_octets, self._envelopes
        for _ in range(self._traffic.burst):
            mail = Mail(numbers.next(), next(envelopes), now_ns, now_s, tenant)
            mail.size_octets = size_octets
            arrive(mail)
            self._left -= 1
            if self._left == 0:
                return
        self._next_s = next_s = self._next_s + next(self._gaps_s)
        if next_s < self._end_s:
            agenda.post(next_s - now_s, again, again)


def backlog_mail(
    backlog: Backlog, tenant: int, envelopes: Iterator[Envelope], first_s: float, random: Random
) -> Iterator[tuple[float, Callable[[int], Mail]]]:
    """(age, how to make it with a number) of each message of a section, oldest first."""
    ages = sorted((random.random() * backlog.age_s for _ in range(backlog.count)), reverse=True)
    for age_s in ages:
        states = {}
        envelope = next(envelopes)
        if backlog.attempts:
            late_s = min(age_s, first_s) * random.random()
            due_in_s = -late_s if backlog.due == "overdue" else first_s * random.random()
            due_at_ns = START_NS + int(due_in_s * NS)
            deferred = RecipientStatus.DEFERRED
            for index in range(len(envelope.forward_paths)):
                states[index] = RecipientState(
                    index, deferred, backlog.attempts, due_at_ns, "later"
                )
        yield age_s, partial(_waiting, backlog.size_octets, envelope, age_s, states, tenant)


def _waiting(
    size_octets: int,
    envelope: Envelope,
    age_s: float,
    states: dict[int, RecipientState],
    tenant: int,
    number: int,
) -> Mail:
    mail = Mail(number, envelope, START_NS - int(age_s * NS), START_S, tenant)
    mail.size_octets = size_octets
    mail.states = states
    return mail
