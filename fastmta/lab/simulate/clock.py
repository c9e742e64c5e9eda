"""Virtual time: a clock, and what is to be called when. A day passes as fast as its calls run."""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush
from typing import Any, Final

NS: Final = 1_000_000_000
START_S: Final = 1_000.0  # monotonic, so that 0.0 is never now
START_NS: Final = 1_800_000_000 * NS  # wall clock


class Timer:
    """A call that is yet to come, and may be cancelled."""

    __slots__ = ("_args", "_callback")

    def __init__(self, callback: Callable[..., object], args: tuple[Any, ...]) -> None:
        self._callback: Callable[..., object] | None = callback
        self._args = args

    def cancel(self) -> None:
        """Not any more."""
        self._callback = None
        self._args = ()

    def fire(self) -> None:
        """Its time has come."""
        if self._callback is not None:
            self._callback(*self._args)


class Agenda:
    """Clock and timers of the scheduler, and of everything around it.

    What is due at the same time is called in the order in which it was asked for, so that a run
    depends on nothing but its scenario and seed.
    """

    __slots__ = ("_count", "_heap", "now_s", "stepped_at_s")

    def __init__(self) -> None:
        self.now_s = START_S
        self.stepped_at_s = float("-inf")
        # (time, number, callback, arguments): numbers differ, so that callbacks are not compared.
        self._heap: list[tuple[float, int, Callable[..., object], tuple[Any, ...]]] = []
        self._count = 0

    def monotonic_s(self) -> float:
        """Seconds that never jump."""
        return self.now_s

    def wall_ns(self) -> int:
        """Queue time, nanoseconds since the epoch."""
        return START_NS + int((self.now_s - START_S) * NS)

    @property
    def passed_s(self) -> float:
        """Since the beginning."""
        return self.now_s - START_S

    def call_later(self, delay_s: float, callback: Callable[..., object], *args: Any) -> Timer:
        """Call once, after `delay_s`, unless the timer is cancelled."""
        timer = Timer(callback, args)
        self._count = count = self._count + 1
        heappush(self._heap, (self.now_s + delay_s, count, timer.fire, ()))
        return timer

    def post(self, delay_s: float, callback: Callable[..., object], *args: Any) -> None:
        """The same, cheaper: it cannot be cancelled."""
        self._count = count = self._count + 1
        heappush(self._heap, (self.now_s + delay_s, count, callback, args))

    def clear(self) -> None:
        """Forget everything that is yet to come."""
        self._heap.clear()

    def run_until(self, end_s: float) -> int:
        """Let time pass until `end_s` (since the beginning); say how many calls were made."""
        heap = self._heap
        end_s += START_S
        begin = self._count
        pending = len(heap)
        while heap and heap[0][0] <= end_s:
            self.now_s, _, callback, args = heappop(heap)
            callback(*args)
        self.now_s = max(self.now_s, end_s)
        return self._count - begin + pending - len(heap)
