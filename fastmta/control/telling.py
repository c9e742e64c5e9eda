"""Explanations as JSON has them; docs/control.md is the schema."""

from __future__ import annotations

from typing import Any, TypeAlias

import msgspec

from fastmta.message import Outcome
from fastmta.scheduler import Clock, Explanation
from fastmta.scheduler.explain import PathView
from fastmta.scheduler.waiting import NEXT

Result: TypeAlias = dict[str, Any]  # Any: what JSON knows
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


def reply(cause: Outcome | None, text: str) -> Result | None:
    """What was said last."""
    if cause is not None:
        remote = cause.remote if cause.remote != "none" else ""
        return {"status": cause.status, "remote": remote, "text": cause.text}
    return {"status": "", "remote": "", "text": text} if text else None
