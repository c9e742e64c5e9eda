"""Whatever dies, hangs, or loses messages: nobody exceeds a limit, and then everybody is served.

A hang is shorter than a lease lasts without renewal; one that is longer is a test of its own
(tests/unit/budget/test_lease.py), because a process that stands still closes nothing.
"""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from fastmta.budget.frame import key_of
from fastmta.budget.rate import read_rate
from tests.support.budget_world import BudgetWorld

WORKERS = 4
PLACES = {"one": 1, "three": 3, "ten": 10}
RATES = {"slow": read_rate("6/min"), "quick": read_rate("10/s, burst 5")}
WORKER = st.integers(0, WORKERS - 1)
CALM_S = 240.0  # longer than a lease, a pause of the slow rate for every job, and all turns


class Broker(RuleBasedStateMachine):
    """The world does the checking: see `Watch`."""

    @initialize(seed=st.integers(0, 2**32))
    def begin(self, seed: int) -> None:
        self.world = BudgetWorld(WORKERS, seed)
        for name, limit in PLACES.items():
            self.world.limit(name, limit)
        self.world.limit("metered", 50)
        for name, rate in RATES.items():
            self.world.rate(name, rate)
        self.slow_jobs = 0

    @rule(
        seconds=st.sampled_from([0.0003, 0.001, 0.05, 0.5, 2.0, 3.0, 7.0, 12.0, 26.0, 31.0, 65.0])
    )
    def pass_time(self, seconds: float) -> None:
        self.world.run(seconds)

    @rule(index=WORKER, name=st.sampled_from([*PLACES]), jobs=st.integers(1, 30),
          job_s=st.sampled_from([0.01, 0.3, 2.0]))  # fmt: skip
    def add_work(self, index: int, name: str, jobs: int, job_s: float) -> None:
        if worker := self.world.workers[index]:
            worker.path(name, job_s).add(jobs)

    @rule(index=WORKER, name=st.sampled_from([*RATES]), jobs=st.integers(1, 30))
    def add_metered_work(self, index: int, name: str, jobs: int) -> None:
        if name == "slow":
            jobs = min(jobs, 8 - self.slow_jobs)
            self.slow_jobs += jobs
        if (worker := self.world.workers[index]) and jobs:
            worker.path("metered", 0.01, name).add(jobs)

    @rule(index=WORKER)
    def kill_worker(self, index: int) -> None:
        self.world.kill_worker(index)

    @rule(index=WORKER)
    def start_worker(self, index: int) -> None:
        if self.world.workers[index] is None:
            self.world.start_worker(index)

    @rule(index=WORKER, seconds=st.sampled_from([0.1, 4.0, 12.0]))
    def hang_worker(self, index: int, seconds: float) -> None:
        worker = self.world.workers[index]
        if worker and worker.hangs_until_s < self.world.agenda.now_s - 8.0:
            worker.hangs_until_s = self.world.agenda.now_s + seconds

    @rule()
    def kill_broker(self) -> None:
        self.world.kill_broker()

    @rule()
    def start_broker(self) -> None:
        self.world.start_broker()

    @rule(is_stopped=st.booleans())
    def stop_broker(self, is_stopped: bool) -> None:
        self.world.stop_broker(is_stopped)

    @rule(loss=st.sampled_from([0.3, 1.0]), seconds=st.sampled_from([0.01, 3.0, 6.0]))
    def lose_messages(self, loss: float, seconds: float) -> None:
        if self.world.lossy_until_s < self.world.agenda.now_s - 12.0:
            self.world.loss = loss
            self.world.lossy_until_s = self.world.agenda.now_s + seconds

    @invariant()
    def no_limit_is_exceeded(self) -> None:
        watch = self.world.watch
        for name, count in watch.connections.items():
            assert 0 <= count <= watch.limits[name]
        ledger = self.world.ledger
        if ledger is not None and ledger.is_open:
            for name in PLACES:
                assert ledger.granted(key_of(name)) <= PLACES[name]
            for name, rate in RATES.items():
                assert ledger.out(key_of(name)) <= rate.burst

    def teardown(self) -> None:
        world = self.world
        if world.ledger is None:
            world.start_broker()
        world.stop_broker(False)
        for index, worker in enumerate(world.workers):
            if worker is None:
                world.start_worker(index)
        world.run(CALM_S)
        for worker in world.workers:
            assert worker is not None
            for path in worker.paths.values():
                assert path.jobs == path.in_flight == 0, f"{path.name} starves"
        self._is_even()
        self._is_forgotten()

    def _is_even(self) -> None:
        """With all of them at work for a minute: the rate is used, and everybody has his turn."""
        world, rate = self.world, RATES["quick"]
        for worker in world.workers:
            assert worker is not None
            worker.path("one", 0.3).add(10_000)
            worker.path("metered", 0.01, "quick").add(10_000)
        world.run(2.0)
        since_s = world.agenda.now_s
        done = [worker.path("one", 0.3).done for worker in world.workers if worker]
        world.run(60.0)
        uses = [index for at_s, index in world.watch.uses["quick"] if at_s > since_s]
        assert 0.99 * 600 <= len(uses) <= 600 + rate.burst
        assert min(uses.count(index) for index in range(WORKERS)) > 100
        for before, worker in zip(done, world.workers, strict=True):
            assert worker is not None
            assert worker.path("one", 0.3).done > before, "a worker never had its turn"

    def _is_forgotten(self) -> None:
        """Who has nothing to do costs nothing."""
        for index in range(WORKERS):
            self.world.kill_worker(index)
        self.world.run(100.0)
        assert self.world.ledger is not None
        assert len(self.world.ledger) == 0


Broker.TestCase.settings = settings(max_examples=8, stateful_step_count=30)
TestBroker = Broker.TestCase
