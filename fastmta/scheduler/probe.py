"""Probes: messages whose recipients are only asked about, each once (`sendmail -bv`).

Whatever an attempt says of a recipient is final, a refusal for now as well. What was found out is
recorded like any outcome, in the text of the state (`message.finding`); the one report comes with
the record that makes the last recipient final, and says what became of all. An attempt that a stop
of ours broke off says nothing: the next start asks again, and a crash may ask twice. While a site
is left alone after trouble, that trouble is the answer: mail waits for it, a question does not.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from fastmta.message import Message, Outcome, OutcomeKind, RecipientState, RecipientStatus
from fastmta.message.attempt import AttemptResult, Job
from fastmta.message.finding import finding_of, finding_text

from .engine import Engine
from .health import PathState
from .hop import Hop, HopState
from .verdict import Verdict, tried

Facts = Sequence[tuple[int, Outcome]]
_DELIVERABLE = OutcomeKind.DELIVERABLE
_TAKEN = (_DELIVERABLE, OutcomeKind.DELIVERED)
_UNDELIVERABLE = OutcomeKind.UNDELIVERABLE


def judge_probe(engine: Engine, job: Job, result: AttemptResult) -> Verdict:
    """What to record of an attempt at a probe."""
    verdict = Verdict()
    message = job.message
    is_broken_off = engine.is_stopped and result.trouble is not None
    for index, outcome in zip(job.indices, result.outcomes, strict=True):
        if outcome.kind is OutcomeKind.DEFERRED and is_broken_off:
            continue
        is_taken = outcome.kind in _TAKEN
        kind = _DELIVERABLE if is_taken else _UNDELIVERABLE
        outcome = msgspec.structs.replace(outcome, kind=kind)
        verdict.events.append(tried(engine, job, result, index, outcome))
        found = verdict.successes if is_taken else verdict.failures
        found.append((index, outcome))
        verdict.changes.append(_state(message, index, outcome, message.attempts_of(index) + 1))
    return verdict


def give_up_probe(message: Message, verdict: Verdict) -> None:
    """`verdict` gives up recipients that nobody could be asked about."""
    verdict.failures[:] = [
        (index, msgspec.structs.replace(outcome, kind=_UNDELIVERABLE))
        for index, outcome in verdict.failures
    ]
    verdict.changes[:] = [
        msgspec.structs.replace(change, text=finding_text(outcome))
        for change, (_, outcome) in zip(verdict.changes, verdict.failures, strict=True)
    ]


def _state(message: Message, index: int, outcome: Outcome, attempts: int) -> RecipientState:
    is_taken = outcome.kind is _DELIVERABLE
    status = RecipientStatus.DELIVERED if is_taken else RecipientStatus.FAILED
    known = message.states.get(index)
    is_warned = known is not None and known.is_warned
    return RecipientState(index, status, attempts, 0, finding_text(outcome), is_warned)


def trouble_of(hop: Hop) -> Outcome | None:
    """Why mail of `hop` is not tried just now; None: it is, or an operator keeps it from that."""
    if hop.path is None:
        return hop.cause if hop.state is HopState.BACKING_OFF else None
    health = hop.path.health
    return None if health.state is PathState.OPEN else health.cause


def may_answer(engine: Engine, job: Job) -> bool:
    """Whether trouble of the site is an answer for `job`, of which nothing is under way."""
    return job.message.envelope.is_probe and engine.may_start


def suspended(cause: Outcome) -> Outcome:
    """The answer: nobody was asked, because of `cause`."""
    text = f"delivery temporarily suspended: {cause.text}"
    return Outcome(OutcomeKind.DEFERRED, cause.status, text, cause.scope, category=cause.category)


class Findings:
    """What is on its way to the log about probes, so that the last record knows it is the last."""

    __slots__ = ("_posted",)

    def __init__(self) -> None:
        self._posted: dict[bytes, dict[int, RecipientState]] = {}  # by id and recipient

    def __bool__(self) -> bool:
        return bool(self._posted)

    def post(self, message: Message, changes: Iterable[RecipientState]) -> None:
        """These are about to be recorded; `recorded` follows."""
        finals = {change.index: change for change in changes if change.status.is_final}
        self._posted.setdefault(message.id, {}).update(finals)

    def recorded(self, message: Message) -> None:
        """A record about `message` is durable, or will never be: it counts by its states."""
        posted = self._posted.pop(message.id, None)
        if posted is None:
            return
        left = {index: state for index, state in posted.items() if not message.is_final(index)}
        if left:
            self._posted[message.id] = left

    def of_others(self, message: Message, indices: Iterable[int]) -> Facts | None:
        """What is known of all recipients but these; None: not of each of them."""
        posted = self._posted.get(message.id, {})
        others = set(range(len(message.envelope.forward_paths))).difference(indices)
        facts = []
        for index in sorted(others):
            state = message.states.get(index)
            if state is None or not state.status.is_final:
                state = posted.get(index)
            if state is None:
                return None
            if state.status is not RecipientStatus.DELETED:
                facts.append((index, finding_of(state)))
        return facts
