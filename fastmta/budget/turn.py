"""The line at a throttle, of those who may need units of others as well.

Who needs one of each of several throttles gets all of them at the same time, or none. It stands in
each line in turn. When it is first in one and lacks something else it lets the others pass, but its
turn there stays: from then on the next unit is its own as soon as it can use it. The unit of the
slower throttle is kept until the next one of the faster comes, which is soon: for twice the time
between two units at the most, so whatever becomes of who it is kept for, a rate is halved at worst.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final
from weakref import WeakKeyDictionary

from .meter import RateMeter, Waiter

_KEEP_INTERVALS: Final = 2.0
_KEEP_LEAST_S: Final = 0.05  # timers are late, messages take their time


def wait_for_all(throttles: Sequence[RateMeter], waiter: Waiter) -> RateMeter | None:
    """None: `waiter` may take one unit of each. Else the slowest of those that it waits for now:
    its turns at the others are kept, and units of slower ones, if it is next for what it lacks."""
    lacking = [one for one in throttles if one.wait_s(waiter) > 0]
    if not lacking:
        return None
    slowest = max(lacking, key=lambda one: one.interval_s)
    for one in throttles:
        if one in lacking:
            one.wait(waiter)
        else:
            is_slower = one.interval_s >= slowest.interval_s
            one.keep_turn(waiter, is_slower and all(each.has_turn(waiter) for each in lacking))
    return slowest


class Turns:
    """First come, first served, but for those whose turn was there before."""

    __slots__ = ("_front", "_kept", "_line", "_turns")

    def __init__(self) -> None:
        self._line: dict[Waiter, None] = {}  # for its order
        self._front: dict[Waiter, None] = {}  # with a turn, for the next unit
        self._turns: WeakKeyDictionary[Waiter, None] | None = None  # rare
        self._kept: dict[Waiter, float] | None = None  # units, until when

    def __len__(self) -> int:
        return len(self._line) + len(self._front)

    def join(self, waiter: Waiter) -> None:
        """To the end of the line, or to those whose turn it is; again is nothing."""
        if self._turns and waiter in self._turns:
            self._front.setdefault(waiter)
        else:
            self._line.setdefault(waiter)

    def pop(self) -> Waiter:
        """Who is next; there must be somebody."""
        line = self._front or self._line
        waiter = next(iter(line))
        del line[waiter]
        return waiter

    def has_turn(self, waiter: Waiter | None) -> bool:
        """Whether it may pass the line."""
        return waiter is not None and self._turns is not None and waiter in self._turns

    def keep_turn(self, waiter: Waiter) -> None:
        """It could have had a unit."""
        if self._turns is None:
            self._turns = WeakKeyDictionary()
        self._turns[waiter] = None
        if waiter in self._line:
            del self._line[waiter]
            self._front[waiter] = None

    def keep(self, waiter: Waiter, interval_s: float, now_s: float) -> None:
        """One unit is for nobody else; again is nothing, until that is over."""
        if self._kept is None:
            self._kept = {}
        self.kept_but_for(None, now_s)
        until_s = now_s + max(_KEEP_INTERVALS * interval_s, _KEEP_LEAST_S)
        self._kept.setdefault(waiter, until_s)

    def kept_but_for(self, waiter: Waiter | None, now_s: float) -> int:
        """How many units are kept for others."""
        kept = self._kept
        if not kept:
            return 0
        for one in [one for one, until_s in kept.items() if until_s <= now_s]:
            del kept[one]
        return len(kept) - (waiter in kept)

    def served(self, waiter: Waiter | None) -> None:
        """It has got its unit, and begins anew."""
        if waiter is None:
            return
        if self._kept:
            self._kept.pop(waiter, None)
        if self._turns and waiter in self._turns:
            del self._turns[waiter]
        self._front.pop(waiter, None)
