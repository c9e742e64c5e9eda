"""The life of a message after 250: into jobs, through attempts, to the last final recipient.

Order, per attempt: outcomes are judged, a notification is made if recipients are given up, both are
recorded in one go, and only when that is durable do the events go out, does the notification enter
the queue as mail of its own, and is the message forgotten or put back.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Final, TypeAlias

from fastmta.event import (
    BounceQueued,
    Event,
    MessageActive,
    MessageExpired,
    MessageReceived,
    MessageRemoved,
    Notice,
    Severity,
)
from fastmta.message import Message, Outcome, OutcomeKind, RecipientState, RecipientStatus
from fastmta.message.attempt import AttemptResult, Job
from fastmta.message.report import Report

from .cursor import due_times
from .engine import Engine
from .hop import Hop
from .probe import Findings, give_up_probe, judge_probe
from .residence import Party
from .retold import retold
from .table import Table
from .verdict import Verdict, delivered, judge, put_off, tried

_DELIVERED: Final = OutcomeKind.DELIVERED
_ONLY: Final = (0,)  # indices of the commonest job: the only recipient of its message
Then: TypeAlias = Callable[[Exception | None], None]
_DELIVERED_AT_ONCE: Final = (RecipientState(0, RecipientStatus.DELIVERED, 1),)


class Mark:
    """Outcomes on their way to the log, and what follows once they are durable."""

    __slots__ = ("dsn", "events", "job", "then")

    def __init__(
        self,
        job: Job | None,
        events: Sequence[Event],
        dsn: Message | None,
        then: Then | None = None,
    ) -> None:
        self.job = job  # None: the message is claimed, and this ends the claim
        self.events = events
        self.dsn = dsn
        self.then = then


class Lifecycle:
    """Every recipient is accounted for: final and recorded, in RAM, or in the backlog."""

    __slots__ = ("_engine", "_findings", "_is_halted", "_table")

    def __init__(self, engine: Engine, table: Table) -> None:
        self._engine = engine
        self._table = table
        self._is_halted = False
        self._findings = Findings()

    # In

    def accepted(self, message: Message) -> None:
        """`message` is durable and new; called on the loop right after its 250 (or its mark)."""
        ports = self._engine.ports
        envelope = message.envelope
        forward_paths = envelope.forward_paths
        count = len(forward_paths)
        ports.emit(MessageActive(message.id, envelope.reverse_path, message.size_octets, count))
        now_s = ports.clock.monotonic_s()
        if count == 1:
            job = Job(message, ports.next_hop(forward_paths[0], envelope), _ONLY, now_s)
            if not self._table.offer(job):
                self._table.release(message)
            return
        indices_of: dict[bytes, list[int]] = {}
        for index, forward_path in enumerate(forward_paths):
            indices_of.setdefault(ports.next_hop(forward_path, envelope), []).append(index)
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

    def reserve(self, message: Message) -> None:
        """Nothing of `message`, which is about to become durable, starts before `begin`."""
        self._table.residence.claim(message)

    def begin(self, message: Message) -> None:
        """`message` is durable, and no longer reserved: as `accepted`."""
        self._table.residence.let_go(message)
        self.accepted(message)

    def forget(self, message: Message) -> None:
        """`message` did not become durable after all."""
        self._table.residence.let_go(message)

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
            envelope, size_octets = message.envelope, message.size_octets
            count = len(envelope.forward_paths)
            ports.emit(MessageActive(message.id, envelope.reverse_path, size_octets, count))
        return True

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
        message = job.message
        if (
            len(outcomes) == 1
            and outcomes[0].kind is _DELIVERED
            and message.envelope.dsn is None  # nobody wants to hear of it
            and not message.envelope.is_probe
        ):
            engine, index = self._engine, job.indices[0]
            mark = Mark(job, (tried(engine, job, result, index, outcomes[0]),), None)
            if not message.states and job.indices is _ONLY:
                changes = _DELIVERED_AT_ONCE
            else:
                changes = (delivered(message, index),)
            engine.marks += 1
            engine.ports.record.record(message, changes, partial(self.recorded, mark))
            return
        is_free = result.trouble is not None and not is_own_trouble
        if message.envelope.is_probe:
            verdict = judge_probe(self._engine, job, result)
        else:
            verdict = judge(self._engine, job, result, is_free)
        if verdict.changes:
            self._record(message, job, verdict)
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
            outcome = retold(OutcomeKind.EXPIRED, text, "4.4.7")
            verdict.failures.append((index, outcome))
            verdict.changes.append(
                RecipientState(index, RecipientStatus.EXPIRED, attempts, 0, text)
            )
        if message.envelope.is_probe:
            give_up_probe(message, verdict)
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
        mark = Mark(None, events, None, then)
        self._engine.ports.record.record(message, changes, partial(self.recorded, mark))

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
        if verdict.failures or verdict.successes:
            dsn = self._report(message, verdict)
        if message.envelope.is_probe:
            self._findings.post(message, verdict.changes)
        self._engine.marks += 1
        mark = Mark(job, events, dsn, then)
        done = partial(self.recorded, mark)
        self._engine.ports.record.record(message, verdict.changes, done, dsn)

    def _report(self, message: Message, verdict: Verdict) -> Report | None:
        """The notification that `verdict` calls for; its events are added to the others.

        When none can be made, by a defect of ours, nobody is given up without a word: who failed
        waits for another attempt. Who has the mail has it.
        """
        notify, failures, successes = self._engine.ports.notify, verdict.failures, verdict.successes
        if message.envelope.is_probe:
            others = self._findings.of_others(message, [change.index for change in verdict.changes])
            if others is None:
                return None  # the report is of all
            successes = [*successes, *others]
        try:
            copy = notify.copy(message, failures) if failures else None
            dsn = notify.bounce(message, failures, successes)
        except Exception as error:
            self._blame_report(message, error)
            put_off(self._engine, message, verdict)
            return None
        self.store(copy, message.id)
        if dsn is not None:
            verdict.events += _queued(message, dsn)
        elif (failures or message.envelope.is_probe) and not message.envelope.reverse_path:
            what = "report of a probe" if message.envelope.is_probe else "undeliverable bounce"
            text = f"{what} dropped: it has no sender to tell"
            verdict.events.append(Notice("bounce", text, Severity.INFO, message.id))
        return dsn

    def warn(self, message: Message, delayed: Sequence[tuple[int, Outcome]]) -> None:
        """Tell the sender of a message of which nothing is in RAM that it is late: once, durably.

        Who wants no such word is noted as told, so that nobody looks at the message again.
        """
        self._table.residence.claim(message)
        ports = self._engine.ports
        until_ns = self._engine.retry_of(message).expires_at_ns(message)
        try:
            copy = ports.notify.copy(message, delayed, until_ns)
            dsn = ports.notify.delay(message, delayed, until_ns)
        except Exception as error:
            copy = dsn = None
            self._blame_report(message, error)
        self.store(copy, message.id)
        events = [] if dsn is None else _queued(message, dsn)
        index = delayed[0][0]
        known = message.states.get(index) or RecipientState(index, RecipientStatus.QUEUED)
        change = RecipientState(
            index, known.status, known.attempts, known.due_at_ns, known.text, True
        )
        self._engine.marks += 1
        mark = Mark(None, events, dsn)
        ports.record.record(message, (change,), partial(self.recorded, mark), dsn)

    def _blame_report(self, message: Message, error: Exception) -> None:
        text = f"internal error: a report cannot be made: {error!r}"
        self._engine.ports.emit(Notice("bounce", text, Severity.ERROR, message.id))

    def store(self, report: Report | None, about: bytes = b"") -> None:
        """Make a report of our own durable, before what is recorded after this, and deliver it.

        None is a no-op. `about` is the message that it is about, if it is about one.
        """
        if report is None:
            return
        self._engine.marks += 1
        self._engine.ports.record.accept(report, partial(self._stored, about, report.kind))

    def _stored(self, about: bytes, kind: str, report: Message, error: Exception | None) -> None:
        self._engine.marks -= 1
        emit = self._engine.ports.emit
        if error is not None:
            text = f"{kind} not stored: {error}"
            emit(Notice("bounce", text, Severity.WARNING, about))
        else:
            emit(MessageReceived(report.id, "", report.message_id_field))
            if about:
                emit(BounceQueued(about, report.id, kind))
            self.accepted(report)
        if self._engine.is_stopped:
            self._engine.come_to_rest()

    def recorded(self, mark: Mark, message: Message, error: Exception | None) -> None:
        """Outcomes are durable, or (error) will never be."""
        self._engine.marks -= 1
        if self._findings:
            self._findings.recorded(message)
        if error is not None:
            self._halt(message, error)
            if mark.then is not None:
                mark.then(error)
            return
        emit = self._engine.ports.emit
        for event in mark.events:
            emit(event)
        job = mark.job
        if job is None:
            self.let_go(message)
            if mark.then is not None:
                mark.then(None)
        else:
            self._end_doubt(job)
            if (message.pending == 0 or not self._continues(job)) and self._table.left(job):
                self._gone(message)
        if mark.dsn is not None:
            self.accepted(mark.dsn)
        if self._engine.is_stopped:
            self._engine.come_to_rest()

    def _end_doubt(self, job: Job) -> None:
        """What came of the attempt is known, and safe. A job without one has no slot."""
        slot = job.slot
        if slot >= 0:
            self._engine.ports.doubt.end(slot)
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


def _queued(message: Message, dsn: Report) -> list[Event]:
    return [
        MessageReceived(dsn.id, "", dsn.message_id_field),
        BounceQueued(message.id, dsn.id, dsn.kind),
    ]
