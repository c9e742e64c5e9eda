"""Rates: the generic cell rate algorithm, one number of state."""


class GCRA:
    """`count` units per `period_s`, of which `burst` may come at once. Exact: no drift, no ticks.

    The state is the theoretical arrival time, when the bucket will be empty again. A unit conforms
    when taking it does not push that time further than the burst allows beyond now.
    """

    __slots__ = ("_arrival_s", "_interval_s", "_tolerance_s")

    def __init__(self, count: float, period_s: float, burst: int = 1) -> None:
        if not (count > 0 and period_s > 0 and burst >= 1):
            raise ValueError("a rate needs a count, a period and a burst above zero")
        self._interval_s = period_s / count
        self._tolerance_s = self._interval_s * (burst - 1)
        self._arrival_s = float("-inf")

    def wait_s(self, now_s: float, kept: int = 0) -> float:
        """How long until one unit conforms, beside `kept` others that are not taken yet; 0 when it
        does now. Takes nothing."""
        arrival_s = self._arrival_s
        if kept:
            arrival_s = max(arrival_s, now_s) + kept * self._interval_s
        return max(0.0, arrival_s - self._tolerance_s - now_s)

    def take(self, now_s: float) -> float:
        """Take one unit and return 0, or take nothing and return how long to wait."""
        wait_s = self._arrival_s - self._tolerance_s - now_s
        if wait_s > 0:
            return wait_s
        self._arrival_s = max(self._arrival_s, now_s) + self._interval_s
        return 0.0

    def slack_s(self, now_s: float, credit_s: float = 0.0) -> float:
        """How long until all of the burst is there; were there not the unit of that credit."""
        return max(0.0, self._without_s(credit_s, now_s) - now_s)

    def wait_late_s(self, credit_s: float, now_s: float) -> float:
        """How long until a unit conforms that was taken before and not used: `credit_s` is what
        the arrival time would be less without it."""
        return max(0.0, self._without_s(credit_s, now_s) - self._tolerance_s - now_s)

    def take_late(self, credit_s: float, now_s: float) -> None:
        """As if that unit had been taken now, exactly."""
        self._arrival_s = max(self._without_s(credit_s, now_s), now_s) + self._interval_s

    def _without_s(self, credit_s: float, now_s: float) -> float:
        return self._arrival_s - min(credit_s, max(0.0, self._arrival_s - now_s))

    def empty(self, now_s: float) -> None:
        """As if all of the burst had been taken now."""
        self._arrival_s = max(self._arrival_s, now_s + self._tolerance_s + self._interval_s)

    def is_full(self, now_s: float) -> bool:
        """Whether all of the burst is there."""
        return self._arrival_s <= now_s

    def with_rate(self, count: float, period_s: float, burst: int, now_s: float) -> "GCRA":
        """The same with another rate: as many units are owed as before."""
        other = GCRA(count, period_s, burst)
        owed = max(0.0, self._arrival_s - now_s) / self._interval_s
        if owed:
            other._arrival_s = now_s + owed * other._interval_s
        return other
