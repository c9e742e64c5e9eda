"""Workers that lease from a broker, in virtual time: whatever dies, hangs, or loses messages.

Channels keep their order and what nobody reads yet, as the sockets do that a supervisor holds. The
world watches what nobody may exceed: connections that exist, and each use of a unit.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from random import Random
from typing import Any

from fastmta.budget.frame import decode_ask, encode, gone
from fastmta.budget.lease import LeasedMeters
from fastmta.budget.ledger import Ledger
from fastmta.budget.meter import Cancellable, Meter
from fastmta.budget.rate import Rate
from tests.support.agenda import Agenda

CLOSE_S = 0.01  # to close a connection
IDLE_S = 5.0  # a connection without work is kept so long
WINDOW = 4  # connections that a path wants at once
JITTER_S = 0.005
LINK_S = 0.0005


class Watch:
    """What really happens under each name."""

    def __init__(self, agenda: Agenda) -> None:
        self._agenda = agenda
        self.connections: Counter[str] = Counter()
        self.most: Counter[str] = Counter()
        self.limits: dict[str, int] = {}
        self.rates: dict[str, Rate] = {}
        self.uses: dict[str, list[tuple[float, int]]] = {}  # when, and by which worker
        self._levels: dict[str, tuple[float, float]] = {}

    def open(self, name: str) -> None:
        self.connections[name] += 1
        self.most[name] = max(self.most[name], self.connections[name])
        assert self.connections[name] <= self.limits[name], f"{name}: too many connections"

    def use(self, name: str, worker: int) -> None:
        rate, now_s = self.rates[name], self._agenda.now_s
        interval_s = rate.period_s / rate.count
        capacity = rate.burst + min(0.5, JITTER_S / interval_s)
        level, at_s = self._levels.get(name, (capacity, now_s))
        level = min(capacity, level + (now_s - at_s) / interval_s)
        assert level >= 1 - 1e-6, f"{name}: a unit too many, {level}"
        self._levels[name] = (level - 1, now_s)
        self.uses.setdefault(name, []).append((now_s, worker))


class ModelPath:
    """A path of a worker: jobs that take some time each, over connections under one limit."""

    def __init__(self, worker: ModelWorker, name: str, job_s: float, rate: str = "") -> None:
        self.worker, self.name, self.rate_name = worker, name, rate
        self.job_s = job_s
        self.jobs = self.in_flight = self.held = self.closing = self.done = 0
        watch = worker.world.watch
        self.places = worker.meters.places(name, watch.limits[name])
        self.throttle = worker.meters.throttle(rate, watch.rates[rate]) if rate else None

    def add(self, jobs: int) -> None:
        self.jobs += jobs
        self.pump()

    def pump(self) -> None:
        while self.jobs and self.in_flight < WINDOW:
            if self.throttle is not None and self.throttle.wait_s() > 0:
                self.throttle.wait(self)
                return
            if self.held - self.closing <= self.in_flight:
                if not self.places.take(self):
                    self.places.wait(self)
                    return
                self.held += 1
                self.worker.world.watch.open(self.name)
            if self.throttle is not None:
                self.throttle.take()
                self.worker.world.watch.use(self.rate_name, self.worker.index)
            self.jobs -= 1
            self.in_flight += 1
            self.worker.call_later(self.job_s, self.finish)

    resume = pump

    def finish(self) -> None:
        self.in_flight -= 1
        self.done += 1
        if self.places.is_wanted_of(self):
            self.give_spare()
        self.pump()
        if self.places.is_spare_wanted_of(self):
            self.give_spare()
        if not self.in_flight:
            self.worker.call_later(IDLE_S, self.rest)

    def rest(self) -> None:
        if not self.in_flight:
            self.give_spare()

    def has_spare(self, places: Meter) -> bool:
        return self.held - self.closing > self.in_flight

    def yield_place(self, places: Meter) -> None:
        self.give_spare()

    def give_spare(self) -> None:
        count = self.held - self.closing - self.in_flight
        if count > 0:
            self.closing += count
            self.worker.call_later(CLOSE_S, self.closed, count)

    def closed(self, count: int) -> None:
        self.closing -= count
        self.held -= count
        self.worker.world.watch.connections[self.name] -= count
        for _ in range(count):
            self.places.give(self)


class ModelWorker:
    """One process."""

    def __init__(self, world: BudgetWorld, index: int, life: int) -> None:
        self.world, self.index, self.life = world, index, life
        self.is_alive = True
        self.hangs_until_s = 0.0
        self.said: list[tuple[str, bool]] = []
        self.paths: dict[str, ModelPath] = {}
        self.meters = LeasedMeters(
            life,
            world.agenda.monotonic_s,
            self,
            lambda frame: world.to_broker(index, frame),
            lambda text, is_bad: self.said.append((text, is_bad)),
        )
        self.meters.start()

    def call_later(
        self, delay_s: float, callback: Callable[..., object], *args: Any
    ) -> Cancellable:
        return self.world.agenda.call_later(delay_s, self._call, callback, args)

    def _call(self, callback: Callable[..., object], args: tuple[Any, ...]) -> None:
        if not self.is_alive:
            return
        left_s = self.hangs_until_s - self.world.agenda.now_s
        if left_s > 0:
            self.world.agenda.call_later(left_s, self._call, callback, args)
        else:
            callback(*args)

    def path(self, name: str, job_s: float = 0.2, rate: str = "") -> ModelPath:
        key = name + rate
        if key not in self.paths:
            self.paths[key] = ModelPath(self, name, job_s, rate)
        return self.paths[key]

    def die(self) -> None:
        self.is_alive = False
        for path in self.paths.values():
            self.world.watch.connections[path.name] -= path.held


class BudgetWorld:
    """A supervisor, `count` workers and a broker."""

    def __init__(self, count: int, seed: int = 0) -> None:
        self.agenda = Agenda()
        self.watch = Watch(self.agenda)
        self.random = Random(seed)
        self.loss = 0.0  # of messages, until `lossy_until_s`
        self.lossy_until_s = 0.0
        self.messages = 0
        self.octets = 0
        self._to_broker: list[list[bytes]] = [[] for _ in range(count)]
        self._arrivals_s: dict[tuple[int, bool], float] = {}
        self._lives = 0
        self._epoch = 0
        self._timer: Cancellable | None = None
        self.ledger: Ledger | None = None
        self.is_broker_stopped = False
        self.workers: list[ModelWorker | None] = [None] * count
        self.start_broker()
        for index in range(count):
            self.start_worker(index)

    def limit(self, name: str, limit: int) -> None:
        self.watch.limits[name] = limit

    def rate(self, name: str, rate: Rate) -> None:
        self.watch.rates[name] = rate

    def start_worker(self, index: int) -> ModelWorker:
        self._lives += 1
        worker = self.workers[index] = ModelWorker(self, index, self._lives)
        return worker

    def kill_worker(self, index: int) -> None:
        worker = self.workers[index]
        if worker is not None:
            worker.die()
            self.workers[index] = None
            self._to_broker[index].append(gone(worker.life))  # nothing of the supervisor is lost
            self._wake()

    def start_broker(self) -> None:
        if self.ledger is None:
            self._epoch += 1
            self.ledger = Ledger(
                len(self.workers),
                self._epoch,
                self.agenda.now_s,
                is_first=self._epoch == 1,
                absent=[index for index, one in enumerate(self.workers) if one is None],
            )
            self.is_broker_stopped = False
            self._wake()

    def kill_broker(self) -> None:
        self.ledger = None

    def stop_broker(self, is_stopped: bool) -> None:
        self.is_broker_stopped = is_stopped
        self._wake()

    def to_broker(self, index: int, frame: bytes) -> bool:
        self.messages += 1
        self.octets += len(frame)
        if not self._is_lost():
            self.agenda.call_later(self._delay_s(index, True), self._arrive, index, frame)
        return True

    def _delay_s(self, index: int, is_up: bool) -> float:
        """Messages overtake each other only where they may get lost, too."""
        at_s = self.agenda.now_s + LINK_S * (1 + self.random.random())
        if self.agenda.now_s >= self.lossy_until_s:
            at_s = max(at_s, self._arrivals_s.get((index, is_up), 0.0))
        self._arrivals_s[index, is_up] = at_s
        return at_s - self.agenda.now_s

    def _arrive(self, index: int, frame: bytes) -> None:
        self._to_broker[index].append(frame)
        self._wake()

    def _is_lost(self) -> bool:
        return self.agenda.now_s < self.lossy_until_s and self.random.random() < self.loss

    def _wake(self, delay_s: float = 0.0) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self.agenda.call_later(delay_s, self._turn)

    def _turn(self) -> None:
        if self.ledger is None or self.is_broker_stopped:
            return
        now_s = self.agenda.now_s
        for index, frames in enumerate(self._to_broker):
            while frames:
                self.ledger.hear(index, decode_ask(frames.pop(0)), now_s)
        for index, grant in self.ledger.turn(now_s):
            self.messages += 1
            worker = self.workers[index]
            if worker is not None and not self._is_lost():
                delay_s = self._delay_s(index, False)
                worker.call_later(delay_s, worker.meters.receive, encode(grant))
        self._wake(max(0.0001, self.ledger.wait_s(now_s)))

    def run(self, duration_s: float) -> None:
        self.agenda.run(duration_s)
