"""Looks at what a worker is short of, twice a second, and tells everybody whom it concerns."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from fastmta.event import Event, Notice, Severity

from .clock import ClockFile, QueueClock
from .pressure import Pressure, State
from .probe import Probe
from .reception import Reception
from .shard import Shard

_INTERVAL_S = 0.5  # intake is to stop within a second of a mark


class Watchman:
    """Owns the pressure of one worker; its `readings` are what a status shows."""

    def __init__(
        self,
        pressure: Pressure,
        probe: Probe,
        shards: Sequence[Shard],
        loop: asyncio.AbstractEventLoop,
        emit: Callable[[Event], None],
        on_failed: Callable[[str], None],
        clocks: tuple[QueueClock, ClockFile],
    ) -> None:
        self.pressure = pressure
        self._probe = probe
        self._shards = shards
        self._loop = loop
        self._emit = emit
        self._on_failed = on_failed
        self._clock, self._clock_file = clocks
        self.is_draining = False
        self.cause = ""  # of the state that pressure is in

    def start(self, reception: Reception) -> None:
        """Look from now on, the first time at once."""
        self._reception = reception
        self._probe.start()
        self._look()

    def _look(self) -> None:
        self._loop.call_later(_INTERVAL_S, self._look)  # first: it goes on whatever happens
        now_s = self._loop.time()
        change = self.pressure.note(self._probe.read(now_s), now_s)
        if change is not None:
            severity = Severity.WARNING if change.state else Severity.INFO
            self._emit(Notice("master", change.text, severity))
            self.cause = change.text.partition(": ")[2].rpartition("; ")[0]
            for shard in self._shards:
                shard.spool.is_pressed = change.state >= State.YELLOW
            self._shut()
        if self.is_draining:
            self._reception.send_away()
        self._look_at_the_clock()
        for shard in self._shards:
            if shard.spool.has_failed:
                self._on_failed(f"shard {shard.number}: the spool failed")

    def drain(self, is_draining: bool) -> None:
        """Whether an operator wants no new mail to be taken."""
        if is_draining is not self.is_draining:
            self.is_draining = is_draining
            text = "is not taken: the server drains" if is_draining else "is taken again"
            self._emit(Notice("master", f"new mail {text}"))
            self._shut()

    def _shut(self) -> None:
        is_shut = self.is_draining or self.pressure.state is State.BLACK
        self._reception.shut(is_shut, self.is_draining)

    def _look_at_the_clock(self) -> None:
        is_empty = not any(shard.spool.live_count for shard in self._shards)
        said = self._clock.look(is_empty)
        if said:
            self._emit(Notice("master", said, Severity.WARNING))
        self._clock_file.save_sometimes(self._clock)
