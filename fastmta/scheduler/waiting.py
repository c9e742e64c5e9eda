"""Everything that mail can wait on, by name: what `explain` answers is made of these."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from typing import Final

import msgspec

from fastmta.budget.meter import Holdup
from fastmta.budget.shape import Shape
from fastmta.message import Outcome


class Waiting(enum.Enum):
    """What something waits on. The value goes on a sentence that begins "it waits for"."""

    NOTHING = "nothing: it starts as soon as there is mail"
    ATTEMPT = "an attempt that is under way, or the record of its outcome"
    EXPIRY = "the record of its expiry, or of an operator's decision"
    STOP = "the next start: the scheduler was stopped"
    PAUSE = "the end of a pause of all deliveries"
    PAUSED = "an operator to resume it"
    HOLD = "an operator to release it: it is on hold"
    LOOKUP = "the look-up of its next hop"
    LOOKUP_PAUSE = "another look-up of its next hop: the last one failed"
    SITE_PAUSE = "the end of a pause: the site could not be reached"
    PROBE = "the attempt that shows whether the site works again"
    RATE = "a rate"
    PLACE = "a connection under a limit that it shares"
    LEASE = "a lease of a limit that all workers share"
    SLOT = "a connection: this worker has as many as it may"
    WINDOW = "jobs in front of it: the window of the site is full"
    SHARE = "its turn among the tenants of the site"
    BACKLOG = "its turn to be read from the spool"
    DUE = "its due time"
    FINAL = "nothing more: it is done"


# When the next attempt comes, where nobody knows a time.
NEXT: Final = {
    Waiting.NOTHING: "as soon as there is mail",
    Waiting.ATTEMPT: "under way now",
    Waiting.EXPIRY: "none, if it is given up",
    Waiting.STOP: "after the next start",
    Waiting.PAUSE: "when the reason of the pause is gone",
    Waiting.PAUSED: "when it is resumed",
    Waiting.HOLD: "when it is released",
    Waiting.LOOKUP: "when the look-up is answered",
    Waiting.LOOKUP_PAUSE: "when a look-up is answered",
    Waiting.SITE_PAUSE: "when the pause is over",
    Waiting.PROBE: "when the probe succeeds",
    Waiting.RATE: "when the rate allows one more",
    Waiting.PLACE: "when a connection of those who share the limit ends",
    Waiting.LEASE: "when the broker grants it, within seconds",
    Waiting.SLOT: "when a connection of this worker ends",
    Waiting.WINDOW: "when an attempt at the site ends",
    Waiting.SHARE: "when its turn comes",
    Waiting.BACKLOG: "as soon as it has been read",
    Waiting.DUE: "at its due time",
    Waiting.FINAL: "none",
}
# Until somebody does something; whatever else it waits on matters less.
_ENDLESS: Final = frozenset({Waiting.STOP, Waiting.PAUSE, Waiting.PAUSED, Waiting.HOLD})
_KINDS: Final = {
    "rate": Waiting.RATE,
    "connections": Waiting.PLACE,
    "lease": Waiting.LEASE,
    "pause": Waiting.PAUSED,
}


class Explanation(msgspec.Struct, frozen=True):
    """One answer, and what it is made of.

    `until_s` is monotonic, 0 when no time is known: when the next attempt is likely. Of the
    children, some hold it up at the same time, others are what it is part of.
    """

    waiting: Waiting
    detail: str = ""
    until_s: float = 0.0
    cause: Outcome | None = None  # the last trouble
    about: str = ""  # message, recipient, next hop, site, tenant, limit; empty: a reason
    name: str = ""
    reply: str = ""  # the last one, of a recipient
    facts: dict[str, int | str] = {}
    children: tuple[Explanation, ...] = ()


class Constraint(msgspec.Struct, frozen=True):
    """One limit that was declared; `unreachable`: why it can never be the one that binds."""

    name: str
    text: str
    is_binding: bool = False
    unreachable: str = ""


def gather(
    about: str,
    name: str,
    reasons: Sequence[Explanation],
    *,
    detail: str = "",
    cause: Outcome | None = None,
    facts: dict[str, int | str] | None = None,
    parts: Sequence[Explanation] = (),
) -> Explanation:
    """One answer of several reasons that hold at the same time, all of which have to end.

    What needs somebody comes first, then what ends last, then the first of the others.
    """
    main = reasons[0] if reasons else Explanation(Waiting.NOTHING)
    endless = [one for one in reasons if one.waiting in _ENDLESS and not one.until_s]
    timed = [one for one in reasons if one.until_s]
    if endless:
        main = endless[0]
    elif timed:
        main = max(timed, key=lambda one: one.until_s)
    whole = "; ".join(part for part in (main.detail, detail) if part)
    others = tuple(one for one in reasons if one is not main)
    children = (*others, *parts)
    return Explanation(
        main.waiting,
        whole,
        main.until_s,
        main.cause or cause,
        about,
        name,
        main.reply,
        {} if facts is None else facts,
        children,
    )


def of_holdup(holdup: Holdup) -> Explanation:
    """Of a throttle or of places."""
    line = f", {holdup.waiting} in line" if holdup.waiting else ""
    until_s = 0.0 if holdup.until_s == float("inf") else holdup.until_s
    detail = f"{_short(holdup.name)}: {holdup.detail}{line}"
    return Explanation(_KINDS[holdup.kind], detail, until_s)


def _short(name: str) -> str:
    """The name of a counter, `shape(site=x)`, without values that the shape's name says already."""
    head, mark, values = name.partition("(")
    if not mark or not values.endswith(")"):
        return name
    said = {word.partition(":")[2] for word in head.split(" ")}
    left = [one for one in values[:-1].split(", ") if one.partition("=")[2] not in said]
    return f"{head}({', '.join(left)})" if left else head


def of_pause(shape: Shape, until_s: float) -> Explanation:
    """Of an operator's pause."""
    detail = f"{shape.name}, {shape.note}" if shape.note else shape.name
    return Explanation(Waiting.PAUSED, detail, until_s)
