"""Slots that many compete for, such as outbound connections in total."""

from collections import deque
from typing import Protocol


class SlotWaiter(Protocol):
    """Whoever found no slot and waits for one."""

    is_waiting_for_slot: bool

    def resume(self) -> None:
        """A slot may be free: try `take` again, and `wait` again if there is more to do."""


class Slots:
    """A counted limit with a line: who waited longest is asked first, so nobody starves.

    Who has yet to fetch what a slot is for reserves it meanwhile, so that one free slot does not
    send the whole line fetching. A reserved slot may still be taken by anybody.
    """

    __slots__ = ("_reserved", "_waiters", "limit", "used")

    def __init__(self, limit: int) -> None:
        if limit < 1:
            raise ValueError("there is at least one slot")
        self.limit = limit
        self.used = 0
        self._reserved = 0
        self._waiters: deque[SlotWaiter] = deque()

    def take(self) -> bool:
        """Take a slot if one is free."""
        if self.used >= self.limit:
            return False
        self.used += 1
        return True

    def give(self) -> None:
        """Give a slot back, and let those who wait try, the longest waiting first."""
        assert self.used > 0
        self.used -= 1
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
        while self._waiters and self.used + self._reserved < self.limit:
            waiter = self._waiters.popleft()
            waiter.is_waiting_for_slot = False
            waiter.resume()

    def wait(self, waiter: SlotWaiter) -> None:
        """Join the end of the line; again is nothing."""
        if not waiter.is_waiting_for_slot:
            waiter.is_waiting_for_slot = True
            self._waiters.append(waiter)

    @property
    def free(self) -> int:
        """Slots that are neither taken nor reserved."""
        return max(0, self.limit - self.used - self._reserved)

    @property
    def is_contended(self) -> bool:
        """Whether there is a line."""
        return bool(self._waiters)

    @property
    def waiting_count(self) -> int:
        """How many are in the line."""
        return len(self._waiters)
