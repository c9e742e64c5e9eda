"""Meters whose limit is over several workers: this worker's part of each is leased from the broker.

See meter.py for what the scheduler does with them, and lease.py for how leases come and go.
"""

from __future__ import annotations

from typing import Final, Protocol

from .frame import COUNT_MAX, PlaceAsk, PlaceGrant, RateAsk, RateGrant, key_of
from .meter import Holder, Holdup, Waiter
from .place import Places
from .rate import Rate, rate_text
from .turn import Turns

KEEP_S: Final = 2.0  # places that nobody here needs are kept in case somebody does

_WISH_MAX: Final = 16  # places or units asked for at once, for one in line
_AHEAD_S: Final = 0.1  # ... and no more units than the rate has in this time


class Lease(Protocol):
    """The lease of this worker, under which all of them are."""

    @property
    def is_live(self) -> bool:
        """Whether what was granted may be used."""

    @property
    def trouble(self) -> str:
        """Why there is no answer from the broker; "": there is."""

    def now_s(self) -> float:
        """Monotonic."""

    def touch(self, one: LeasedPlaces | LeasedThrottle) -> None:
        """The broker should be told about it, with others, on the next turn of the loop."""


class LeasedPlaces(Places):
    """`total` over all workers, `granted` of them to this one, `limit` of those usable now.

    Here as everywhere, a place is given back after its connection is closed, never before. When
    the lease has ended, none is taken, idle connections are closed, and what is in use counts (and
    is told to the broker) until it ends.
    """

    __slots__ = ("_cap", "_free_at_s", "_lease", "_owed", "_since_s", "_wish", "granted", "key",
                 "total")  # fmt: skip

    def __init__(self, name: str, total: int, lease: Lease) -> None:
        super().__init__(name, max(1, total))
        self.key = key_of(name)
        self.total = total
        self.limit = 0
        self.granted = 0
        self._lease = lease
        self._cap = COUNT_MAX
        self._owed = 0  # places that others want if they are idle
        self._wish = 1
        self._since_s = 0.0  # when the line began
        self._free_at_s = 0.0  # when more was granted than is used, as far as anybody looked

    def take(self, holder: Holder) -> bool:
        """Take a place that was leased, if nobody stands in line for it."""
        return self._lease.is_live and super().take(holder)

    def occupy(self, holder: Holder, count: int) -> None:
        """So many connections of `holder` are there already; the broker hears of them."""
        super().occupy(holder, count)
        if self.used > self.granted:
            self.granted = self.used
            self._lease.touch(self)

    def give(self, holder: Holder) -> None:
        """The connection of one place is closed."""
        is_news = bool(self._line)
        if self._owed or self.granted > self._cap or not self._lease.is_live:
            self._owed = max(0, self._owed - 1)
            self.granted -= 1
            self.limit = self._usable
            is_news = True
        super().give(holder)
        if is_news:
            self._lease.touch(self)

    def wait(self, waiter: Waiter) -> None:
        """Join the end of the line; again is nothing."""
        if not self._line:
            self._since_s = self._lease.now_s()
        super().wait(waiter)
        self._lease.touch(self)

    def is_wanted_of(self, holder: Holder) -> bool:
        """Whether a place that has done its turn should be given: here or elsewhere.

        Who has places and stands in line for more is no reason; the broker shares evenly.
        """
        return self.used > self.limit or any(one not in self._holders for one in self._line)

    def is_spare_wanted_of(self, holder: Holder) -> bool:
        """Whether somebody else, here or elsewhere, would have one whose connection idles."""
        is_line = len(self._line) > (holder in self._line)
        return bool(self._owed) or is_line or self.used > self.limit

    def change(self, limit: int) -> None:
        """Another limit over all workers."""
        self.total = limit
        self._lease.touch(self)

    def state(self) -> Holdup:
        """Why those in the line wait."""
        detail = f"{self.used} open here of {self.granted} leased, {self.total} over all workers"
        if self._line:
            detail += f", waits for {self._lease.now_s() - self._since_s:.1f} s"
        trouble = self._lease.trouble
        return Holdup(
            "lease", self.name, f"{detail}; {trouble}" if trouble else detail, 0.0, len(self._line)
        )

    # What the lease does with it.

    def ask(self) -> PlaceAsk:
        """What the broker should know."""
        extra = max(len(self._line), self._wish) if self._line else 0
        want = min(self.total, self.used + extra, COUNT_MAX)
        return PlaceAsk(self.key, min(self.total, COUNT_MAX), self.granted, want)

    def granted_more(self, grant: PlaceGrant) -> None:
        """The broker grants some, or wants some back."""
        self.granted += grant.more
        self._cap = grant.cap
        self._owed = grant.spare
        was_granted = self.granted
        if self.granted > self._cap:
            self.granted = max(self._cap, self.used)
        self._resize()  # who waits here goes first
        if self._owed and self.granted > self.used:
            free = min(self._owed, self.granted - self.used)
            self.granted -= free
            self._owed -= free
            self._resize()
        if self._owed:
            self._ask(self._owed)
        if grant.more:
            is_short = bool(self._line) and self.used >= self.granted
            self._wish = min(_WISH_MAX, self._wish * 2) if is_short else 1
        if self._line or was_granted != self.granted:
            self._lease.touch(self)

    def lapse(self) -> None:
        """The lease has ended."""
        self.granted = self.used
        self._cap = COUNT_MAX
        self._owed = 0
        self._resize()
        self._lease.touch(self)

    def look(self, now_s: float) -> None:
        """Now and then: what nobody here needs goes back, what may be used is."""
        self._resize()
        if self.granted <= self.used or self._line:
            self._free_at_s = now_s
        elif now_s - self._free_at_s >= KEEP_S:
            self.granted = self.used
            self._wish = 1
            self._resize()
            self._lease.touch(self)

    @property
    def is_waiting(self) -> bool:
        """Whether somebody stands in line."""
        return bool(self._line)

    def is_idle(self, now_s: float) -> bool:
        """Nothing is had or wanted."""
        return not (self.granted or self.used or self._line)

    @property
    def _usable(self) -> int:
        return min(self.granted, self._cap) if self._lease.is_live else 0

    def _resize(self) -> None:
        super().change(self._usable)


class LeasedThrottle:
    """A rate over all workers: units come from the broker when they may be used, a few at once."""

    __slots__ = ("__weakref__", "_is_releasing", "_lease", "_line", "_since_s", "_stocked_at_s",
                 "_wish", "arrival_s", "key", "name", "rate", "stock", "used",
                 "used_at_s")  # fmt: skip

    def __init__(self, name: str, rate: Rate, lease: Lease) -> None:
        self.name = name
        self.rate = rate
        self.key = key_of(name)
        self.stock = 0
        self.used = self.used_at_least(lease.now_s())
        self.used_at_s = 0.0
        self.arrival_s = 0.0
        self._lease = lease
        self._line = Turns()
        self._is_releasing = False
        self._since_s = 0.0
        self._stocked_at_s = 0.0
        self._wish = 1

    @staticmethod
    def used_at_least(now_s: float) -> int:
        """Where counting begins: above what any throttle of that name, forgotten since, counted."""
        return int(now_s * 1_000_000)

    @property
    def interval_s(self) -> float:
        """Between two units."""
        return self.rate.period_s / self.rate.count

    def wait_s(self, waiter: Waiter | None = None) -> float:
        """0: a unit is here that `waiter` may take. Else nobody knows: `wait`."""
        has_unit = self.stock > self._kept(waiter) and self._lease.is_live
        if has_unit and (self._is_releasing or not self._line or self._line.has_turn(waiter)):
            return 0.0
        return float("inf")

    def has_turn(self, waiter: Waiter) -> bool:
        """Whether its turn has been kept."""
        return self._line.has_turn(waiter)

    def keep_turn(self, waiter: Waiter, has_unit: bool) -> None:
        """It may take one, but lacks something else; `has_unit`: nobody else gets it meanwhile."""
        self._line.keep_turn(waiter)
        if has_unit:
            self._line.keep(waiter, self.interval_s, self._lease.now_s())

    def secure(self, waiter: Waiter) -> None:
        """The unit that `wait_s` promised is kept for `waiter` for a while."""
        self.keep_turn(waiter, True)

    def take(self, waiter: Waiter | None = None) -> None:
        """Take the unit that `wait_s` promised."""
        self._line.served(waiter)
        assert self.stock > 0, "a unit was taken that was not there"
        self.stock -= 1
        self.used += 1
        self.used_at_s = self._lease.now_s()
        self._lease.touch(self)

    def wait(self, waiter: Waiter) -> None:
        """Join the end of the line; again is nothing."""
        if not self._line:
            self._since_s = now_s = self._lease.now_s()
            if not self.stock and now_s - self._stocked_at_s < _AHEAD_S:
                self._wish = min(_WISH_MAX, self._wish * 2)  # all used up in no time
        self._line.join(waiter)
        self._lease.touch(self)

    def change(self, rate: Rate) -> None:
        """Another rate over all workers; what was taken before counts."""
        if rate != self.rate:
            self.rate = rate
            self._lease.touch(self)

    def state(self) -> Holdup:
        """Why those in the line wait: for the rate, or for an answer of the broker."""
        now_s = self._lease.now_s()
        detail = f"{rate_text(self.rate)} over all workers"
        if self._line:
            detail += f", waits for {now_s - self._since_s:.1f} s"
        trouble = self._lease.trouble
        if trouble:
            return Holdup("lease", self.name, f"{detail}; {trouble}", 0.0, len(self._line))
        # As far as we know; units of others may come before ours.
        until_s = self.arrival_s - (self.rate.burst - 1) * self.interval_s
        kind = "rate" if until_s > now_s else "lease"
        return Holdup(kind, self.name, detail, max(now_s, until_s), len(self._line))

    # What the lease does with it.

    def ask(self) -> RateAsk:
        """What the broker should know."""
        want = 0
        if self._line:
            ahead = max(1, min(int(_AHEAD_S / self.interval_s), self.rate.burst))
            want = min(ahead, max(len(self._line), self._wish))
        burst = min(self.rate.burst, COUNT_MAX)
        return RateAsk(self.key, self.interval_s, burst, self.stock, want, self.used,
                       self.used_at_s, self.arrival_s)  # fmt: skip

    def granted_more(self, grant: RateGrant) -> None:
        """Units have come: as many in line go on."""
        self.arrival_s = max(self.arrival_s, grant.arrival_s)
        self.stock += grant.units
        self._stocked_at_s = self._lease.now_s()
        self._release()
        if self._line:
            self._lease.touch(self)

    def lapse(self) -> None:
        """The lease has ended: what was not used is nobody's."""
        self.give_back()

    def give_back(self) -> None:
        """Units that nobody here used, nor will as soon as it can."""
        kept = self._kept(None) if self._lease.is_live else 0
        if self.stock > kept:
            self.stock = kept
            self._wish = 1
            self._lease.touch(self)

    def look(self, now_s: float) -> None:
        """Now and then."""
        if now_s - self._stocked_at_s > KEEP_S:
            self.give_back()

    @property
    def is_waiting(self) -> bool:
        """Whether somebody stands in line."""
        return bool(self._line)

    def is_idle(self, now_s: float) -> bool:
        """Nothing is had or wanted, nor remembered for the next broker."""
        return not (self.stock or self._line) and self.arrival_s <= now_s

    def _kept(self, waiter: Waiter | None) -> int:
        return self._line.kept_but_for(waiter, self._lease.now_s())

    def _release(self) -> None:
        self._is_releasing = True
        try:
            while self._line and self.stock > self._kept(None) and self._lease.is_live:
                self._line.pop().resume()
        finally:
            self._is_releasing = False
