"""Which next hop has mail due when: one heap, one timer."""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush

from .hop import Hop
from .port import Clock, Timer, Timers
from .retry import NS

WAKES_PER_TURN = 50  # a restart with many hops must not flood DNS and index at once
TURN_S = 0.02


class DueTimes:
    """Calls `wake(hop)` when the earliest known due time of a hop has come.

    Each hop keeps only its earliest time; later ones are found by the fetch that follows.
    """

    __slots__ = ("_armed_ns", "_clock", "_count", "_heap", "_timer", "_timers", "_wake")

    def __init__(self, clock: Clock, timers: Timers, wake: Callable[[Hop], None]) -> None:
        self._clock = clock
        self._timers = timers
        self._wake = wake
        self._heap: list[tuple[int, int, Hop]] = []
        self._count = 0  # so that two entries of one time never compare hops
        self._timer: Timer | None = None
        self._armed_ns = 0

    def note(self, hop: Hop, due_at_ns: int, *, is_mail: bool = True) -> None:
        """Mail of `hop` is due then (or it already is); `is_mail` False: perhaps, look then."""
        if is_mail and (hop.mail_due_ns is None or due_at_ns < hop.mail_due_ns):
            hop.mail_due_ns = due_at_ns
        known_ns = hop.due_at_ns
        if known_ns is not None and known_ns <= due_at_ns:
            return
        hop.due_at_ns = due_at_ns
        self._count += 1
        heappush(self._heap, (due_at_ns, self._count, hop))
        if self._timer is None or due_at_ns < self._armed_ns:
            self._arm(due_at_ns)

    def _arm(self, due_at_ns: int, least_s: float = 0.0) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._armed_ns = due_at_ns
        delay_s = max((due_at_ns - self._clock.wall_ns()) / NS, least_s)
        self._timer = self._timers.call_later(delay_s, self._run)

    def _run(self) -> None:
        self._timer = None
        now_ns = self._clock.wall_ns()
        heap = self._heap
        count = 0
        while heap and heap[0][0] <= now_ns and count < WAKES_PER_TURN:
            due_at_ns, _, hop = heappop(heap)
            if hop.due_at_ns != due_at_ns:
                continue  # an earlier time took its place
            hop.due_at_ns = None
            if hop.mail_due_ns is not None and hop.mail_due_ns <= now_ns:
                hop.mail_due_ns = None
            count += 1
            self._wake(hop)
        if heap:
            self._arm(heap[0][0], TURN_S if count == WAKES_PER_TURN else 0.0)
