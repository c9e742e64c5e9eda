"""The trimmer: decides which segment is copied to the cold log, and when. Loop thread only.

A segment without live messages goes back at once, by the next commit of the index. The trimmer is
for the others: while the logs take much more room than what is live in them, the oldest segment of
one log, that with the smaller live part, is trimmed, step by step and not too fast. A segment of
which a flush failed is evacuated first.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from fastmta.event import Event, Notice, Severity

from .indexer import Indexer
from .layout import Layout
from .ledger import Ledger
from .rows import Move
from .segment import COLD_BASE, Logs, Segment, SegmentTable
from .statistic import Statistics
from .trim import Step, Trim

# Disk is at most live octets / 0.25 and 8 segments; these leave room to get there in time.
LIVE_FACTOR = 1.6
LIVE_FACTOR_PRESSED = 1.15  # short of space
SLACK_SEGMENTS = 4
SLACK_SEGMENTS_PRESSED = 2
HURRY_FACTOR = 3.0  # beyond this there is no pause between steps
RATE_OCTETS = 20 * 1024 * 1024  # a second, copied
PAUSE_S = 0.002  # at least, between two steps
AGAIN_S = 1.0  # after the disk refused something
FAILED_S = 60.0  # ... before the same segment is tried again


class Trimmer:
    """At most one segment is being trimmed at a time."""

    def __init__(
        self,
        logs: Logs,
        ledger: Ledger,
        indexer: Indexer,
        layout: Layout,
        statistics: Statistics,
        cold_end: int,
    ) -> None:
        self.is_pressed = False  # short of space: trim what gives anything back
        self.cold_end = cold_end  # durable
        self._logs, self._ledger, self._indexer = logs, ledger, indexer
        self._layout, self._statistics = layout, statistics
        self._trim: Trim | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._evacuated: set[Segment] = set()  # what is still live of them cannot be read
        self._failed: dict[Segment, float] = {}  # when to try again

    def attach(
        self,
        loop: asyncio.AbstractEventLoop,
        emit: Callable[[Event], None],
        on_moved: Callable[[], None],
    ) -> None:
        """Work on `loop`; `on_moved` is called when the index has something to commit."""
        self._loop, self._emit, self._on_moved = loop, emit, on_moved

    @property
    def is_active(self) -> bool:
        """Whether a segment is being trimmed."""
        return self._trim is not None

    def consider(self, checkpoint: int, is_cold_void: bool) -> None:
        """Begin with a segment if that is due; `checkpoint` is that of the index."""
        if self._trim is not None or self._timer is not None:
            return
        segment = self._choose(checkpoint, is_cold_void)
        if segment is None:
            return
        table = self._logs.hot if segment.base < COLD_BASE else self._logs.cold
        is_evacuation = segment.is_suspect and segment is not next(iter(table))
        self._trim = Trim(segment, table, self._layout, self._emit_soon, is_evacuation)
        self._go_on()

    def stop(self) -> None:
        """The index is gone, or the shard is closed: what is under way comes to nothing."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._trim = None

    def stepped(self, trim: Trim, step: Step) -> None:
        """The index thread has done a step."""
        if trim is not self._trim:
            return
        self.cold_end = step.cold_end
        self._ledger.moved(step.moves)
        self._statistics.trimmed_octets += step.octets
        if step.is_done:
            self._trim = None
            if trim.is_evacuation:
                self._evacuated.add(trim.segment)
            else:
                trim.segment.is_trimmed = True
            self._statistics.segments_trimmed += 1
        else:
            wait_s = 0.0 if self._is_urgent() else max(step.octets / RATE_OCTETS, PAUSE_S)
            self._timer = self._loop.call_later(wait_s, self._resume)
        if step.moves or step.is_done:
            self._on_moved()

    def failed(self, trim: Trim, problem: Exception | None) -> None:
        """A step came to nothing; None: there was no segment to write to. It begins anew later."""
        if trim is not self._trim:
            return
        self._trim = None
        self._ledger.moved(())
        if problem is not None:
            text = f"{trim.segment.path} could not be trimmed: {problem}"
            self._emit(Notice("spool", text, Severity.WARNING))
            self._failed[trim.segment] = self._loop.time() + FAILED_S
        self._timer = self._loop.call_later(AGAIN_S, self._resume)

    def settled(self, moves: list[Move]) -> None:
        """The index has the new places."""
        self._ledger.settled(moves)

    def _emit_soon(self, event: Event) -> None:
        """Emit from the index thread."""
        self._loop.call_soon_threadsafe(self._emit, event)

    def _resume(self) -> None:
        self._timer = None
        if self._trim is not None:
            self._go_on()
        else:
            self._on_moved()

    def _go_on(self) -> None:
        assert self._trim is not None
        self._ledger.watch()
        self._indexer.trim(self._trim)

    def _choose(self, checkpoint: int, is_cold_void: bool) -> Segment | None:
        hot = _head(self._logs.hot)
        cold = _head(self._logs.cold)
        self._forget()
        for segment in self._logs.hot:
            if (
                segment.is_suspect
                and segment.live
                and segment.end <= checkpoint
                and not segment.is_trimmed
                and segment not in self._evacuated
                and segment not in self._failed
            ):
                return segment
        if hot is not None and (
            hot.end > checkpoint or hot.is_trimmed or not (hot.live or not is_cold_void)
        ):
            hot = None
        if cold is not None and (cold.is_trimmed or not cold.live):
            cold = None
        if hot is not None and not hot.live and hot.strays != []:
            return hot  # it costs next to nothing and gives a whole segment back
        heads = [each for each in (hot, cold) if each and each.live and each not in self._failed]
        if not heads or not self._is_due():
            return None
        return min(heads, key=_live_part)

    def _forget(self) -> None:
        """Segments that were given back, and failures of some time ago."""
        now_s, segments = self._loop.time(), set(self._logs.hot) if self._evacuated else set()
        self._evacuated &= segments
        for segment in [each for each, until_s in self._failed.items() if until_s <= now_s]:
            del self._failed[segment]

    def _is_due(self) -> bool:
        if self.is_pressed:
            return self._is_over(LIVE_FACTOR_PRESSED, SLACK_SEGMENTS_PRESSED)
        return self._is_over(LIVE_FACTOR, SLACK_SEGMENTS)

    def _is_urgent(self) -> bool:
        return self.is_pressed or self._is_over(HURRY_FACTOR, SLACK_SEGMENTS)

    def _is_over(self, factor: float, slack: int) -> bool:
        logs = self._logs
        last = logs.hot.last
        unit = last.size_octets if last is not None else 0
        return logs.octets() > factor * logs.live_octets() + slack * unit


def _head(table: SegmentTable) -> Segment | None:
    """The oldest segment, unless it is the one in use."""
    head = next(iter(table), None)
    return None if head is table.last else head


def _live_part(segment: Segment) -> float:
    return segment.live_octets / segment.size_octets
