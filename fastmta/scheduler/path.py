"""One path: an egress source and an MX site, and the jobs that go over it."""

from __future__ import annotations

from typing import Protocol

from fastmta.budget import GCRA, Window
from fastmta.event import Notice
from fastmta.message import Outcome
from fastmta.message.attempt import AttemptResult, Job
from fastmta.route import Site

from .engine import Engine
from .health import Health, PathState
from .hop import Hop
from .port import Timer
from .ready import Ready

NEVER_S = float("inf")
TURN_JOBS = 10  # started in a slot that others stand in line for, before they get it
TURN_S = 2.0  # ... and none after this time
REFRESH_RETRY_S = 60.0  # an old site serves on while it cannot be looked up again
# Looked at for each message; reading them off their classes every time costs more than that.
_OPEN = PathState.OPEN


class Owner(Protocol):
    """Who keeps the paths."""

    def finished(self, job: Job, result: AttemptResult, is_own_trouble: bool) -> None:
        """An attempt ended; `is_own_trouble`: the message is to blame for the trouble it met."""

    def refill(self, path: Path) -> None:
        """The path could take mail from the backlog of its hops (`path.behind`)."""

    def refresh(self, next_hop: bytes) -> None:
        """What is known of the site of `next_hop` is too old."""

    def closed(self, path: Path) -> None:
        """The path began a pause: keep less of its mail in RAM."""


class Path:
    """Starts jobs while its health, the slots of the worker and the rate of the site let it.

    Where paths stand in line for a slot, who gets one for mail of the backlog keeps it for a turn
    of a few jobs: with ten thousand sites to serve, each message would otherwise take a connection
    and a read of its own. Fresh mail hands the slot on after each job.

    `behind` has the hops with due mail in the backlog, the next to be read first (a dict for its
    order); `fetches` counts the reads under way.
    """

    __slots__ = (
        "_attempted",
        "_engine",
        "_is_pumping",
        "_owner",
        "_rate",
        "_timer",
        "_turn_count",
        "_turn_ends_s",
        "behind",
        "expires_at_s",
        "fetches",
        "health",
        "hop_count",
        "idle_sweeps",
        "in_flight",
        "is_waiting_for_slot",
        "key",
        "ready",
        "site",
        "wakes_at_s",
    )

    def __init__(self, key: tuple[str, bytes], site: Site, engine: Engine, owner: Owner) -> None:
        options = engine.options.site
        limit = engine.broker.share(site.key, options.connections)
        self.key = key  # egress source, key of the site
        self.health = Health(Window(options.window_start, limit), engine.backoff())
        self.ready = Ready()
        self.in_flight = 0
        self.behind: dict[Hop, None] = {}
        self.fetches = 0
        self.hop_count = 0
        self.idle_sweeps = 0  # how often in a row a sweep found nothing to keep it for
        self.is_waiting_for_slot = False
        self.update(site)
        self._engine = engine
        self._owner = owner
        self._is_pumping = False
        self._turn_count = 0  # jobs left of a turn
        self._turn_ends_s = 0.0
        self._attempted = self.attempted
        self._timer: Timer | None = None
        self.wakes_at_s = 0.0  # when the timer, if there is one, ends
        self._rate: GCRA | None = None
        if options.rate_per_s > 0:
            rate = options.rate_per_s * limit / options.connections
            self._rate = GCRA(rate, 1.0, options.rate_burst)

    def update(self, site: Site) -> None:
        """The site was looked up again: perhaps other addresses."""
        self.site = site
        self.expires_at_s = NEVER_S if site.expires_at_s is None else site.expires_at_s

    def offer(self, job: Job) -> None:
        """A fresh job: start it at once if nothing else waits, or queue it."""
        ready = self.ready
        ready.fresh.append(job)
        if self.in_flight < self.health.limit:
            self.pump()

    def put_back(self, job: Job) -> None:
        """A job from the backlog or to be tried again, behind the others. Starts nothing."""
        self.ready.backlog.append(job)

    def pump(self) -> None:
        """Start what may start, then see to it that there is more. Safe to call at any time."""
        engine = self._engine
        if self._is_pumping or not engine.may_start:
            return
        self._is_pumping = True
        try:
            self._start_jobs()
        finally:
            self._is_pumping = False
        if self.behind:
            self._owner.refill(self)

    resume = pump  # `SlotWaiter`: a slot may be free

    def _start_jobs(self) -> None:
        ready, health, slots = self.ready, self.health, self._engine.slots
        while self.in_flight < health.limit and (ready.fresh or ready.backlog):
            if not slots.take():
                slots.wait(self)
                return
            if self._rate is not None and self._is_throttled(self._rate):
                slots.give()
                return
            self._start(ready.pop())

    def _start(self, job: Job) -> None:
        ports = self._engine.ports
        now_s = ports.clock.monotonic_s()
        job.started_at_s = now_s
        self.in_flight += 1
        if now_s >= self.expires_at_s:
            self.expires_at_s = now_s + REFRESH_RETRY_S
            self._owner.refresh(job.next_hop)
        job.slot = ports.doubt.begin(job.message.id)
        ports.deliver.start(job, self.site, self._attempted)

    def attempted(self, job: Job, result: AttemptResult) -> None:
        """`Deliver` is done with `job`."""
        in_flight = self.in_flight
        assert in_flight > 0
        self.in_flight = in_flight - 1
        trouble = result.trouble
        is_own_trouble = False
        if trouble is None:
            if self.health.state is _OPEN:
                self.health.clean(job, in_flight)
            else:
                self._reopen()
        else:
            is_own_trouble = self._met_trouble(job, trouble)
        engine = self._engine
        try:
            self._owner.finished(job, result, is_own_trouble)
        finally:
            if not (self.ready.backlog and engine.slots.is_contended and self._start_next()):
                engine.slots.give()
        if engine.is_stopped:
            engine.come_to_rest()
        elif self.ready.fresh or self.ready.backlog or self.behind:
            self.pump()

    def _start_next(self) -> bool:
        """In the slot of the job that just ended, if this path still has its turn."""
        ready = self.ready
        if self._engine.is_stopped or self._rate is not None or self._is_pumping:
            return False
        if ready.fresh or not ready.backlog or self.in_flight >= self.health.limit:
            return False
        now_s = self._engine.ports.clock.monotonic_s()
        if self._turn_count == 0:
            self._turn_count = TURN_JOBS
            self._turn_ends_s = now_s + TURN_S
        self._turn_count -= 1
        if self._turn_count == 0 or now_s > self._turn_ends_s:
            self._turn_count = 0
            return False
        self._start(ready.pop())
        return True

    def _met_trouble(self, job: Job, trouble: Outcome) -> bool:
        health = self.health
        if self._engine.is_stopped:  # most likely it is us who broke it off
            return False
        if health.is_own_trouble(job, trouble):
            return True
        ports = self._engine.ports
        now_s = ports.clock.monotonic_s()
        was_open = health.state is _OPEN
        if health.trouble(job, trouble, self.in_flight, now_s):
            pause_s = health.die(now_s, ports.random())
            self._arm(pause_s)
            if was_open:
                text = f"site {self.site.label}: no delivery for {pause_s:.0f} s: {trouble.text}"
                ports.emit(Notice("qmgr", text))
            self._owner.closed(self)
        return False

    def _reopen(self) -> None:
        self._disarm()
        ports = self._engine.ports
        self.health.reopen(ports.clock.monotonic_s())
        ports.emit(Notice("qmgr", f"site {self.site.label}: delivery resumed"))

    def _is_throttled(self, rate: GCRA) -> bool:
        wait_s = rate.take(self._engine.ports.clock.monotonic_s())
        if wait_s > 0 and self._timer is None:
            self._arm(wait_s)
        return wait_s > 0

    @property
    def is_throttled(self) -> bool:
        """Waits for its rate."""
        return self._timer is not None and self.health.state is not PathState.BACKING_OFF

    def _arm(self, delay_s: float) -> None:
        self._disarm()
        ports = self._engine.ports
        self.wakes_at_s = ports.clock.monotonic_s() + delay_s
        self._timer = ports.timers.call_later(delay_s, self._wake)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _wake(self) -> None:
        self._timer = None
        if self.health.state is PathState.BACKING_OFF:
            self.health.end_pause(self._engine.ports.clock.monotonic_s())
            self.ready.prefer_fresh()
        self.pump()
