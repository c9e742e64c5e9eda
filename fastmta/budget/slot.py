"""Slots that many compete for, such as outbound connections in total."""

from collections import OrderedDict
from typing import Protocol


class SlotWaiter(Protocol):
    """Whoever found no slot and waits for one."""

    is_waiting_for_slot: bool

    def resume(self) -> None:
        """A slot may be free: try `take` again, and `wait` again if there is more to do."""


class Slots:
    """A counted limit with a line: who waited longest is asked first, so nobody starves.

    Who has fresh mail stands in a line of its own as well, and the two lines take turns: with ten
    thousand sites in the first, mail that just came in would wait for its end. Who has yet to fetch
    what a slot is for reserves it meanwhile, so that one free slot does not send the whole line
    fetching. A reserved slot may still be taken by anybody.
    """

    __slots__ = ("_fresh", "_is_fresh_turn", "_reserved", "_waiters", "limit", "used")

    def __init__(self, limit: int) -> None:
        if limit < 1:
            raise ValueError("there is at least one slot")
        self.limit = limit
        self.used = 0
        self._reserved = 0
        self._waiters: OrderedDict[SlotWaiter, None] = OrderedDict()
        self._fresh: OrderedDict[SlotWaiter, None] = OrderedDict()
        self._is_fresh_turn = True

    def take(self) -> bool:
        """Take a slot if one is free."""
        if self.used >= self.limit:
            return False
        self.used += 1
        return True

    @property
    def is_free(self) -> bool:
        """Whether `take` would get one."""
        return self.used < self.limit

    def give(self) -> None:
        """Give a slot back, and let those who wait try, the longest waiting first."""
        assert self.used > 0
        self.used -= 1
        if self._waiters or self._fresh:
            self.wake()

    def reserve(self, count: int) -> None:
        """`count` of the free ones will be taken soon."""
        assert count <= self.free
        self._reserved += count

    def end_reservation(self, count: int) -> None:
        """They can be taken now; `wake` afterwards, for those that were not."""
        assert count <= self._reserved
        self._reserved -= count

    def wake(self) -> None:
        """Let those who wait try while there is a free slot, the longest waiting first."""
        while (self._waiters or self._fresh) and self.used + self._reserved < self.limit:
            is_fresh = bool(self._fresh) and (self._is_fresh_turn or not self._waiters)
            line, other = self._waiters, self._fresh
            if is_fresh:
                line, other = other, line
            self._is_fresh_turn = not is_fresh
            waiter, _ = line.popitem(last=False)
            waiter.is_waiting_for_slot = waiter in other
            waiter.resume()

    def wait(self, waiter: SlotWaiter, is_fresh: bool = False) -> None:
        """Join the end of the line, and with fresh mail that of the other; again is nothing."""
        waiter.is_waiting_for_slot = True
        self._waiters.setdefault(waiter)
        if is_fresh:
            self._fresh.setdefault(waiter)

    @property
    def free(self) -> int:
        """Slots that are neither taken nor reserved."""
        return max(0, self.limit - self.used - self._reserved)

    @property
    def is_contended(self) -> bool:
        """Whether there is a line."""
        return bool(self._waiters or self._fresh)

    @property
    def is_fresh_turn(self) -> bool:
        """Whether the next slot is for somebody who waits with fresh mail."""
        return bool(self._fresh) and (self._is_fresh_turn or not self._waiters)

    @property
    def waiting_count(self) -> int:
        """How many are in the line."""
        return len(self._waiters.keys() | self._fresh.keys())
