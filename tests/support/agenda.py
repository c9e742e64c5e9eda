"""Virtual time: a clock, and what is to be called when."""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush
from typing import Any

NS = 1_000_000_000
START_NS = 1_800_000_000 * NS


class Timer:
    """An entry of the world's agenda."""

    def __init__(self) -> None:
        self.is_cancelled = False

    def cancel(self) -> None:
        self.is_cancelled = True


class Agenda:
    """Clock and timers of the virtual time."""

    def __init__(self) -> None:
        self.now_s = 1_000.0
        self.wall_offset_ns = START_NS
        self.stepped_at_s = float("-inf")
        self._heap: list[tuple[float, int, Timer, Callable[..., object], tuple[Any, ...]]] = []
        self._count = 0

    def monotonic_s(self) -> float:
        return self.now_s

    def wall_ns(self) -> int:
        return self.wall_offset_ns + int((self.now_s - 1_000.0) * NS)

    def call_later(self, delay_s: float, callback: Callable[..., object], *args: Any) -> Timer:
        assert delay_s >= 0
        timer = Timer()
        self._count += 1
        heappush(self._heap, (self.now_s + delay_s, self._count, timer, callback, args))
        return timer

    def clear(self) -> None:
        """Forget every timer."""
        self._heap.clear()

    def run(self, duration_s: float, steps_max: int = 1_000_000) -> int:
        """Let `duration_s` pass; how many calls were made. Fails when that never ends."""
        end_s = self.now_s + duration_s
        steps = 0
        while self._heap and self._heap[0][0] <= end_s:
            at_s, _, timer, callback, args = heappop(self._heap)
            self.now_s = max(self.now_s, at_s)
            if not timer.is_cancelled:
                callback(*args)
                steps += 1
                assert steps < steps_max, "the scheduler does not come to rest"
        self.now_s = end_s
        return steps
