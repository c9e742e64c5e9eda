"""Explanations as JSON has them; docs/control.md is the schema."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, TypeAlias

import msgspec

from fastmta.message import Message, Outcome
from fastmta.scheduler import Clock, Explanation
from fastmta.scheduler.explain import Explainer, PathView
from fastmta.scheduler.waiting import NEXT, Waiting

Result: TypeAlias = dict[str, Any]  # Any: what JSON knows
RECIPIENTS_TOLD = 20  # of one message
_NS = 1_000_000_000


def node(explanation: Explanation, clock: Clock) -> Result:
    """One explanation and all below it."""
    until = moment(explanation.until_s, clock)
    return {
        "about": explanation.about or "reason",
        "name": explanation.name,
        "waits_on": explanation.waiting.name.lower(),
        "text": explanation.waiting.value,
        "detail": explanation.detail,
        "next_attempt": until,
        "next_attempt_text": NEXT[explanation.waiting],
        "last_reply": reply(explanation.cause, explanation.reply),
        "facts": {**explanation.facts},
        "children": [node(child, clock) for child in explanation.children],
    }


def describe(view: PathView, clock: Clock) -> Result:
    """One line of a list of sites."""
    fields = msgspec.structs.asdict(view)
    del fields["order"], fields["why"]
    why = view.why
    return {
        **fields,
        "order": view.order,
        "waits_on": why.waiting.name.lower(),
        "text": why.waiting.value,
        "detail": why.detail,
        "next_attempt": moment(why.until_s, clock),
        "last_reply": reply(why.cause, ""),
    }


def moment(until_s: float, clock: Clock) -> float | None:
    """Unix time of a monotonic moment, as the queue counts it; None: nobody knows."""
    if not until_s:
        return None
    left_s = until_s - clock.monotonic_s()
    return round(clock.wall_ns() / _NS + left_s, 3)


def reasons_of(explain: Explainer, message: Message, clock: Clock) -> list[str]:
    """What a message waits for, as sentences that go on "it waits for": of the first recipients
    that are not final."""
    found: dict[str, None] = {}
    told = 0
    for index in range(len(message.envelope.forward_paths)):
        state = message.states.get(index)
        if state is not None and state.status.is_final:
            continue
        why = explain.recipient(message, index)
        others = (one for one in why.children if not one.about)
        found.update(dict.fromkeys(_sentence(one, clock) for one in (why, *others)))
        told += 1
        if told == RECIPIENTS_TOLD:
            break
    return list(found)


def _sentence(one: Explanation, clock: Clock) -> str:
    text = one.waiting.value + (f" ({one.detail})" if one.detail else "")
    until = moment(one.until_s, clock)
    if until is not None:
        text += f", until {datetime.fromtimestamp(until, UTC):%Y-%m-%d %H:%M:%S} UTC"
    if one.cause is not None and one.waiting is not Waiting.ATTEMPT:
        text += f": {one.cause.text}"
    return text


def reply(cause: Outcome | None, text: str) -> Result | None:
    """What was said last."""
    if cause is not None:
        remote = cause.remote if cause.remote != "none" else ""
        return {"status": cause.status, "remote": remote, "text": cause.text}
    return {"status": "", "remote": "", "text": text} if text else None
