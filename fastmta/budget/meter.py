"""Limits with a name, that work waits on: what the scheduler sees of them.

Two kinds. A throttle meters how often something starts. Places are how many connections may exist
at once; whoever has one keeps it, with its idle connection, until somebody else wants it. Both know
who waits and wake exactly those who can go on, so nothing is looked at again and again.

Within one process these are `Throttle` and `Places`; over workers a broker leases them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeAlias

import msgspec

from .rate import Rate

Now: TypeAlias = Callable[[], float]  # monotonic seconds


def name_of_rest(name: str) -> str:
    """Of the throttle that those share who come when there are too many for one of their own."""
    return f"{name.partition('(')[0]}(all others)"


class Holdup(msgspec.Struct, frozen=True):
    """What holds work up, for whoever asks why it does not move."""

    kind: str  # "rate", "connections", "lease" or "pause"
    name: str
    detail: str = ""
    until_s: float = 0.0  # monotonic; 0: nobody knows
    waiting: int = 0  # how many stand in line


class Waiter(Protocol):
    """Whoever waits in a line. It leaves the line when it is resumed."""

    def resume(self) -> None:
        """It may go on: try again, and wait again if there is more to do. Raises nothing."""


class Holder(Waiter, Protocol):
    """Whoever has places."""

    def has_spare(self, places: Meter) -> bool:
        """Whether one of its places has only an idle connection."""

    def yield_place(self, places: Meter) -> None:
        """Somebody waits: close an idle connection, and `give` its place back after that."""


class Cancellable(Protocol):
    """A timer."""

    def cancel(self) -> object:
        """Not any more."""


class Alarm(Protocol):
    """The event loop's timers."""

    def call_later(self, delay_s: float, callback: Callable[..., object]) -> Cancellable:
        """Call once, after `delay_s`."""


class Meter(Protocol):
    """What throttles and places have in common."""

    name: str

    def wait(self, waiter: Waiter) -> None:
        """Join the end of the line; again is nothing."""

    def state(self) -> Holdup:
        """Why those in the line wait."""


class RateMeter(Meter, Protocol):
    """A throttle."""

    @property
    def interval_s(self) -> float:
        """Between two units."""

    def wait_s(self, waiter: Waiter | None = None) -> float:
        """0: `waiter` may take one unit now. Else how long that takes; inf: nobody knows."""

    def take(self, waiter: Waiter | None = None) -> None:
        """Take the unit that `wait_s` promised a moment ago."""

    def has_turn(self, waiter: Waiter) -> bool:
        """Whether its turn has been kept."""

    def keep_turn(self, waiter: Waiter, has_unit: bool) -> None:
        """It may take one, but lacks something else; `has_unit`: nobody else gets it meanwhile."""

    def secure(self, waiter: Waiter) -> None:
        """The unit that `wait_s` promised is for `waiter`, which perhaps cannot use it at once."""

    def change(self, rate: Rate) -> None:
        """Another rate, from now on; what was taken before counts."""


class PlaceMeter(Meter, Protocol):
    """Places."""

    limit: int
    used: int

    def take(self, holder: Holder) -> bool:
        """Take a place, which `holder` keeps until it gives it back."""

    def occupy(self, holder: Holder, count: int) -> None:
        """So many connections of `holder` are there already, whatever the limit says."""

    def give(self, holder: Holder) -> None:
        """The connection of one place is closed."""

    def is_wanted_of(self, holder: Holder) -> bool:
        """Whether somebody else waits: `holder` keeps no place longer than its turn."""

    def is_spare_wanted_of(self, holder: Holder) -> bool:
        """Whether somebody else would have a place of `holder` whose connection idles."""

    def change(self, limit: int) -> None:
        """Another limit, from now on; what is above it goes when its work is done."""


class Meters(Protocol):
    """Who keeps the meters: the same object for the same name while anybody uses it."""

    is_shared: bool  # over several workers

    def throttle(self, name: str, rate: Rate) -> RateMeter:
        """The throttle of that name, with this rate from now on."""

    def places(self, name: str, limit: int) -> PlaceMeter:
        """The places of that name, as many as `limit` from now on."""

    def sweep(self) -> None:
        """Forget meters that nobody uses and that remember nothing; now and then."""
