"""The life of a message after 250: into jobs, through attempts, to the last final recipient.

Order, per attempt: outcomes are judged, a notification is made if recipients are given up, both are
recorded in one go, and only when that is durable do the events go out, does the notification enter
the queue as mail of its own, and is the message forgotten or put back.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, TypeAlias

from fastmta.event import (
    BounceQueued,
    Event,
    MessageActive,
    MessageExpired,
    MessageReceived,
    MessageRemoved,
    Notice,
    RecipientTried,
    Severity,
)
from fastmta.message import (
    Message,
    Outcome,
    OutcomeKind,
    RecipientState,
    RecipientStatus,
    Scope,
)
from fastmta.message.attempt import AttemptResult, Job

from .cursor import due_times
from .engine import Engine
from .hop import Hop
from .residence import Party
from .retry import NS
from .table import Table

TEXT_CHARACTERS_MAX = 500  # of `RecipientState.text`
_DELIVERED: Final = OutcomeKind.DELIVERED
_ONLY: Final = (0,)  # indices of the commonest job: the only recipient of its message
Then: TypeAlias = Callable[[Exception | None], None]
_DELIVERED_AT_ONCE: Final = (RecipientState(0, RecipientStatus.DELIVERED, 1),)


class Mark:
    """Outcomes on their way to the log, and what follows once they are durable."""

    __slots__ = ("_lifecycle", "dsn", "events", "job", "then")

    def __init__(
        self,
        lifecycle: Lifecycle,
        job: Job | None,
        events: Sequence[Event],
        dsn: Message | None,
        then: Then | None = None,
    ) -> None:
        self._lifecycle = lifecycle
        self.job = job  # None: the message is claimed, and this ends the claim
        self.events = events
        self.dsn = dsn
        self.then = then

    def done(self, message: Message, error: Exception | None) -> None:
        """`Record` is done."""
        self._lifecycle.recorded(self, message, error)


class Verdict:
    """What the outcomes of one attempt amount to."""

    __slots__ = ("changes", "events", "failures", "is_expired")

    def __init__(self) -> None:
        self.changes: list[RecipientState] = []
        self.events: list[Event] = []
        self.failures: list[tuple[int, Outcome]] = []
        self.is_expired = False


class Lifecycle:
    """Every recipient is accounted for: final and recorded, in RAM, or in the backlog."""

    __slots__ = ("_engine", "_is_halted", "_table")

    def __init__(self, engine: Engine, table: Table) -> None:
        self._engine = engine
        self._table = table
        self._is_halted = False

    # In

    def accepted(self, message: Message) -> None:
        """`message` is durable and new; called on the loop right after its 250 (or its mark)."""
        ports = self._engine.ports
        forward_paths = message.envelope.forward_paths
        self._emit_active(message)
        now_s = ports.clock.monotonic_s()
        if len(forward_paths) == 1:
            job = Job(message, ports.next_hop(forward_paths[0]), _ONLY, now_s)
            if not self._table.offer(job):
                self._table.release(message)
            return
        indices_of: dict[bytes, list[int]] = {}
        for index, forward_path in enumerate(forward_paths):
            indices_of.setdefault(ports.next_hop(forward_path), []).append(index)
        limit = self._engine.options.recipients_per_job
        jobs = [
            Job(message, next_hop, tuple(indices[:limit]), now_s)
            for next_hop, indices in indices_of.items()
        ]
        self._table.residence.keep(message)  # the first job may end before the last is offered
        refused = [job for job in jobs if not self._table.offer(job)]
        if self._table.residence.let_go(message):
            self._gone(message)
            return
        for job in refused:
            self._table.recheck(job.next_hop)

    def fetched(self, message: Message, hop: Hop, now_ns: int) -> None:
        """The backlog says that recipients of `hop` are due by `now_ns`."""
        resident = self._table.residence.find(message.id)
        if isinstance(resident, Party):
            if resident.is_claimed or hop.next_hop in resident.jobs:
                return
            message = resident.message
        elif resident is not None:
            if resident.next_hop == hop.next_hop:
                return
            message = resident.message
        indices = self._waiting(message, hop.next_hop, now_ns)
        is_queued = self.offer_waiting(message, hop.next_hop, indices)
        if not is_queued and resident is None:
            self._table.release(message)

    def offer_waiting(self, message: Message, next_hop: bytes, indices: Sequence[int]) -> bool:
        """Queue these recipients of a message from the backlog; False when there is no need."""
        if not indices:
            return False
        ports = self._engine.ports
        chosen = tuple(indices[: self._engine.options.recipients_per_job])
        job = Job(message, next_hop, chosen, ports.clock.monotonic_s())
        is_new = self._table.residence.find(message.id) is None
        if not self._table.offer_fetched(job):
            return False
        if is_new:
            self._emit_active(message)
        return True

    def _emit_active(self, message: Message) -> None:
        envelope = message.envelope
        count = len(envelope.forward_paths)
        self._engine.ports.emit(
            MessageActive(message.id, envelope.reverse_path, message.size_octets, count)
        )

    def _waiting(self, message: Message, next_hop: bytes, now_ns: int) -> list[int]:
        """Recipients of this next hop that are neither final, nor held, nor due later."""
        times = due_times(message, next_hop, self._engine.ports.next_hop)
        return [index for index, due_at_ns in times if due_at_ns <= now_ns]

    # Outcomes

    def finished(self, job: Job, result: AttemptResult, is_own_trouble: bool = False) -> None:
        """An attempt ended: record what it decided; what its path prevented waits again.

        Recipients that site trouble left without an outcome of their own (deferred, scope HOST or
        wider, in a result with `trouble`) keep their state: no attempt is burnt, nothing is
        recorded. `is_own_trouble`: the message is to blame, so this attempt counts.
        """
        outcomes = result.outcomes
        if len(outcomes) != len(job.indices):
            raise ValueError("an attempt has one outcome for each recipient of its job")
        if len(outcomes) == 1 and outcomes[0].kind is _DELIVERED:
            event = self._event(job, result, job.indices[0], outcomes[0])
            message = job.message
            if not message.states and job.indices is _ONLY:
                changes = _DELIVERED_AT_ONCE
            else:
                changes = (self._delivered(message, job.indices[0]),)
            self._engine.marks += 1
            mark = Mark(self, job, (event,), None)
            self._engine.ports.record.record(message, changes, mark.done)
            return
        is_free = result.trouble is not None and not is_own_trouble
        verdict = self._judge(job, result, is_free)
        if verdict.changes:
            self._record(job.message, job, verdict)
            return
        for event in verdict.events:
            self._engine.ports.emit(event)
        self._end_doubt(job)
        self._table.put_back(job)

    def unroutable(self, job: Job, outcome: Outcome) -> None:
        """`job` has no path: its recipients failed, or (deferred) it waits with its next hop."""
        trouble = outcome if outcome.kind is OutcomeKind.DEFERRED else None
        job.started_at_s = self._engine.ports.clock.monotonic_s()
        self.finished(job, AttemptResult((outcome,) * len(job.indices), trouble))

    def _delivered(self, message: Message, index: int) -> RecipientState:
        return RecipientState(index, RecipientStatus.DELIVERED, message.attempts_of(index) + 1)

    def _judge(self, job: Job, result: AttemptResult, is_free: bool) -> Verdict:
        """What to record; `is_free`: outcomes of HOST scope or wider are the path's trouble."""
        ports, retry = self._engine.ports, self._engine.options.retry
        message = job.message
        now_ns = ports.clock.wall_ns()
        is_over = now_ns >= retry.expires_at_ns(message) and not self._engine.is_expiry_frozen
        random = ports.random()  # one for all: who was deferred together comes back together
        verdict = Verdict()
        for index, outcome in zip(job.indices, result.outcomes, strict=True):
            verdict.events.append(self._event(job, result, index, outcome))
            attempts = message.attempts_of(index) + 1
            text = outcome.text[:TEXT_CHARACTERS_MAX]
            due_at_ns = 0
            if outcome.kind is OutcomeKind.DELIVERED:
                verdict.changes.append(self._delivered(message, index))
                continue
            if outcome.kind is OutcomeKind.FAILED:
                status = RecipientStatus.FAILED
                verdict.failures.append((index, outcome))
            elif outcome.kind is not OutcomeKind.DEFERRED:
                raise ValueError(f"no attempt ends with {outcome.kind}")
            elif is_free and outcome.scope >= Scope.HOST:
                continue
            elif is_over:
                status = RecipientStatus.EXPIRED
                expired = Outcome(
                    OutcomeKind.EXPIRED,
                    outcome.status,
                    outcome.text,
                    outcome.scope,
                    outcome.remote,
                    outcome.diagnostic,
                )
                verdict.failures.append((index, expired))
                verdict.is_expired = True
            else:
                status = RecipientStatus.DEFERRED
                due_at_ns = now_ns + int(retry.delay_s(attempts, random) * NS)
            verdict.changes.append(RecipientState(index, status, attempts, due_at_ns, text))
        return verdict

    def _event(self, job: Job, result: AttemptResult, index: int, outcome: Outcome) -> Event:
        clock = self._engine.ports.clock
        message = job.message
        now_s = clock.monotonic_s()
        age_s = (clock.wall_ns() - message.arrived_at_ns) * 1e-9
        before_s = age_s - (now_s - job.entered_at_s)
        return RecipientTried(
            message.id,
            message.envelope.forward_paths[index],
            outcome.remote,
            (
                before_s if before_s > 0.0 else 0.0,
                job.started_at_s - job.entered_at_s,
                result.connect_s,
                result.transmit_s,
            ),
            outcome.status,
            outcome.kind.value,
            outcome.text,
            result.connection_use,
        )

    def expire(self, message: Message, indices: Sequence[int]) -> None:
        """Give up these recipients of a message of which nothing is in RAM."""
        self._table.residence.claim(message)
        self.give_up(message, indices, (), None)

    def give_up(
        self,
        message: Message,
        indices: Sequence[int],
        events: Sequence[Event],
        then: Then | None,
    ) -> None:
        """The same for a claimed message; `events` go out with the others, then comes `then`."""
        verdict = Verdict()
        verdict.events.extend(events)
        verdict.is_expired = True
        for index in indices:
            state = message.states.get(index)
            text = state.text if state is not None and state.text else "delivery time expired"
            attempts = 0 if state is None else state.attempts
            outcome = Outcome(OutcomeKind.EXPIRED, "4.4.7", text)
            verdict.failures.append((index, outcome))
            verdict.changes.append(
                RecipientState(index, RecipientStatus.EXPIRED, attempts, 0, text)
            )
        self._record(message, None, verdict, then)

    def decide(
        self,
        message: Message,
        changes: Sequence[RecipientState],
        events: Sequence[Event],
        then: Then,
    ) -> None:
        """Record what an operator decided about a claimed message; it is let go, then `then`."""
        self._engine.marks += 1
        mark = Mark(self, None, events, None, then)
        self._engine.ports.record.record(message, changes, mark.done)

    def let_go(self, message: Message) -> None:
        """End the claim on a message: it is gone, or the backlog has it."""
        self._table.residence.let_go(message)
        self._gone(message)

    # Marks

    def _record(
        self, message: Message, job: Job | None, verdict: Verdict, then: Then | None = None
    ) -> None:
        dsn = None
        events = verdict.events
        if verdict.is_expired:
            events.append(MessageExpired(message.id, message.envelope.reverse_path))
        if verdict.failures:
            dsn = self._engine.ports.notify.bounce(message, verdict.failures)
            if dsn is not None:
                events.append(MessageReceived(dsn.id, "", dsn.message_id_field))
                events.append(BounceQueued(message.id, dsn.id))
            elif not message.envelope.reverse_path:
                text = "undeliverable bounce dropped: it has no sender to tell"
                events.append(Notice("bounce", text, Severity.INFO, message.id))
        self._engine.marks += 1
        mark = Mark(self, job, events, dsn, then)
        self._engine.ports.record.record(message, verdict.changes, mark.done, dsn)

    def recorded(self, mark: Mark, message: Message, error: Exception | None) -> None:
        """Outcomes are durable, or (error) will never be."""
        self._engine.marks -= 1
        if error is not None:
            self._halt(message, error)
            if mark.then is not None:
                mark.then(error)
            return
        emit = self._engine.ports.emit
        for event in mark.events:
            emit(event)
        job = mark.job
        if job is not None:
            self._end_doubt(job)
        if job is None:
            self.let_go(message)
            if mark.then is not None:
                mark.then(None)
        elif (message.pending == 0 or not self._continues(job)) and self._table.left(job):
            self._gone(message)
        if mark.dsn is not None:
            self.accepted(mark.dsn)
        if self._engine.is_stopped:
            self._engine.come_to_rest()

    def _end_doubt(self, job: Job) -> None:
        """What came of the attempt is known, and safe. A job without one has no slot."""
        if job.slot >= 0:
            self._engine.ports.doubt.end(job.slot)
            job.slot = -1

    def _continues(self, job: Job) -> bool:
        """Whether recipients of this job's next hop can be tried now; then they are queued."""
        message = job.message
        if len(message.envelope.forward_paths) == 1:
            return False
        ports = self._engine.ports
        indices = self._waiting(message, job.next_hop, ports.clock.wall_ns())
        if not indices:
            return False
        chosen = tuple(indices[: self._engine.options.recipients_per_job])
        rest = Job(message, job.next_hop, chosen, job.entered_at_s)
        self._table.replace(job, rest)
        return True

    def _gone(self, message: Message) -> None:
        """Nothing of `message` is in RAM any more."""
        if message.pending == 0:
            self._engine.ports.emit(MessageRemoved(message.id))
        else:
            self._table.release(message)

    def _halt(self, message: Message, error: Exception) -> None:
        ports = self._engine.ports
        self._engine.halt()
        if self._is_halted:
            return
        self._is_halted = True
        text = f"outcomes cannot be recorded, deliveries stop: {error}"
        ports.emit(Notice("qmgr", text, Severity.FATAL, message.id))
        ports.on_halt(text)
