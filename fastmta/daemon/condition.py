"""How one worker is, for `fastmta status` and `healthcheck`: what it has at hand, no look-up."""

from __future__ import annotations

import asyncio
import os
import time
from collections import deque
from collections.abc import Callable, Sequence

from fastmta.control.station import Result

from .pressure import State
from .reception import Reception
from .shard import Shard
from .watchman import Watchman

_SAMPLE_S = 5.0
_SAMPLES = 13  # a minute, and the one before


class Condition:
    """Answers `status`."""

    def __init__(
        self,
        index: int,
        shards: Sequence[Shard],
        watchman: Watchman,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self._index = index
        self._shards = shards
        self._watchman = watchman
        self._loop = loop
        self._started_at_s = time.time()
        self._samples: deque[tuple[float, int, int]] = deque(maxlen=_SAMPLES)
        self._overrides: Callable[[], Sequence[str]] = list
        self._reception: Reception | None = None

    def start(self, reception: Reception, overrides: Callable[[], Sequence[str]]) -> None:
        """We serve; `overrides` names what operators have set."""
        self._reception, self._overrides = reception, overrides
        self._sample()

    def tell(self) -> Result:
        """Everything."""
        watchman, reception = self._watchman, self._reception
        readings = watchman.pressure.readings
        why_not = self._why_not()
        accepted_s, done_s = self._rates()
        return {
            "worker": self._index,
            "pid": os.getpid(),
            "started_at": round(self._started_at_s, 3),
            "is_ready": reception is not None,
            "is_accepting": reception is not None and not why_not,
            "why_not": why_not,
            "pressure": watchman.pressure.state.name.lower(),
            "connections": 0 if reception is None else reception.connection_count,
            "loop_lag_s": round(readings.loop_lag_s, 4),
            "flush_s": round(readings.flush_s, 4),
            "volume_free": round(readings.volume_free, 4),
            "memory_used": round(readings.memory_used, 4),
            "accepted_per_s": accepted_s,
            "recorded_per_s": done_s,
            "overrides": list(self._overrides()),
            "shards": [_shard(shard) for shard in self._shards],
        }

    def _why_not(self) -> str:
        watchman = self._watchman
        if watchman.is_draining:
            return "the server drains"
        if not all(shard.spool.is_healthy for shard in self._shards):
            return "the spool is not healthy"
        if watchman.pressure.state >= State.RED:
            return f"pressure is {watchman.pressure.state.name.lower()}: {watchman.cause}"
        return ""

    def _sample(self) -> None:
        self._loop.call_later(_SAMPLE_S, self._sample)
        self._samples.append(self._sums())

    def _sums(self) -> tuple[float, int, int]:
        statistics = [shard.spool.statistics for shard in self._shards]
        return (
            self._loop.time(),
            sum(one.accepted for one in statistics),
            sum(one.recorded for one in statistics),
        )

    def _rates(self) -> tuple[float, float]:
        """Messages accepted and outcomes recorded a second, over the last minute."""
        now = self._sums()
        then = self._samples[0] if self._samples else now
        span_s = max(now[0] - then[0], 1e-3)
        return round((now[1] - then[1]) / span_s, 2), round((now[2] - then[2]) / span_s, 2)


def _shard(shard: Shard) -> Result:
    spool, counts = shard.spool, shard.scheduler.counts
    outlook = shard.scheduler.standing.outlook
    return {
        "shard": shard.number,
        "is_healthy": spool.is_healthy,
        "is_indexed": spool.is_indexed,
        "durability": spool.options.durability.value,
        "messages": spool.live_count,
        "next_due_ns": outlook.next_ns if spool.live_count else None,
        "next_start_ns": outlook.due_ns if spool.live_count else None,
        "in_flight": counts.in_flight,
        "in_memory": counts.ram_jobs,
        "sites": counts.paths,
        "sites_closed": counts.paths_closed,
    }
