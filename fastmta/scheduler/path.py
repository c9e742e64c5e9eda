"""One path: an egress source and an MX site, and the jobs that go over it."""

from __future__ import annotations

from typing import Protocol

from fastmta.budget import Window
from fastmta.budget.meter import Meter
from fastmta.budget.shape import Shape
from fastmta.event import Notice
from fastmta.message import Outcome
from fastmta.message.attempt import AttemptResult, Job
from fastmta.route import Site

from .engine import Engine
from .gate import Gate, give_lane
from .health import Health, PathState
from .hop import Hop
from .lane import Lane
from .port import Timer
from .ready import Ready

NEVER_S = float("inf")
# Started in a slot that others stand in line for, before they get it: each turn pays for opening a
# connection, about two replies' time, so a short one is a waste; and none after TURN_S.
TURN_JOBS = 40
TURN_S = 20.0
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
        """The path began a pause, or hangs: keep less of its mail in RAM."""


class Path:
    """Starts jobs while its health, the slots of the worker and the shapes of the operator let it.

    What it may not start for a reason that it shares with others (a rate, places, a pause) it waits
    for as a whole: `holdup`, until `resume`. What only one lane may not is the lane's (`Ready`).

    Where paths stand in line for a slot, who gets one for mail of the backlog keeps it for a turn
    of a few jobs: with ten thousand sites to serve, each message would otherwise take a connection
    and a read of its own. Fresh mail hands the slot on after each job.

    `behind` has the hops with due mail in the backlog, the next to be read first (a dict for its
    order); `fetches` counts the reads under way.
    """

    __slots__ = (
        "__weakref__",
        "_attempted",
        "_engine",
        "_is_pumping",
        "_owner",
        "_resume",
        "_timer",
        "_turn_count",
        "_turn_ends_s",
        "behind",
        "expires_at_s",
        "fetches",
        "gate",
        "health",
        "holdup",
        "hop_count",
        "hung",
        "idle_sweeps",
        "in_flight",
        "is_proved",
        "is_waiting_for_slot",
        "key",
        "ready",
        "site",
        "wakes_at_s",
    )

    def __init__(self, key: tuple[str, bytes], site: Site, engine: Engine, owner: Owner) -> None:
        options = engine.options.site
        self.key = key  # egress source, key of the site
        self._engine = engine
        self._owner = owner
        self.health = Health(Window(options.window_start, options.connections), engine.backoff())
        self.ready = Ready()
        self.in_flight = 0
        self.behind: dict[Hop, None] = {}
        self.fetches = 0
        self.hop_count = 0
        self.idle_sweeps = 0  # how often in a row a sweep found nothing to keep it for
        self.is_waiting_for_slot = False
        self.is_proved = False  # somebody there has answered lately
        self.hung = 0  # attempts in no slot, see `Contacts`
        self.holdup: Meter | Shape | None = None
        self._is_pumping = False
        self._turn_count = 0  # jobs left of a turn
        self._turn_ends_s = 0.0
        self._attempted = self.attempted
        self._resume = self.resume
        self._timer: Timer | None = None
        self.wakes_at_s = 0.0  # when the timer, if there is one, ends
        self.update(site)
        self.gate = Gate(self, engine)
        self.shape()

    def update(self, site: Site) -> None:
        """The site was looked up again: perhaps other addresses."""
        self.site = site
        self.expires_at_s = NEVER_S if site.expires_at_s is None else site.expires_at_s

    def shape(self) -> None:
        """Take up the shapes in force: at the beginning, and when they have changed."""
        connections = self.gate.shape()
        self.health.window.resize(connections)
        self.health.resized()
        self.holdup = self.gate.limits.pause

    def offer(self, job: Job) -> None:
        """A fresh job: start it at once if nothing else waits, or queue it."""
        engine, ready = self._engine, self.ready
        if (
            self.in_flight < self.health.limit
            and self.is_proved
            and not self.gate.is_metered
            and engine.may_start
            and not (ready.fresh_count or ready.backlog_count)
            and not engine.shapes.has_lane_rules
            and not self._is_pumping
            and engine.slots.take()
        ):
            self._start(job)
            if self.behind:
                self._owner.refill(self)
            return
        ready.add(self.gate.lane(job), job, is_fresh=True)
        if self.in_flight < self.health.limit:
            self.pump()

    def put_back(self, job: Job) -> None:
        """A job from the backlog or to be tried again, behind the others. Starts nothing."""
        self.ready.add(self.gate.lane(job), job, is_fresh=False)

    def add_fresh(self, job: Job) -> None:
        """A job that waited for a path. Starts nothing."""
        self.ready.add(self.gate.lane(job), job, is_fresh=True)

    def reopen(self, lane: Lane) -> None:
        """What held `lane` up is over."""
        if self.ready.lanes.get(lane.key) is lane:
            self.ready.unpark(lane)
            self.pump()

    def pump(self) -> None:
        """Start what may start, then see to it that there is more. Safe to call at any time."""
        engine = self._engine
        if self._is_pumping or self.holdup is not None or not engine.may_start:
            return
        self._is_pumping = True
        try:
            self._start_jobs()
        finally:
            self._is_pumping = False
        if self.behind:
            self._owner.refill(self)

    def resume(self) -> None:
        """What it waited for may be there: a slot, a unit of a rate, a place."""
        self.holdup = self.gate.limits.pause
        self.pump()

    def _start_jobs(self) -> None:
        ready, health, slots, gate = self.ready, self.health, self._engine.slots, self.gate
        while self.in_flight < health.limit:
            lane = ready.next_lane()
            if lane is None:
                return
            if not slots.is_free:
                slots.wait(self, is_fresh=ready.fresh_count > 0)
                return
            if self.in_flight and slots.is_contended and self._is_little():
                return  # what is under way goes on with it, over its connection
            if not self.is_proved and not self._may_contact():
                return
            if (gate.is_metered or lane.limits) and not gate.admit(lane):
                if self.holdup is not None:
                    return
                continue  # that lane is parked now
            slots.take()
            job = ready.pop(lane)
            if lane.limits.places:
                job.lane = lane
            self._start(job)

    def _is_little(self) -> bool:
        """Whether what waits, of the backlog alone, is not worth one more connection."""
        ready = self.ready
        return not ready.fresh_count and ready.backlog_count < self.in_flight * TURN_JOBS

    def _may_contact(self) -> bool:
        """Whether a site that may not be there may be tried (once more at the same time)."""
        if self.in_flight and self._engine.slots.is_contended:
            return False  # the end of what is under way brings us back
        contacts = self._engine.contacts
        if not contacts.may_begin:
            contacts.wait(self._resume)
            return False
        return True

    def _start(self, job: Job) -> None:
        ports = self._engine.ports
        now_s = ports.clock.monotonic_s()
        job.started_at_s = now_s
        self.in_flight += 1
        if now_s >= self.expires_at_s:
            self.expires_at_s = now_s + REFRESH_RETRY_S
            self._owner.refresh(job.next_hop)
        if not self.is_proved:
            self._engine.contacts.begin(job, self)
        job.slot = ports.doubt.begin(job.message.id)
        ports.deliver.start(job, self.site, self._attempted)

    def attempted(self, job: Job, result: AttemptResult) -> None:
        """`Deliver` is done with `job`."""
        in_flight = self.in_flight
        assert in_flight > 0
        self.in_flight = in_flight - 1
        if job.lane is not None:
            give_lane(job)
        engine = self._engine
        is_hung = engine.contacts.end(job)
        if is_hung:
            self.hung -= 1
        trouble = result.trouble
        is_own_trouble = False
        if trouble is None:
            self.is_proved = True
            if self.health.state is _OPEN:
                self.health.clean(job, in_flight)
            else:
                self._reopen()
        else:
            is_own_trouble = self._met_trouble(job, trouble)
        try:
            self._owner.finished(job, result, is_own_trouble)
        finally:
            ready = self.ready
            if self.holdup is not None:
                self.gate.go_on()
            is_contended = ready.backlog_count and engine.slots.is_contended
            if not is_hung and not (is_contended and self._start_next()):
                engine.slots.give()
        if engine.is_stopped:
            engine.come_to_rest()
        elif ready.fresh_count or ready.backlog_count or self.behind:
            self.pump()
        if self.gate.tenure is not None:
            self.gate.tenure.rest()

    def _start_next(self) -> bool:
        """In the slot of the job that just ended, if this path still has its turn."""
        ready = self.ready
        if not self._engine.may_start or self.gate.is_metered or self._is_pumping:
            return False
        if ready.fresh_count or not ready.backlog_count or self.in_flight >= self.health.limit:
            return False
        if self._engine.slots.is_fresh_turn or not (self.is_proved or self._may_contact()):
            return False
        lane = ready.next_lane()
        if lane is None or lane.limits:
            return False
        now_s = self._engine.ports.clock.monotonic_s()
        if self._turn_count == 0:
            self._turn_count = TURN_JOBS
            self._turn_ends_s = now_s + TURN_S
        self._turn_count -= 1
        if self._turn_count == 0 or now_s > self._turn_ends_s:
            self._turn_count = 0
            return False
        self._start(ready.pop(lane))
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
            self.is_proved = False
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

    @property
    def is_open(self) -> bool:
        """Whether its mail goes, if only at the pace of a limit."""
        if self.is_hanging or self.health.state is not _OPEN:
            return False
        return self.gate.limits.pause is None

    @property
    def is_hanging(self) -> bool:
        """Whether nothing is known of the site but that nobody answers, see `Contacts`."""
        return self.hung > 0 and not self.is_proved

    def end_pause(self) -> None:
        """End the pause after trouble now, if there is one."""
        if self.health.state is PathState.BACKING_OFF:
            self._disarm()
            self._wake()

    def hang(self) -> None:
        """Nothing came of a first contact so far. RAM is for mail to those who answer."""
        self.hung += 1
        if self.is_hanging:
            self._owner.closed(self)

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
