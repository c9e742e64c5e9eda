"""First contacts: attempts at sites that have not answered yet, and may never.

A host that swallows packets keeps an attempt for as long as a connection may take to open. With a
thousand such hosts every slot would be with one of them, and mail to all others would stand still.
So an attempt at a site that has not proved that it is there hands its slot back when no host took
a connection in SILENT_S, or nothing came of it in HUNG_S; it goes on, and counts among the hung
ones. There may be only so many of these: while they are too many, no site is contacted for the
first time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from fastmta.message.attempt import Job

if TYPE_CHECKING:
    from .engine import Engine
    from .path import Path

SILENT_S = 0.3  # twice round the world; a thousand silent sites cost this much of a slot each
HUNG_S = 3.0
LOOK_S = 0.1  # between looks, while there are contacts


class Contacts:
    """Attempts at sites that are not proved, oldest first; and the paths that wait to try one."""

    __slots__ = ("_engine", "_hung", "_is_looking", "_line", "_young", "limit")

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.limit = 0  # of the hung ones
        self._young: dict[Job, Path] = {}  # in the order of their begins
        self._hung: set[Job] = set()
        self._line: dict[Callable[[], None], None] = {}
        self._is_looking = False

    @property
    def hung_count(self) -> int:
        """How many have no slot any more."""
        return len(self._hung)

    @property
    def may_begin(self) -> bool:
        """Whether one more may be tried."""
        return len(self._hung) < self.limit

    def wait(self, resume: Callable[[], None]) -> None:
        """Call `resume` when one may be tried; again is nothing."""
        self._line.setdefault(resume)

    def begin(self, job: Job, path: Path) -> None:
        """An attempt, in a slot."""
        job.is_connected = False
        self._young[job] = path
        if not self._is_looking:
            self._is_looking = True
            self._engine.ports.timers.call_later(LOOK_S, self._look)

    def end(self, job: Job) -> bool:
        """An attempt has ended; whether it was a contact that hung, and so is in no slot."""
        if job in self._young:
            del self._young[job]
            return False
        if job not in self._hung:
            return False
        self._hung.remove(job)
        while self._line and self.may_begin:
            resume = next(iter(self._line))
            del self._line[resume]
            resume()
        return True

    def _look(self) -> None:
        now_s = self._engine.ports.clock.monotonic_s()
        for job, path in list(self._young.items()):
            waited_s = now_s - job.started_at_s
            if waited_s < SILENT_S or not self.may_begin:
                break
            if job.is_connected and waited_s < HUNG_S:
                continue
            del self._young[job]
            self._hung.add(job)
            path.hang()
            self._engine.slots.give()
        self._is_looking = bool(self._young)
        if self._is_looking:
            self._engine.ports.timers.call_later(LOOK_S, self._look)
