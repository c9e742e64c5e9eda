"""What is done when a write or a flush of the log fails.

1. The group is not acknowledged and its file is never written again: after a failed flush nobody
   knows what of it is on the disk, and a second flush of the same file says nothing about that.
2. The group goes to another segment, whose header says where the log ended in the failed one. That
   one stays readable: all that was durable in it still is.
3. Durable there, its owners are told as usual. If that fails as well, or no segment gets ready
   within SPARE_WAIT_S, they and all who wait get the error, and nothing is written any more.
4. The spool takes no mail and delivers none until `clean_s` have passed in which everything that
   was written, if only an empty group now and then, was flushed without an error.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from typing import Protocol

from fastmta.event import Event, Notice, Severity

from .health import Health, HealthState
from .problem import SpoolError
from .segment import Segment

SPARE_WAIT_S = 5.0
PROBES = 60  # in `clean_s`


class Writing(Protocol):
    """What it needs of the writer."""

    def write_anew(self) -> bool:
        """Send the group that failed to another segment. False: none is ready."""

    def probe(self) -> None:
        """Write an empty group unless there is something better to write."""

    def fail(self, failure: SpoolError) -> None:
        """Refuse the group that failed and all that waits; write nothing any more."""


class Rescue:
    """The procedure for one shard. Loop thread only."""

    def __init__(self, writer: Writing, clean_s: float, emit: Callable[[Event], None]) -> None:
        self.health = Health(clean_s)
        self._writer = writer
        self._clean_s = clean_s
        self._emit = emit
        self._loop: asyncio.AbstractEventLoop | None = None
        self._on_change: Callable[[str], None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._failed_path = ""

    def attach(
        self, loop: asyncio.AbstractEventLoop, on_change: Callable[[str], None] | None
    ) -> None:
        """Work on `loop`; `on_change` is told why the spool is not healthy, "" when it is."""
        self._loop, self._on_change = loop, on_change

    def fault(self, segment: Segment, code: int) -> None:
        """A group could not be written to `segment` or flushed: `code` is the errno."""
        loop, health = self._running, self.health
        segment.is_suspect = True
        cause = os.strerror(code)
        self._stop_timer()
        if health.state in (HealthState.RESCUING, HealthState.FAILED):
            after = f" after {self._failed_path}" if self._failed_path else ""
            self._lose(f"{segment.path}{after}: {cause}")
            return
        self._failed_path = segment.path
        health.fault(loop.time())
        self._say(
            f"{segment.path} could not be written or flushed: {cause}. Nothing of that group was "
            "acknowledged; it goes to another segment, and this file is not written again",
            Severity.ERROR,
        )
        self._tell(f"the spool is not healthy: {segment.path}: {cause}")
        if not self._writer.write_anew():
            self._say(f"no segment is ready: waiting for one up to {SPARE_WAIT_S:.0f} s")
            self._timer = loop.call_later(SPARE_WAIT_S, self._find_none)

    def spare_is_ready(self) -> None:
        """A segment has become available."""
        if self._is_waiting and self._writer.write_anew():
            self._stop_timer()

    def written(self) -> None:
        """A group is durable; only to be called while the spool is not healthy."""
        loop, health = self._running, self.health
        now_s = loop.time()
        if health.state is HealthState.RESCUING:
            text = f"what {self._failed_path} did not take is durable in another segment"
            if not health.rescued(now_s):
                self._say(
                    f"{text}; this is not the first time within an hour: no mail is taken or "
                    "delivered until fastmta is started again. Look at the disk first",
                    Severity.ERROR,
                )
                return
            self._say(
                f"{text}; no mail is taken or delivered until {self._clean_s:g} s have passed "
                "without another error"
            )
            self._timer = loop.call_later(self._clean_s / PROBES, self._probe)
        elif health.proved(now_s):
            self._stop_timer()
            self._say(f"no error for {self._clean_s:g} s: taking mail and delivering again")
            self._tell("")

    def lost(self, reason: str) -> None:
        """The writer has ended, for whatever reason."""
        self._stop_timer()
        self.health.lost()
        self._tell(reason)

    def close(self) -> None:
        """Do nothing any more."""
        self._stop_timer()

    @property
    def _is_waiting(self) -> bool:
        return self.health.state is HealthState.RESCUING and self._timer is not None

    @property
    def _running(self) -> asyncio.AbstractEventLoop:
        if self._loop is None:
            raise RuntimeError("the spool is not attached to a loop")
        return self._loop

    def _probe(self) -> None:
        self._timer = self._running.call_later(self._clean_s / PROBES, self._probe)
        self._writer.probe()

    def _find_none(self) -> None:
        self._lose(f"{self._failed_path}: no other segment got ready")

    def _lose(self, text: str) -> None:
        failure = SpoolError(f"the log could not be written: {text}")
        self._writer.fail(failure)
        self._say(f"{failure}; what was not durable was refused", Severity.FATAL)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _say(self, text: str, severity: Severity = Severity.WARNING) -> None:
        self._emit(Notice("spool", text, severity))

    def _tell(self, reason: str) -> None:
        if self._on_change is not None:
            self._on_change(reason)
