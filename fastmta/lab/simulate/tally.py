"""What happened, counted while it happens: by kind of receiver, and by tenant."""

from __future__ import annotations

from array import array
from collections import Counter

from fastmta.message import RecipientState, RecipientStatus

from .mail import Mail


class Tally:
    """Counts of recipients, and times of messages, of one receiver kind or one tenant."""

    __slots__ = (
        "accepted",
        "attempts",
        "deferrals",
        "delays_s",
        "delivered",
        "delivered_in_time",
        "expired",
        "failed",
        "last_s",
        "name",
        "waits_s",
    )

    def __init__(self, name: str) -> None:
        self.name = name
        self.accepted = 0
        self.delivered = 0
        self.delivered_in_time = 0  # when no more mail came
        self.last_s = 0.0  # of a delivery, since the beginning
        self.failed = 0
        self.expired = 0
        self.attempts = 0
        self.deferrals: Counter[str] = Counter()  # by class: of messages, or of a site
        self.waits_s = array("d")  # from arrival to the start of the first attempt
        self.delays_s = array("d")  # from arrival to delivery

    @property
    def queued(self) -> int:
        """Recipients that are not final."""
        return self.accepted - self.delivered - self.failed - self.expired

    def settle(self, status: RecipientStatus) -> None:
        """A recipient is final."""
        if status is RecipientStatus.DELIVERED:
            self.delivered += 1
        elif status is RecipientStatus.FAILED:
            self.failed += 1
        else:
            assert status is RecipientStatus.EXPIRED
            self.expired += 1


class Tallies:
    """All of them. `kind_of` has the kind of receiver of each recipient's address."""

    __slots__ = ("_kind_of", "kinds", "tenants")

    def __init__(self, kinds: list[str], tenants: list[str], kind_of: dict[bytes, int]) -> None:
        self._kind_of = kind_of
        self.kinds = [Tally(name) for name in kinds]
        self.tenants = [Tally(name) for name in tenants]

    def accept(self, mail: Mail) -> None:
        """A message was accepted, or is in the backlog at the beginning."""
        for forward_path in mail.envelope.forward_paths:
            self.kinds[self._kind_of[forward_path]].accepted += 1
        self.tenants[mail.tenant].accepted += len(mail.envelope.forward_paths)

    def note_time(self) -> None:
        """No more mail arrives."""
        for tally in (*self.kinds, *self.tenants):
            tally.delivered_in_time = tally.delivered

    def settle(self, mail: Mail, state: RecipientState) -> None:
        """A recipient is final, and that is durable."""
        status = state.status
        forward_path = mail.envelope.forward_paths[state.index]
        self.kinds[self._kind_of[forward_path]].settle(status)
        self.tenants[mail.tenant].settle(status)
