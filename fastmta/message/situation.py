"""Where mail stands: its own states, and what whoever delivers knows beside them at one moment.

Every view of the queue has its words from here. The queues are Postfix's:

    hold      all recipients that are not final are on hold
    active    an attempt is under way, or it is in memory and goes as soon as its site lets it
    deferred  a recipient was tried and waits, or nothing goes to its next hop just now
    incoming  all other mail: accepted, and not looked at since

A recipient of a message that is not active counts as deferred, with the reason, while nothing goes
to its next hop, whether it was tried itself or not.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from typing import Final, NamedTuple

from .recipient import RecipientState, RecipientStatus

DEFERRED, INCOMING, HOLD, ACTIVE = range(4)
QUEUES: Final = ("deferred", "incoming", "hold", "active")
SUSPENDED: Final = "delivery temporarily suspended: "  # as Postfix begins a reason of that kind
_NEW, _LATE, _HELD = RecipientStatus.QUEUED, RecipientStatus.DEFERRED, RecipientStatus.HELD


class Trouble(NamedTuple):
    """Why nothing goes to a next hop."""

    text: str
    status: str = ""  # RFC 3463; empty: there is none

    @classmethod
    def of(cls, reason: str, status: str = "") -> Trouble:
        """`reason`, as Postfix would begin it."""
        return cls(reason if reason.startswith(SUSPENDED) else SUSPENDED + reason, status)


class Standing(NamedTuple):
    """What views say of a recipient."""

    status: RecipientStatus
    text: str
    code: str  # enhanced status of `text` where that has none itself


class Situation:
    """A picture: it does not change. `prepared` is for whoever wants it in another form."""

    __slots__ = ("active", "prepared", "suspended")

    def __init__(
        self, active: Set[bytes] = frozenset(), suspended: Mapping[bytes, Trouble] | None = None
    ) -> None:
        """`active`: ids of messages of that queue; `suspended`: next hops to which nothing goes."""
        self.active = active
        self.suspended: Mapping[bytes, Trouble] = {} if suspended is None else suspended
        self.prepared: object = None

    def __bool__(self) -> bool:
        """Whether it says anything."""
        return bool(self.active or self.suspended)

    def of(self, state: RecipientState | None, next_hop: bytes) -> Standing:
        """A recipient in that state (None: as it was accepted), of a message not active."""
        status, text = (_NEW, "") if state is None else (state.status, state.text)
        if status is not _NEW and (status is not _LATE or text):
            return Standing(status, text, "")
        trouble = self.suspended.get(next_hop)
        if trouble is None:
            return Standing(status, text, "")
        return Standing(_LATE, text, "") if text else Standing(_LATE, *trouble)


NOWHERE: Final = Situation()  # nobody delivers


def queue_of(is_active: bool, statuses: Iterable[RecipientStatus]) -> int:
    """The queue of a message; `statuses`: as `Situation.of` says, final ones do not matter."""
    if is_active:
        return ACTIVE
    queue = HOLD
    for status in statuses:
        if status is _LATE:
            return DEFERRED
        if status is _NEW:
            queue = INCOMING
    return queue
