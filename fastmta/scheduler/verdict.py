"""What the outcomes of one attempt amount to, recipient by recipient.

outcome    recipient becomes   and
DELIVERED  DELIVERED           a sender who asked for it hears of it, if nobody else reports
FAILED     FAILED              is in the notification
HELD       HELD                no attempt is counted, nobody is told
DEFERRED   DEFERRED            is due later
DEFERRED   EXPIRED             past the lifetime: is in the notification
DEFERRED   as before           the path's trouble: nothing is recorded

Of a probe see `probe`.
"""

from __future__ import annotations

from typing import Final

import msgspec

from fastmta.event import Event, RecipientTried
from fastmta.event.hold import RecipientHeld
from fastmta.message import (
    Message,
    Outcome,
    OutcomeKind,
    RecipientState,
    RecipientStatus,
    Scope,
)
from fastmta.message.attempt import AttemptResult, Job

from .engine import Engine
from .retry import NS

TEXT_CHARACTERS_MAX = 500  # of `RecipientState.text`
SMTP = b"smtp:"  # what the commonest next hops begin with
_LMTP = b"lmtp:"
_S: Final = SMTP[0]  # no other transport begins with it


class Verdict:
    """What to record, what to tell, and whom."""

    __slots__ = ("changes", "events", "failures", "is_expired", "successes")

    def __init__(self) -> None:
        self.changes: list[RecipientState] = []
        self.events: list[Event] = []
        self.failures: list[tuple[int, Outcome]] = []
        self.successes: list[tuple[int, Outcome]] = []  # that nobody else will report
        self.is_expired = False


def judge(engine: Engine, job: Job, result: AttemptResult, is_free: bool) -> Verdict:
    """What to record; `is_free`: outcomes of HOST scope or wider are the path's trouble."""
    verdict = Verdict()
    retry, random = engine.retry_of(job.message), engine.ports.random()
    now_ns = engine.ports.clock.wall_ns()
    is_over = now_ns >= retry.expires_at_ns(job.message) and not engine.is_expiry_frozen
    message = job.message
    for index, outcome in zip(job.indices, result.outcomes, strict=True):
        kind = outcome.kind
        if kind is OutcomeKind.HELD:
            _hold(verdict, message, index, outcome)
            continue
        event = tried(engine, job, result, index, outcome)
        verdict.events.append(event)
        if kind is OutcomeKind.DELIVERED:
            verdict.changes.append(delivered(message, index))
            if message.envelope.dsn is not None:
                _note_success(verdict, job, index, outcome)
            continue
        due_at_ns = 0
        attempts = message.attempts_of(index) + 1
        if kind is OutcomeKind.FAILED:
            status = RecipientStatus.FAILED
            verdict.failures.append((index, outcome))
        elif kind is not OutcomeKind.DEFERRED:
            raise ValueError(f"no attempt ends with {kind}")
        elif is_free and outcome.scope >= Scope.HOST:
            continue
        elif is_over:
            status = RecipientStatus.EXPIRED
            verdict.failures.append((index, _expired(outcome)))
            verdict.is_expired = True
        else:  # one random number for all: who was deferred together comes back together
            status = RecipientStatus.DEFERRED
            due_at_ns = now_ns + int(retry.delay_s(attempts, random) * NS)
            verdict.events[-1] = msgspec.structs.replace(event, due_at_ns=due_at_ns)
        text = outcome.text[:TEXT_CHARACTERS_MAX]
        is_warned = _is_warned(message, index)
        verdict.changes.append(RecipientState(index, status, attempts, due_at_ns, text, is_warned))
    return verdict


def put_off(engine: Engine, message: Message, verdict: Verdict) -> None:
    """Whoever was to be given up is deferred instead."""
    retry, random = engine.retry_of(message), engine.ports.random()
    now_ns = engine.ports.clock.wall_ns()
    given_up = {index for index, _ in verdict.failures}
    for place, change in enumerate(verdict.changes):
        if change.index in given_up:
            due_at_ns = now_ns + int(retry.delay_s(change.attempts, random) * NS)
            verdict.changes[place] = RecipientState(
                change.index,
                RecipientStatus.DEFERRED,
                change.attempts,
                due_at_ns,
                change.text,
                change.is_warned,
            )


def delivered(message: Message, index: int) -> RecipientState:
    """The state of a recipient that has the message."""
    state = message.states.get(index)
    if state is None:
        return RecipientState(index, RecipientStatus.DELIVERED, 1)
    status = RecipientStatus.DELIVERED
    return RecipientState(index, status, state.attempts + 1, 0, "", state.is_warned)


def tried(
    engine: Engine, job: Job, result: AttemptResult, index: int, outcome: Outcome
) -> RecipientTried:
    """The fact that the attempt ended like that for recipient `index`."""
    clock = engine.ports.clock
    message = job.message
    now_s = clock.monotonic_s()
    age_s = (clock.wall_ns() - message.arrived_at_ns) * 1e-9
    before_s = age_s - (now_s - job.entered_at_s)
    next_hop = job.next_hop  # never empty
    envelope = message.envelope
    event = RecipientTried(
        message.id,
        envelope.forward_paths[index],
        outcome.remote,
        (
            before_s if before_s > 0.0 else 0.0,
            job.started_at_s - job.entered_at_s,
            result.connect_s,
            result.transmit_s,
        ),
        outcome.status,
        outcome.kind._value_,  # `value` is a descriptor in Python, which shows here
        outcome.text,
        result.connection_use,
        "smtp" if next_hop[0] == _S else _transport(next_hop),
        outcome.category,
        next_hop,
        outcome.diagnostic,
        envelope.reverse_path,
        message.attempts_of(index) + 1 if message.states else 1,
    )
    if envelope.original_paths:
        original_path = envelope.original_path_of(index)
        event = msgspec.structs.replace(event, original_path=original_path)
    return event


def _hold(verdict: Verdict, message: Message, index: int, outcome: Outcome) -> None:
    text = outcome.text[:TEXT_CHARACTERS_MAX]
    attempts, is_warned = message.attempts_of(index), _is_warned(message, index)
    verdict.changes.append(
        RecipientState(index, RecipientStatus.HELD, attempts, 0, text, is_warned)
    )
    envelope = message.envelope
    forward_path = envelope.forward_paths[index]
    verdict.events.append(
        RecipientHeld(message.id, envelope.reverse_path, forward_path, text, outcome.category)
    )


def _expired(outcome: Outcome) -> Outcome:
    return Outcome(
        OutcomeKind.EXPIRED,
        outcome.status,
        outcome.text,
        outcome.scope,
        outcome.remote,
        outcome.diagnostic,
        outcome.category,
    )


def _is_warned(message: Message, index: int) -> bool:
    state = message.states.get(index)
    return state is not None and state.is_warned


def _note_success(verdict: Verdict, job: Job, index: int, outcome: Outcome) -> None:
    """Note a success that nobody reports if we do not (RFC 3461 5.2).

    We are the last to have the message, or the next one knows no DSN. An SMTP or LMTP peer that
    does was told what the sender wants, and answers for it. What an LMTP server takes without
    knowing DSN is delivered, not relayed: it is the last one (RFC 2033 1).
    """
    if job.next_hop.startswith(SMTP):
        if outcome.is_relayed:
            verdict.successes.append((index, outcome))
    elif outcome.is_relayed or not job.next_hop.startswith(_LMTP):
        final = Outcome(
            outcome.kind,
            outcome.status,
            outcome.text,
            outcome.scope,
            outcome.remote,
            outcome.diagnostic,
            outcome.category,
        )
        verdict.successes.append((index, final))


def _transport(next_hop: bytes) -> str:
    return next_hop.partition(b":")[0].decode("ascii", "replace")
