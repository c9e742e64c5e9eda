"""Looking at mail must not hold up mail: what lists and sums may take of a worker that is busy.

Answers come at once until BURST_S of the index thread's time are used up. Whoever goes on asking
then gets SHARE of that thread while mail moves, however many ask: a command in a loop waits, and
the mail does not. Nobody waits on a worker that has nothing else to do.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence

from .station import Station

BURST_S = 0.4
SHARE = 0.02
REST_MAX_S = 1.0  # at once: by then the mail may have ended
BUSY_PER_S = 20  # messages and outcomes; fewer are no work


class Pace:
    """Of one worker, on its loop."""

    def __init__(
        self, stations: Sequence[Station], clock_s: Callable[[], float] = time.monotonic
    ) -> None:
        self._stations = stations
        self._clock_s = clock_s
        self._left_s = BURST_S
        self._at_s = clock_s()
        self._moved = self._moves()
        self._is_busy = False

    async def spent(self, seconds: float) -> None:
        """So much was used; return when there may be more."""
        rest_s = self.rest_s(seconds)
        if rest_s > 0:
            await asyncio.sleep(rest_s)

    def rest_s(self, seconds: float) -> float:
        """How long to wait after so much was used."""
        now_s = self._clock_s()
        passed_s = now_s - self._at_s
        if passed_s > 0:
            moved = self._moves()
            self._is_busy = moved - self._moved > BUSY_PER_S * passed_s
            self._at_s, self._moved = now_s, moved
        self._left_s = min(BURST_S, self._left_s + passed_s * SHARE) - seconds
        if not self._is_busy:
            self._left_s = max(self._left_s, 0.0)
        return min(-self._left_s / SHARE, REST_MAX_S) if self._left_s < 0 else 0.0

    def _moves(self) -> int:
        return sum(
            station.spool.statistics.accepted + station.spool.statistics.recorded
            for station in self._stations
        )
