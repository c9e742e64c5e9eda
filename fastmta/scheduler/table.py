"""All next hops and paths: who takes a job, what stays in RAM, what goes back to the backlog.

RAM. A fresh job stays while the pool that all share has room, or (a guarantee, so that a slow site
takes nothing from others) while its next hop has less than two windows of jobs in RAM. A part of
the pool is not for fresh mail while the backlog has older mail of its next hop, so that both get
their turns. A next hop whose path is closed keeps one window, and that only while the pool is less
than half full. What does not stay is released to the spool and fetched again when its turn comes:
see `Refill`.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from fastmta.budget.shape import Shape
from fastmta.message import Message, RecipientStatus
from fastmta.message.attempt import AttemptResult, Job

from .cursor import tail
from .due import TURN_S, WAKES_PER_TURN, DueTimes
from .engine import Engine
from .health import PathState
from .hop import Hop, HopState
from .path import Path
from .probe import may_answer, suspended, trouble_of
from .refill import Refill
from .residence import WINDOWS_GUARANTEED, Party, Residence, Resident
from .retry import NS
from .routing import Routing

if TYPE_CHECKING:
    from .lifecycle import Lifecycle

RECHECK_S = 2.0  # rows of a message that is still in RAM are visible by then
HOPS_KEPT = 20_000  # with a site that is known, though there is no mail
IDLE_SWEEPS_MAX = 20  # until a path that nobody uses is forgotten
# Looked at for each message; reading them off their classes every time costs more than that.
_OPEN = PathState.OPEN


class Table:
    """Next hops and paths of one worker. `lifecycle` is set once, by whoever constructs both."""

    __slots__ = ("_engine", "due", "hops", "lifecycle", "paths", "refiller", "residence", "routing")

    lifecycle: Lifecycle

    def __init__(self, engine: Engine) -> None:
        options = engine.options
        self._engine = engine
        self.hops: dict[bytes, Hop] = {}
        self.paths: dict[tuple[str, bytes], Path] = {}
        self.residence = Residence(options.ram_messages, options.ram_octets)
        self.due = DueTimes(engine.ports.clock, engine.ports.timers, self.wake)
        self.routing = Routing(engine, self)
        self.refiller = Refill(engine, self)

    def hop(self, next_hop: bytes) -> Hop:
        """The next hop of that name."""
        hop = self.hops.get(next_hop)
        if hop is None:
            hop = self.hops[next_hop] = Hop(next_hop, self._engine.backoff())
        return hop

    # Jobs in

    def offer(self, job: Job) -> bool:
        """Queue a fresh job, or start it. False: there is no room; release its message."""
        hop = self.hops.get(job.next_hop)
        if hop is None:
            hop = self.hop(job.next_hop)
        path = hop.path
        residence = self.residence
        if path is not None:
            is_open = (
                (path.is_proved or not path.hung)
                and path.health.state is _OPEN
                and path.gate.limits.pause is None
            )
        else:
            is_open = hop.state is not HopState.BACKING_OFF
        has_room = residence.has_room_to_spare if hop.is_behind else residence.has_room
        if not (is_open and has_room) and not self._may_stay(hop, job):
            return not is_open and self._answer_probe(hop, job)
        if self._engine.is_stopped:
            return False
        hop.held += 1
        residence.enter(job)
        if not is_open and self._answer_held(hop, job):
            return True
        if path is not None:
            path.offer(job)
        else:
            self.routing.wait(hop, job)
        return True

    def offer_fetched(self, job: Job) -> bool:
        """Queue a job from the backlog, for which room was reserved. Starts nothing."""
        hop = self.hop(job.next_hop)
        if self._answer_probe(hop, job):
            return True
        if self._engine.is_stopped or (self._is_closed(hop) and not self._may_stay(hop, job)):
            return False
        hop.held += 1
        self.residence.enter(job)
        if hop.path is not None:
            hop.path.put_back(job)
        else:
            self.routing.wait(hop, job)
        return True

    def put_back(self, job: Job) -> None:
        """A job in RAM waits again, because of its path; `attempted` starts the next one."""
        hop = self.hops[job.next_hop]
        job.started_at_s = 0.0
        if self.residence.is_claimed(job.message.id):
            self.left(job)
        elif self._answer_held(hop, job):
            return
        elif self._is_closed(hop) and not self._may_stay(hop, job, 0):
            self.drop(job)
        elif hop.path is not None:
            hop.path.put_back(job)
        else:
            self.routing.wait(hop, job)

    def _answer_probe(self, hop: Hop, job: Job) -> bool:
        """The same of a job that is not in RAM yet; whether it is then."""
        if trouble_of(hop) is None or not may_answer(self._engine, job):
            return False
        hop.held += 1
        self.residence.enter(job)
        return self._answer_held(hop, job)

    def _answer_held(self, hop: Hop, job: Job) -> bool:
        """Nobody is asked while a site is left alone: why it is answers a probe (see `probe`)."""
        cause = trouble_of(hop)
        if cause is None or not may_answer(self._engine, job):
            return False
        self.lifecycle.unroutable(job, suspended(cause))
        return True

    def _is_closed(self, hop: Hop) -> bool:
        if hop.path is not None:
            return not hop.path.is_open
        return hop.state is HopState.BACKING_OFF

    def _may_stay(self, hop: Hop, job: Job, more: int = 1) -> bool:
        """Whether `more` jobs like `job` are within what `hop`, or its tenant there, may keep
        without room in the pool."""
        path, slots = hop.path, self._engine.slots
        if (
            path is not None
            and slots.is_free
            and path.holdup is None
            and not path.ready
            and path.in_flight < path.health.limit
        ):
            return True  # it starts at once
        held = hop.held + more
        window_max = self._window_max(hop)
        if self._is_closed(hop):
            return held <= window_max and not self.residence.is_half_full
        if self.residence.is_overfull:
            return False
        if held <= WINDOWS_GUARANTEED * window_max:
            return True
        # Others fill it: this tenant has a window of its own, so that nobody crowds it out.
        return path is not None and path.gate.waiting_of(job) + more <= window_max

    def _window_max(self, hop: Hop) -> int:
        if hop.path is None:
            return self._engine.options.site.connections
        return hop.path.health.window.limit

    # Jobs out

    def left(self, job: Job) -> bool:
        """The outcomes of `job` are durable. True: nothing of its message is in RAM any more."""
        hop = self.hops[job.next_hop]
        hop.held -= 1
        if hop.reading.limit:
            hop.reading.left(job.message.id)
        return self.residence.leave(job)

    def replace(self, job: Job, rest: Job) -> None:
        """`rest`, more recipients of the same message and next hop, waits in place of `job`."""
        self.residence.replace(job, rest)
        self.put_back(rest)
        path = self.hops[rest.next_hop].path
        if path is not None:
            path.pump()

    def drop(self, job: Job) -> None:
        """Take a job that waits in no queue out of RAM; the backlog has it."""
        message = job.message
        if self.left(job):
            self.release(message)
        else:  # other jobs of the message are in RAM, so nothing says when its row can be read
            self.recheck(job.next_hop)

    def recheck(self, next_hop: bytes) -> None:
        """Look again soon for mail of this next hop, which is in RAM for another one."""
        hop = self.hop(next_hop)
        hop.reading.is_restart_due = True
        soon_ns = self._engine.ports.clock.wall_ns() + int(RECHECK_S * NS)
        self.due.note(hop, soon_ns, is_mail=False)

    def withdraw(self, job: Job) -> bool:
        """Take a job that waits out of its queue; False when it is under way."""
        hop = self.hops[job.next_hop]
        if job in hop.waiting:
            hop.waiting.remove(job)
            return True
        return hop.path is not None and hop.path.ready.remove(job)

    def take_out(self, resident: Resident) -> bool:
        """Take a message out of RAM, unless something of it is under way or somebody claims it."""
        if isinstance(resident, Job):
            jobs = [resident]
        elif resident.is_claimed:
            return False
        else:
            jobs = list(resident.jobs.values())
        withdrawn = [job for job in jobs if self.withdraw(job)]
        is_whole = len(withdrawn) == len(jobs)
        for job in withdrawn:
            if is_whole:
                self.left(job)
            else:
                self.put_back(job)
        return is_whole

    def release(self, message: Message) -> None:
        """Nothing of this message is in RAM: the spool keeps it, its next hops know of it."""
        ports = self._engine.ports
        ports.backlog.release(message)
        envelope = message.envelope
        for index, forward_path in enumerate(envelope.forward_paths):
            state = message.states.get(index)
            if state is None or state.status is RecipientStatus.QUEUED:
                hop = self.hop(ports.next_hop(forward_path, envelope))
                hop.reading.lower(tail(message.arrived_at_ns, message.id))
                self.flag(hop)
            elif state.status is RecipientStatus.DEFERRED:
                hop = self.hop(ports.next_hop(forward_path, envelope))
                hop.reading.lower(tail(state.due_at_ns, message.id))
                self.due.note(hop, state.due_at_ns)

    # The backlog

    def wake(self, hop: Hop) -> None:
        """A due time of `hop` has come."""
        if hop.reading.is_restart_due:
            hop.reading.is_restart_due = False
            hop.reading.lower(b"")
        self.flag(hop)

    def flag(self, hop: Hop) -> None:
        """The backlog has mail for `hop` that is due."""
        if hop.reading.limit:
            hop.is_behind = hop.reading.is_stale = True
            return
        if not hop.is_behind:
            hop.is_behind = True
            if not hop.held:
                hop.reading.cursor = b""  # nothing to skip: look at everything
        path = hop.path
        if path is not None:
            if hop not in path.behind:
                path.behind[hop] = None
                path.pump()
        elif hop.state is HopState.UNRESOLVED and self._engine.may_start:
            self.routing.resolve(hop)

    def resume(self) -> None:
        """A pause of everything is over: take up what waits, some in every turn of the loop."""
        now_ns = self._engine.ports.clock.wall_ns()
        for hop in self.hops.values():
            if hop.path is None and (hop.waiting or hop.is_behind):
                self.due.note(hop, now_ns)
        self._pump(list(self.paths.values()))

    def _pump(self, paths: list[Path]) -> None:
        for path in paths[:WAKES_PER_TURN]:
            path.pump()
        if rest := paths[WAKES_PER_TURN:]:
            self._engine.ports.timers.call_later(TURN_S, self._pump, rest)

    # What paths report: `path.Owner`

    def finished(self, job: Job, result: AttemptResult, is_own_trouble: bool) -> None:
        """An attempt ended."""
        self.lifecycle.finished(job, result, is_own_trouble)

    def refill(self, path: Path) -> None:
        """The path could take mail from the backlog of its hops."""
        self.refiller.refill(path)

    def refresh(self, next_hop: bytes) -> None:
        """What is known of the site of `next_hop` is too old."""
        self.routing.resolve(self.hops[next_hop])

    def closed(self, path: Path) -> None:
        """The path began a pause, or hangs: keep less of its mail in RAM."""
        for job in [job for job in path.ready if may_answer(self._engine, job)]:
            if trouble_of(self.hops[job.next_hop]) is not None and path.ready.remove(job):
                self._answer_held(self.hops[job.next_hop], job)
        keep = 0 if self.residence.is_half_full else path.health.window.limit
        for job in path.ready.keep_first(keep):
            self.drop(job)

    # Forgetting

    def shape(self, overrides: Sequence[Shape]) -> None:
        """Other shapes beside those of the configuration hold from now on."""
        engine = self._engine
        engine.shapes.replace(engine.options.shapes, overrides)
        # Places given up by one path are not for another that does not know the new limits yet.
        may_start, engine.may_start = engine.may_start, False
        try:
            for path in self.paths.values():
                path.shape()
        finally:
            engine.may_start = may_start
        self._pump(list(self.paths.values()))

    def reroute(self) -> None:
        """Nothing in RAM stays where it was routed to; every site is looked up again.

        All is claimed at once, so that nobody reads mail for its new next hop while an attempt for
        the old one is under way.
        """
        parties = [self.residence.claim(message) for message in self.residence.unclaimed()]
        self._give_back(parties)
        self._look_up([hop for hop in self.hops.values() if hop.path is not None])

    def _give_back(self, parties: list[Party]) -> None:
        for party in parties[:WAKES_PER_TURN]:
            for job in list(party.jobs.values()):
                if self.withdraw(job):
                    self.left(job)
            if party.jobs:
                party.on_alone = partial(self.lifecycle.let_go, party.message)
            else:
                self.lifecycle.let_go(party.message)
        if rest := parties[WAKES_PER_TURN:]:
            self._engine.ports.timers.call_later(TURN_S, self._give_back, rest)

    def _look_up(self, hops: list[Hop]) -> None:
        for hop in hops[:WAKES_PER_TURN]:
            if hop.path is not None and self.hops.get(hop.next_hop) is hop:
                self.routing.resolve(hop)
        if rest := hops[WAKES_PER_TURN:]:
            self._engine.ports.timers.call_later(TURN_S, self._look_up, rest)

    def sweep(self) -> None:
        """Forget next hops without mail whose look-up is too old, and paths long unused."""
        self._engine.meters.sweep()
        now_s = self._engine.ports.clock.monotonic_s()
        is_crowded = len(self.hops) > HOPS_KEPT
        for hop in [hop for hop in self.hops.values() if hop.is_idle]:
            if hop.path is None or is_crowded or now_s >= hop.path.expires_at_s:
                del self.hops[hop.next_hop]
                if hop.path is not None:
                    hop.path.hop_count -= 1
        for key, path in list(self.paths.items()):
            path.idle_sweeps += 1
            path.ready.forget_empty()
            if path.hop_count or path.in_flight or path.health.state is PathState.BACKING_OFF:
                path.idle_sweeps = 0
            elif path.idle_sweeps > IDLE_SWEEPS_MAX:
                path.gate.leave()
                del self.paths[key]
