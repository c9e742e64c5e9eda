"""The state of one recipient between attempts, as STATE records and index rows keep it."""

import enum
from typing import Annotated, TypeAlias

import msgspec

Count: TypeAlias = Annotated[int, msgspec.Meta(ge=0)]  # what a decoder refuses below 0


class RecipientStatus(enum.IntEnum):
    """Where a recipient stands. The numbers are stored: never renumber, only append."""

    QUEUED = 0
    DEFERRED = 1
    DELIVERED = 2
    FAILED = 3
    EXPIRED = 4
    HELD = 5
    DELETED = 6
    REQUEUED = 7  # in records only: it becomes QUEUED, even what was final, with no attempt yet

    @property
    def is_final(self) -> bool:
        """Nothing more will be done for this recipient (only a requeue reopens it)."""
        return self in _FINAL


_FINAL = frozenset(
    (
        RecipientStatus.DELIVERED,
        RecipientStatus.FAILED,
        RecipientStatus.EXPIRED,
        RecipientStatus.DELETED,
    )
)


class RecipientState(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Absolute state of recipient `index` of its envelope. New fields go at the end."""

    index: Count
    status: RecipientStatus
    attempts: Count = 0
    due_at_ns: Count = 0  # wall clock, ns since the epoch; meaningful when DEFERRED
    # Last outcome's text, for mailq and DSNs; at most 500 characters. Of a probe see `finding`.
    text: str = ""
    # The sender was told that the message is late, or need not be: of one recipient, for them all.
    is_warned: bool = False
