"""Takes the readings that `Pressure` judges. Everything here costs microseconds."""

from __future__ import annotations

import asyncio
import os
import resource
from collections.abc import Callable, Sequence
from typing import Protocol

from fastmta.spool.statistic import Statistics

from .memory import Memory
from .pressure import Readings

_LAG_INTERVAL_S = 0.1
_LAG_WEIGHT = 0.1  # of the newest of ten in a second
_FLUSH_WEIGHT = 0.5  # of what was flushed since the last look
_DESCRIPTORS = "/proc/self/fd"


class Watched(Protocol):
    """What is read off a spool."""

    statistics: Statistics

    @property
    def is_healthy(self) -> bool: ...
    @property
    def is_flushing(self) -> bool: ...
    @property
    def unindexed_octets(self) -> int: ...


class FlushMeter:
    """How long flushes of one spool take: those that ended lately, or the one that does not end."""

    __slots__ = ("_flying", "_flying_since_s", "_groups", "_ns", "_recent_s", "_spool")

    def __init__(self, spool: Watched) -> None:
        self._spool = spool
        self._groups = spool.statistics.groups
        self._ns = spool.statistics.flush_ns
        self._recent_s = 0.0
        self._flying = -1  # number of groups before the one in flight at the last look
        self._flying_since_s = 0.0

    def read(self, now_s: float) -> float:
        """Seconds."""
        statistics = self._spool.statistics
        groups, ns = statistics.groups - self._groups, statistics.flush_ns - self._ns
        self._groups, self._ns = statistics.groups, statistics.flush_ns
        mean_s = ns * 1e-9 / groups if groups else 0.0
        self._recent_s += _FLUSH_WEIGHT * (mean_s - self._recent_s)
        flying = self._groups if self._spool.is_flushing else -1
        if flying != self._flying or flying < 0:
            self._flying, self._flying_since_s = flying, now_s
        return max(self._recent_s, now_s - self._flying_since_s)


class LagMeter:
    """How late the loop calls back, averaged over about a second."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, told: Callable[[float], object] | None = None
    ) -> None:
        """`told` hears of each measurement."""
        self._loop = loop
        self._told = told
        self.lag_s = 0.0

    def start(self) -> None:
        """Measure from now on."""
        self._arm()

    def _arm(self) -> None:
        due_s = self._loop.time() + _LAG_INTERVAL_S
        self._loop.call_later(_LAG_INTERVAL_S, self._called, due_s)

    def _called(self, due_s: float) -> None:
        late_s = max(0.0, self._loop.time() - due_s)
        self.lag_s += _LAG_WEIGHT * (late_s - self.lag_s)
        if self._told is not None:
            self._told(late_s)
        self._arm()


class Probe:
    """Reads what one worker has and needs."""

    def __init__(
        self, volume: str, spools: Sequence[Watched], memory: Memory, lag: LagMeter
    ) -> None:
        self._volume = volume
        self._spools = spools
        self._memory = memory
        self._lag = lag
        self._flushes = [FlushMeter(spool) for spool in spools]

    def start(self) -> None:
        """Measure what can only be measured over time."""
        self._lag.start()

    def read(self, now_s: float) -> Readings:
        """All readings at `now_s` (monotonic seconds)."""
        free, octets, inodes = read_volume(self._volume)
        return Readings(
            volume_free=free,
            volume_octets=octets,
            inodes_free=inodes,
            memory_used=self._memory.used(),
            descriptors_used=open_descriptors() / resource.getrlimit(resource.RLIMIT_NOFILE)[0],
            loop_lag_s=self._lag.lag_s,
            flush_s=max(meter.read(now_s) for meter in self._flushes),
            unindexed_octets=sum(spool.unindexed_octets for spool in self._spools),
            is_spool_healthy=all(spool.is_healthy for spool in self._spools),
        )


def read_volume(path: str) -> tuple[float, int, float]:
    """(free share, free octets, free share of inodes) of the volume at `path`.

    All 0 when it cannot be looked at: such a volume takes no mail. What is kept back for the
    superuser does not count as free.
    """
    try:
        volume = os.statvfs(path)
    except OSError:
        return 0.0, 0, 0.0
    free = volume.f_bavail / volume.f_blocks if volume.f_blocks else 1.0
    inodes = volume.f_favail / volume.f_files if volume.f_files else 1.0
    return free, volume.f_bavail * volume.f_frsize, inodes


def open_descriptors() -> int:
    """How many this process has. Linux 6.2 and later tell it as a size, others by listing them."""
    try:
        return os.stat(_DESCRIPTORS).st_size or len(os.listdir(_DESCRIPTORS))
    except OSError:  # none is left to look with
        return resource.getrlimit(resource.RLIMIT_NOFILE)[0]
