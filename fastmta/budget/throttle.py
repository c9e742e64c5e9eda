"""A named rate, and the line of those who wait for it."""

from __future__ import annotations

from typing import Final
from weakref import WeakKeyDictionary

from .gcra import GCRA
from .meter import Alarm, Cancellable, Holdup, Now, Waiter
from .rate import Rate, rate_text
from .turn import Turns

# Timers of loops come in milliseconds: what asks for less would be asked again at once.
_TICK_S: Final = 0.001


class Throttle:
    """Within one process: exact, one timer whatever the length of the line.

    First come, first served: who finds a line joins it, even when a unit is there. Who needs units
    of others as well has its turn kept: see turn.py.
    """

    __slots__ = ("__weakref__", "_alarm", "_gcra", "_is_releasing", "_line", "_now", "_secured",
                 "_timer", "name", "rate")  # fmt: skip

    def __init__(self, name: str, rate: Rate, now: Now, alarm: Alarm) -> None:
        self.name = name
        self.rate = rate
        self._now = now
        self._alarm = alarm
        self._gcra = GCRA(rate.count, rate.period_s, rate.burst)
        self._line = Turns()
        self._timer: Cancellable | None = None
        self._is_releasing = False
        # Units taken for who may use them later, and what they make of the arrival time still: with
        # each unit that others take while there is less to wait for than that, it becomes less.
        self._secured: WeakKeyDictionary[Waiter, float] | None = None  # rare

    @property
    def interval_s(self) -> float:
        """Between two units."""
        return self.rate.period_s / self.rate.count

    def wait_s(self, waiter: Waiter | None = None) -> float:
        """How long until one unit may be taken; 0 when it may now, and nobody stands in line whom
        `waiter` may not pass."""
        now_s = self._now()
        if self._secured and waiter is not None and waiter in self._secured:
            if self._gcra.wait_late_s(self._secured[waiter], now_s) == 0.0:
                return 0.0
            del self._secured[waiter]  # its room has run over meanwhile
            self._line.keep_turn(waiter)
        wait_s = self._gcra.wait_s(now_s, self._line.kept_but_for(waiter, now_s))
        is_in_line = len(self._line) > 0 and not self._is_releasing
        if wait_s == 0.0 and is_in_line and not self._line.has_turn(waiter):
            return _TICK_S
        return wait_s

    def has_turn(self, waiter: Waiter) -> bool:
        """Whether its turn has been kept."""
        return self._is_secured(waiter) or self._line.has_turn(waiter)

    def keep_turn(self, waiter: Waiter, has_unit: bool) -> None:
        """It may take one, but lacks something else; `has_unit`: nobody else gets it meanwhile."""
        if self._is_secured(waiter):
            return
        self._line.keep_turn(waiter)
        if has_unit:
            self._line.keep(waiter, self.interval_s, self._now())

    def take(self, waiter: Waiter | None = None) -> None:
        """Take the unit that `wait_s` promised."""
        now_s = self._now()
        credit_s = None
        if self._secured:
            credit_s = self._secured.pop(waiter, None) if waiter is not None else None
            used_s = credit_s or 0.0
            slack_s = self._gcra.slack_s(now_s, used_s)
            for one, other_s in self._secured.items():
                # Two may share the same room: what one has used is certainly not the other's.
                self._secured[one] = max(0.0, min(other_s - used_s, slack_s))
        if credit_s is not None:
            self._gcra.take_late(credit_s, now_s)
            return
        self._line.served(waiter)
        left_s = self._gcra.take(now_s)
        assert left_s == 0.0, "a unit was taken that was not there"

    def secure(self, waiter: Waiter) -> None:
        """Take the unit that `wait_s` promised for `waiter` to use later, unless its room has run
        over by then. Nobody else waits for that, and no rate is exceeded."""
        if self._is_secured(waiter):
            return
        self.take(waiter)
        if self._secured is None:
            self._secured = WeakKeyDictionary()
        self._secured[waiter] = self.interval_s

    def _is_secured(self, waiter: Waiter) -> bool:
        return self._secured is not None and waiter in self._secured

    def wait(self, waiter: Waiter) -> None:
        """Join the end of the line; again is nothing."""
        self._line.join(waiter)
        self._arm()

    def change(self, rate: Rate) -> None:
        """Another rate, from now on; what was taken before counts."""
        if rate == self.rate:
            return
        self.rate = rate
        self._secured = None
        self._gcra = self._gcra.with_rate(rate.count, rate.period_s, rate.burst, self._now())
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._arm()

    def empty(self) -> None:
        """All of its burst is used up now."""
        self._gcra.empty(self._now())

    def state(self) -> Holdup:
        """Why those in the line wait."""
        now_s = self._now()
        until_s = now_s + self._gcra.wait_s(now_s)
        return Holdup("rate", self.name, rate_text(self.rate), until_s, len(self._line))

    @property
    def is_fresh(self) -> bool:
        """Nothing would be lost by forgetting it: all of its burst is there."""
        return not self._line and self._gcra.is_full(self._now())

    def _left_s(self) -> float:
        """Until there is a unit for the next in line."""
        now_s = self._now()
        return self._gcra.wait_s(now_s, self._line.kept_but_for(None, now_s))

    def _arm(self) -> None:
        if self._line and self._timer is None and not self._is_releasing:
            wait_s = max(_TICK_S, self._left_s())
            self._timer = self._alarm.call_later(wait_s, self._release)

    def _release(self) -> None:
        """As many as units have come back."""
        self._timer = None
        self._is_releasing = True
        try:
            while self._line and self._left_s() == 0.0:
                self._line.pop().resume()
        finally:
            self._is_releasing = False
            self._arm()
