"""How short we are of what we need: green, yellow, red or black. Pure: readings in, state out.

Each gauge looks at one reading and has three marks. It enters a worse state at once, and leaves it
when its reading has been a fifth better than the mark for `calm_s`. The worst gauge decides.

    state    what it means for mail                                 whose shortage it answers
    green    everything is taken
    yellow   large messages are answered 452; the trimmer is eager  soon
    red      MAIL is answered 452 4.3.1                             now
    black    connections are answered 421 4.3.2 and closed          nothing works without room

Delivery goes on in all of them: it makes room, and what it records needs none.
"""

from __future__ import annotations

import enum
from typing import NamedTuple

import msgspec

# What is open may still come to this many times what it was declared with, on the disk: the record,
# and the room that the log needs around it (Postfix refuses MAIL below the same multiple).
_VOLUME_FACTOR = 1.5
RELIEF = 0.2  # a mark is left when the reading is better than it by this part of it

Marks = tuple[float, float, float]  # yellow, red, black


class State(enum.IntEnum):
    """Ordered: a larger one is worse."""

    GREEN = 0
    YELLOW = 1
    RED = 2
    BLACK = 3


class Readings(msgspec.Struct, frozen=True, kw_only=True):
    """What was seen at one moment. The defaults are those of a machine without troubles."""

    volume_free: float = 1.0  # share of the blocks of the spool's volume
    volume_octets: int = 1 << 62  # free there
    inodes_free: float = 1.0  # share; 1.0 where there is no such limit
    memory_used: float = 0.0  # share of what we may have, anonymous pages only
    descriptors_used: float = 0.0  # share of RLIMIT_NOFILE
    loop_lag_s: float = 0.0  # how late the loop is, averaged over about a second
    flush_s: float = 0.0  # recent flushes of the log, or the age of one that does not end
    unindexed_octets: int = 0  # of the log
    is_spool_healthy: bool = True

    @property
    def spool_failed(self) -> float:
        """Health as a reading that rises with trouble."""
        return 0.0 if self.is_spool_healthy else 1.0


class Gauge(NamedTuple):
    """One reading and its marks; `text` says the reading in half a sentence."""

    reading: str
    marks: Marks
    text: str
    is_falling: bool = False  # trouble is below the marks, not above them
    is_calm_at_once: bool = False

    def level(self, value: float, relief: float = 0.0) -> State:
        """The state that `value` asks for, the marks being moved to the safe side by `relief`."""
        level = State.GREEN
        for state, mark in zip((State.YELLOW, State.RED, State.BLACK), self.marks, strict=True):
            if self.is_falling:
                is_beyond = value < mark * (1.0 + relief)
            else:
                is_beyond = value > mark * (1.0 - relief)
            if is_beyond:
                level = state
        return level


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """The marks of every gauge, as configured."""

    calm_s: float = 10.0
    volume_free: Marks = (0.15, 0.07, 0.03)
    memory_used: Marks = (0.70, 0.85, 0.93)
    descriptors_used: Marks = (0.70, 0.85, 0.93)
    loop_lag_s: Marks = (0.5, 2.0, 10.0)
    flush_s: Marks = (1.0, 5.0, 10.0)
    unindexed_octets: Marks = (128 * 2**20, 256 * 2**20, 1024 * 2**20)

    def gauges(self) -> tuple[Gauge, ...]:
        """The table that the state machine runs on."""
        falling = {"is_falling": True}
        return (
            Gauge("volume_free", self.volume_free, "{:.1%} of the volume is free", **falling),
            Gauge("inodes_free", self.volume_free, "{:.1%} of the inodes are free", **falling),
            Gauge("memory_used", self.memory_used, "{:.1%} of the memory is in use"),
            Gauge("descriptors_used", self.descriptors_used, "{:.1%} of the descriptors are open"),
            Gauge("loop_lag_s", self.loop_lag_s, "the event loop is {:.2f} s late"),
            Gauge("flush_s", self.flush_s, "a flush of the log takes {:.2f} s"),
            Gauge(
                "unindexed_octets", self.unindexed_octets, "{:.0f} octets of the log lack an index"
            ),
            Gauge(
                "spool_failed", (0.5, 0.5, 0.5), "the spool is not healthy", is_calm_at_once=True
            ),
        )


class Change(NamedTuple):
    """The state is another one from now on."""

    state: State
    reading: str  # that caused it
    text: str  # for the log


class _Needle:
    """Where one gauge stands."""

    __slots__ = ("_calm_s", "_calm_since_s", "_calm_to", "gauge", "level")

    def __init__(self, gauge: Gauge, calm_s: float) -> None:
        self.gauge = gauge
        self._calm_s = 0.0 if gauge.is_calm_at_once else calm_s
        self.level = State.GREEN
        self._calm_since_s: float | None = None
        self._calm_to = State.GREEN

    def move(self, value: float, now_s: float) -> None:
        entered, kept = self.gauge.level(value), self.gauge.level(value, RELIEF)
        if entered > self.level:
            self.level = entered
            self._calm_since_s = None
        elif kept >= self.level:
            self._calm_since_s = None
        else:
            if self._calm_since_s is None:
                self._calm_since_s, self._calm_to = now_s, kept
            self._calm_to = max(self._calm_to, kept)
            if now_s - self._calm_since_s >= self._calm_s:
                self.level = self._calm_to
                self._calm_since_s = None


class Pressure:
    """The state of one worker. `note` is to be called about twice a second.

    `promisable_octets` is what contents under way may be declared with, all together.
    """

    def __init__(self, limits: Limits) -> None:
        self.state = State.GREEN
        self.readings = Readings()  # the latest
        self.promisable_octets = _promisable(self.readings)
        self._needles = [_Needle(gauge, limits.calm_s) for gauge in limits.gauges()]
        self._worst = self._needles[0]

    def renew(self, limits: Limits) -> None:
        """Other marks hold from now on; where we stand shows with the next readings."""
        self._needles = [_Needle(gauge, limits.calm_s) for gauge in limits.gauges()]

    def note(self, readings: Readings, now_s: float) -> Change | None:
        """Take `readings` made at `now_s` (monotonic seconds); the change if there is one."""
        self.readings = readings
        self.promisable_octets = _promisable(readings)
        for needle in self._needles:
            needle.move(getattr(readings, needle.gauge.reading), now_s)
        worst = max(self._needles, key=lambda needle: needle.level)  # the first of equals
        state = worst.level
        if state == self.state:
            return None
        cause = worst if state > self.state else self._worst  # it gets better: what had been worst
        self.state, self._worst = state, worst
        value = getattr(readings, cause.gauge.reading)
        text = f"pressure is {state.name.lower()}: {cause.gauge.text.format(value)}; {_ACTS[state]}"
        return Change(state, cause.gauge.reading, text)


def _promisable(readings: Readings) -> int:
    """What clients may declare in all, by the room on the volume."""
    return int(readings.volume_octets / _VOLUME_FACTOR)


_ACTS = {
    State.GREEN: "all mail is taken",
    State.YELLOW: "large messages are answered 452",
    State.RED: "MAIL is answered 452",
    State.BLACK: "new connections are answered 421",
}
