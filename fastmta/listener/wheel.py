"""Time limits for many connections without a timer each: a wheel that turns once a second."""

from collections.abc import Callable
from typing import Protocol


class Timed(Protocol):
    """Something with a deadline that moves while it is active."""

    deadline_s: float  # monotonic
    bucket: int  # which bucket holds it; the wheel's own

    def on_deadline(self) -> None:
        """The deadline has passed."""


class Wheel:
    """Holds timed things in buckets of one second; `turn` acts on those that are due.

    Moving a deadline back costs nothing: a thing is looked at when its old second comes, and goes
    to a later bucket then. So activity never touches the wheel. One that comes nearer has to be
    discarded and added. A deadline acts within about one second. Times are monotonic seconds.
    """

    def __init__(self, now_s: Callable[[], float]) -> None:
        self._now_s = now_s
        self._buckets: dict[int, set[Timed]] = {}
        self._turned_to = int(now_s())

    def add(self, timed: Timed) -> None:
        """Watch `timed` until `discard` or its deadline."""
        timed.bucket = max(int(timed.deadline_s), self._turned_to) + 1
        self._buckets.setdefault(timed.bucket, set()).add(timed)

    def discard(self, timed: Timed) -> None:
        """Forget `timed`; one that is not watched is ignored."""
        bucket = self._buckets.get(timed.bucket)
        if bucket is not None:
            bucket.discard(timed)

    def turn(self) -> None:
        """Act on everything due until now."""
        now_s = self._now_s()
        while self._turned_to < int(now_s):
            self._turned_to += 1
            for timed in tuple(self._buckets.get(self._turned_to, ())):
                if timed not in self._buckets[self._turned_to]:
                    continue  # an earlier one's deadline ended it
                if timed.deadline_s > now_s:
                    self.add(timed)
                else:
                    timed.on_deadline()
            self._buckets.pop(self._turned_to, None)
