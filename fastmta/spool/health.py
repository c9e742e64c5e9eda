"""Whether the spool can be trusted: what a write or flush that failed does to that.

    state       FAULT      RESCUED    RELAPSED   CLEAN     LOST
    HEALTHY     RESCUING   -          -          -         FAILED
    RESCUING    -          PROVING    LATCHED    -         FAILED
    PROVING     RESCUING   -          -          HEALTHY   FAILED
    LATCHED     RESCUING   -          -          -         FAILED
    FAILED      -          -          -          -         FAILED

FAULT: a group could not be written or flushed. RESCUED: it is durable in another segment; RELAPSED:
so it is, but that was not the first time within RELAPSE_S. CLEAN: all that was written for
`clean_s` went well. LOST: the second place failed as well, or none was found.

Only HEALTHY takes mail and delivers: a delivery whose outcome cannot be recorded is a duplicate.
LATCHED ends with the process, because a disk that fails twice needs somebody who looks at it.
"""

from __future__ import annotations

import enum
from typing import Final

RELAPSE_S = 3600.0


class HealthState(enum.Enum):
    """How far the spool can be trusted."""

    HEALTHY = "healthy"
    RESCUING = "a group that failed is being written to another segment"
    PROVING = "the spool shows that it works again"
    LATCHED = "the log failed twice within an hour"
    FAILED = "the log cannot be written"


class Signal(enum.Enum):
    """What changes the state."""

    FAULT = enum.auto()
    RESCUED = enum.auto()
    RELAPSED = enum.auto()
    CLEAN = enum.auto()
    LOST = enum.auto()


TRANSITIONS: Final = {
    (HealthState.HEALTHY, Signal.FAULT): HealthState.RESCUING,
    (HealthState.HEALTHY, Signal.LOST): HealthState.FAILED,
    (HealthState.RESCUING, Signal.RESCUED): HealthState.PROVING,
    (HealthState.RESCUING, Signal.RELAPSED): HealthState.LATCHED,
    (HealthState.RESCUING, Signal.LOST): HealthState.FAILED,
    (HealthState.PROVING, Signal.FAULT): HealthState.RESCUING,
    (HealthState.PROVING, Signal.CLEAN): HealthState.HEALTHY,
    (HealthState.PROVING, Signal.LOST): HealthState.FAILED,
    (HealthState.LATCHED, Signal.FAULT): HealthState.RESCUING,
    (HealthState.LATCHED, Signal.LOST): HealthState.FAILED,
    (HealthState.FAILED, Signal.LOST): HealthState.FAILED,
}


class Health:
    """State of one shard. Times are monotonic seconds."""

    __slots__ = ("_clean_s", "_fault_at_s", "_is_relapse", "_since_s", "is_healthy", "state")

    def __init__(self, clean_s: float) -> None:
        self._clean_s = clean_s
        self._fault_at_s = float("-inf")
        self._is_relapse = False  # once True it stays so
        self._since_s = 0.0  # since when all went well
        self.state = HealthState.HEALTHY
        self.is_healthy = True

    def fault(self, now_s: float) -> None:
        """A group could not be written or flushed."""
        self._is_relapse = self._is_relapse or now_s - self._fault_at_s < RELAPSE_S
        self._fault_at_s = now_s
        self._change(Signal.FAULT)

    def rescued(self, now_s: float) -> bool:
        """The group is durable in another segment. False: that was once too often."""
        self._since_s = now_s
        self._change(Signal.RELAPSED if self._is_relapse else Signal.RESCUED)
        return not self._is_relapse

    def proved(self, now_s: float) -> bool:
        """A later group is durable too. True: that went on for long enough."""
        if self.state is not HealthState.PROVING or now_s - self._since_s < self._clean_s:
            return False
        self._change(Signal.CLEAN)
        return True

    def lost(self) -> None:
        """Nothing can be written any more."""
        self._change(Signal.LOST)

    def _change(self, signal: Signal) -> None:
        self.state = TRANSITIONS[self.state, signal]  # an entry that is absent is a bug
        self.is_healthy = self.state is HealthState.HEALTHY
