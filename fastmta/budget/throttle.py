"""A named rate, and the line of those who wait for it."""

from __future__ import annotations

from typing import Final

from .gcra import GCRA
from .meter import Alarm, Cancellable, Holdup, Now, Waiter
from .rate import Rate, rate_text

# Timers of loops come in milliseconds: what asks for less would be asked again at once.
_TICK_S: Final = 0.001


class Throttle:
    """Within one process: exact, one timer whatever the length of the line.

    First come, first served: who finds a line joins it, even when a unit is there.
    """

    __slots__ = ("__weakref__", "_alarm", "_gcra", "_is_releasing", "_line", "_now", "_timer",
                 "name", "rate")  # fmt: skip

    def __init__(self, name: str, rate: Rate, now: Now, alarm: Alarm) -> None:
        self.name = name
        self.rate = rate
        self._now = now
        self._alarm = alarm
        self._gcra = GCRA(rate.count, rate.period_s, rate.burst)
        self._line: dict[Waiter, None] = {}  # for its order
        self._timer: Cancellable | None = None
        self._is_releasing = False

    def wait_s(self) -> float:
        """How long until one unit may be taken; 0 when it may now, and nobody stands in line."""
        wait_s = self._gcra.wait_s(self._now())
        if wait_s == 0.0 and self._line and not self._is_releasing:
            return _TICK_S
        return wait_s

    def take(self) -> None:
        """Take the unit that `wait_s` promised."""
        left_s = self._gcra.take(self._now())
        assert left_s == 0.0, "a unit was taken that was not there"

    def wait(self, waiter: Waiter) -> None:
        """Join the end of the line; again is nothing."""
        self._line.setdefault(waiter)
        self._arm()

    def change(self, rate: Rate) -> None:
        """Another rate, from now on; what was taken before counts."""
        if rate == self.rate:
            return
        self.rate = rate
        self._gcra = self._gcra.with_rate(rate.count, rate.period_s, rate.burst, self._now())
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._arm()

    def state(self) -> Holdup:
        """Why those in the line wait."""
        now_s = self._now()
        until_s = now_s + self._gcra.wait_s(now_s)
        return Holdup("rate", self.name, rate_text(self.rate), until_s, len(self._line))

    @property
    def is_fresh(self) -> bool:
        """Nothing would be lost by forgetting it: all of its burst is there."""
        return not self._line and self._gcra.is_full(self._now())

    def _arm(self) -> None:
        if self._line and self._timer is None and not self._is_releasing:
            wait_s = max(_TICK_S, self._gcra.wait_s(self._now()))
            self._timer = self._alarm.call_later(wait_s, self._release)

    def _release(self) -> None:
        """As many as units have come back."""
        self._timer = None
        self._is_releasing = True
        try:
            while self._line and self._gcra.wait_s(self._now()) == 0.0:
                waiter = next(iter(self._line))
                del self._line[waiter]
                waiter.resume()
        finally:
            self._is_releasing = False
            self._arm()
