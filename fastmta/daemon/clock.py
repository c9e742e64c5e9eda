"""The clocks that the pure rooms are given, and what becomes of them when the wall clock is set.

All timers are monotonic. The queue has due times and ages on disk, though, which must outlive the
process: they are in *queue time*, which begins as the wall clock's and then runs with the monotonic
one. A step of the wall clock, at run time or while fastmta was stopped, does not move it: nothing
expires, nothing is delayed, nothing is due all at once. Header fields and the log have the wall
clock's time. When the queue has been empty for a while, queue time follows the wall clock again.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from fastmta.message.trace import message_date

NS = 1_000_000_000
STEP_NS = 60 * NS  # what the wall clock may be adjusted by at once; more is a step
_LONG_STOP_NS = 86_400 * NS  # over a reboot a step looks like a long stop: be careful
_SAVE_INTERVAL_S = 60.0
_EMPTY_S = 600.0  # an empty queue is one that stays so; one that is being rebuilt looks empty, too
_BOOT_ID = "/proc/sys/kernel/random/boot_id"
_BOOT_ID_CHARACTERS = 36
_UNKNOWN = "-"


class Moment(NamedTuple):
    """All clocks at one moment; kept on disk to tell a stop from a step."""

    boot_id: str  # of the machine: monotonic times of one start of it can be compared
    monotonic_ns: int
    queue_ns: int
    wall_ns: int


class QueueClock:
    """Queue time, monotonic time and the date for header fields."""

    __slots__ = (
        "_date", "_date_of_s", "_full_at_s", "_monotonic_ns", "_offset_ns", "_read_wall_ns",
        "_wall_offset_ns",
        "monotonic_s", "stepped_at_s",
    )  # fmt: skip

    def __init__(
        self,
        wall_ns: Callable[[], int] = time.time_ns,
        monotonic_ns: Callable[[], int] = time.monotonic_ns,
        monotonic_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._read_wall_ns = wall_ns
        self._monotonic_ns = monotonic_ns
        self.monotonic_s = monotonic_s  # called several times per message: without a frame of ours
        self._wall_offset_ns = wall_ns() - monotonic_ns()  # as last seen
        self._offset_ns = self._wall_offset_ns
        self._full_at_s = monotonic_s()  # when there was mail, as far as anybody looked
        self.stepped_at_s = float("-inf")  # monotonic; of the latest step of the wall clock
        self._date = b""
        self._date_of_s = -1

    def wall_ns(self) -> int:
        """Queue time: nanoseconds since the epoch, as far as the wall clock was right."""
        return self._monotonic_ns() + self._offset_ns

    def true_wall_ns(self) -> int:
        """What the wall clock says, for header fields."""
        return self._read_wall_ns()

    def date(self) -> bytes:
        """Date-time for a trace field by the wall clock, rendered once a second."""
        second = self._read_wall_ns() // NS
        if second != self._date_of_s:
            self._date_of_s = second
            self._date = message_date(second).encode("ascii")
        return self._date

    def moment(self, boot_id: str) -> Moment:
        """All clocks now."""
        monotonic_ns = self._monotonic_ns()
        queue_ns = monotonic_ns + self._offset_ns
        return Moment(boot_id, monotonic_ns, queue_ns, monotonic_ns + self._wall_offset_ns)

    def begin_at_least(self, newest_ns: int) -> str:
        """There is no `Moment`, but something was written at `newest_ns`; as `resume`."""
        step_ns = newest_ns - self.wall_ns()
        if step_ns <= STEP_NS:
            return ""
        self._offset_ns += step_ns
        self.stepped_at_s = self.monotonic_s()
        return _told(-step_ns, " while fastmta was stopped")

    def resume(self, saved: Moment, boot_id: str) -> str:
        """Go on from where an earlier process was; what is to be said about it, or ""."""
        now_ns, wall_ns = self._monotonic_ns(), self._monotonic_ns() + self._wall_offset_ns
        by_wall_ns = wall_ns - saved.wall_ns
        passed_ns = max(0, by_wall_ns)
        if saved.boot_id == boot_id != _UNKNOWN and now_ns >= saved.monotonic_ns:
            passed_ns = now_ns - saved.monotonic_ns
        elif passed_ns > _LONG_STOP_NS:
            self.stepped_at_s = self.monotonic_s()
        queue_ns = saved.queue_ns + passed_ns
        if abs(queue_ns - wall_ns) > STEP_NS:
            self._offset_ns = queue_ns - now_ns
        step_ns = by_wall_ns - passed_ns
        if abs(step_ns) <= STEP_NS:
            return ""
        self.stepped_at_s = self.monotonic_s()
        return _told(step_ns, " while fastmta was stopped")

    def look(self, is_queue_empty: bool) -> str:
        """Compare the clocks, about once a second; what is to be said about it, or ""."""
        wall_offset_ns = self._read_wall_ns() - self._monotonic_ns()
        step_ns = wall_offset_ns - self._wall_offset_ns
        self._wall_offset_ns = wall_offset_ns
        said = ""
        if abs(step_ns) > STEP_NS:
            self.stepped_at_s = self.monotonic_s()
            said = _told(step_ns, "")
        else:
            self._offset_ns += step_ns  # adjusted, not set: the queue follows
        now_s = self.monotonic_s()
        if not is_queue_empty:
            self._full_at_s = now_s
        elif now_s - self._full_at_s >= _EMPTY_S:
            self._offset_ns = wall_offset_ns
        return said


def _told(step_ns: int, when: str) -> str:
    return (
        f"the clock was set by {step_ns / NS:+.0f} s{when}: mail that waits keeps its time, and "
        "none expires for an hour"
    )


class ClockFile:
    """Where a worker keeps its latest `Moment`: one line of fixed length, overwritten in place.

    It is not flushed: after power loss it may be a minute old, which costs no more than that.
    """

    def __init__(self, shard: str) -> None:
        """`shard` is the directory of the worker's own shard."""
        self._shard = shard
        self._path = os.path.join(shard, "clock")
        self._saved_at_s = float("-inf")
        self._stepped_at_s = float("-inf")

    def read(self) -> Moment | None:
        """What was saved; None when there is nothing that can be used."""
        try:
            with open(self._path, encoding="ascii") as file:
                boot_id, *numbers = file.read(200).split()
            monotonic_ns, queue_ns, wall_ns = map(int, numbers)
        except (OSError, ValueError):
            return None
        return Moment(boot_id, monotonic_ns, queue_ns, wall_ns)

    def resume(self, clock: QueueClock) -> str:
        """Let `clock` go on from what was saved; what is to be said about it, or ""."""
        saved = self.read()
        if saved is not None:
            return clock.resume(saved, machine_boot_id())
        # Lost, or never there. The log may have been written later than it is now, they say.
        newest_ns = 0
        for path in Path(self._shard, "hot").glob("*.seg"):
            newest_ns = max(newest_ns, path.stat().st_mtime_ns)
        return clock.begin_at_least(newest_ns)

    def save_sometimes(self, clock: QueueClock) -> None:
        """Save once a minute, and at once after a step."""
        now_s = clock.monotonic_s()
        is_stepped = clock.stepped_at_s != self._stepped_at_s
        if is_stepped or now_s - self._saved_at_s >= _SAVE_INTERVAL_S:
            self._saved_at_s, self._stepped_at_s = now_s, clock.stepped_at_s
            self.save(clock)

    def save(self, clock: QueueClock) -> None:
        """Keep all clocks as they are now."""
        moment = clock.moment(machine_boot_id())
        text = f"{moment.boot_id:{_BOOT_ID_CHARACTERS}} {moment.monotonic_ns:020d} "
        text += f"{moment.queue_ns:020d} {moment.wall_ns:020d}\n"
        with contextlib.suppress(OSError):  # no room for a new file: the next time, perhaps
            fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                os.pwrite(fd, text.encode("ascii"), 0)
            finally:
                os.close(fd)


def machine_boot_id() -> str:
    """Which start of the machine this is; "-" where nobody says."""
    try:
        with open(_BOOT_ID, encoding="ascii") as file:
            return file.read(_BOOT_ID_CHARACTERS).strip() or _UNKNOWN
    except OSError:
        return _UNKNOWN
