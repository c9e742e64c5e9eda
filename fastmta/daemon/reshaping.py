"""Overrides of limits on the running system: read, handed to the schedulers, ended in time."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Protocol

from fastmta.config import Config
from fastmta.control.override import OverrideError, Overrides
from fastmta.control.overridefile import override_path, read_overrides
from fastmta.event import Event, Notice
from fastmta.scheduler import Scheduler
from fastmta.scheduler.port import Timer, Timers

from .sockets import BadStart

LOOK_S = 60.0  # a timer follows a wall clock that is set meanwhile within this time
_NS = 1_000_000_000


class Shaped(Protocol):
    """A shard."""

    scheduler: Scheduler


class Reshaper:
    """Keeps the schedulers of one worker to `overrides.json`."""

    def __init__(
        self,
        root: str,
        shards: Sequence[Shaped],
        wall_ns: Callable[[], int],
        timers: Timers,
        emit: Callable[[Event], None],
    ) -> None:
        """`wall_ns` is the true wall clock: ends are times of day."""
        self._root = root
        self._shards = shards
        self._wall_ns = wall_ns
        self._timers = timers
        self._emit = emit
        self._all = Overrides()  # as the file has them
        self._live = Overrides()  # those that have not ended: the schedulers have these
        self._timer: Timer | None = None

    def start(self) -> None:
        """Before anything is delivered. Raises BadStart."""
        try:
            self.reload()
        except OverrideError as error:
            raise BadStart(str(error)) from None

    def reload(self) -> int:
        """Do as the file says now; how many overrides are in force. Raises OverrideError: nothing
        has changed."""
        self._all = read_overrides(self._root)
        self._apply()
        return len(self._live.shapes)

    def renew(self) -> None:
        """The configuration's own limits are others: the overrides stand beside those."""
        self._shape()

    def close(self) -> None:
        """Let them be as they are."""
        if self._timer is not None:
            self._timer.cancel()

    def _apply(self) -> None:
        now_s = self._wall_ns() / _NS
        live = self._all.at(now_s)
        if live != self._live:
            self._live = live
            self._shape()
        self.close()
        end_s = live.next_end_s
        if end_s is not None:
            self._timer = self._timers.call_later(min(end_s - now_s, LOOK_S), self._look)

    def _shape(self) -> None:
        shapes = [override.shape(name) for name, override in self._live.shapes.items()]
        for shard in self._shards:
            shard.scheduler.shape(shapes)

    @property
    def in_force(self) -> Sequence[str]:
        """What operators have set, by name."""
        return list(self._live.shapes)

    def _look(self) -> None:
        """The time of one may be over."""
        before = self._live.shapes
        self._apply()
        for name in before:
            if name not in self._live.shapes:
                self._emit(Notice("qmgr", f"{name}: its time is over ({before[name].effect})"))


def try_overrides(config: Config) -> list[str]:
    """Whether the overrides can be read by whoever may read them: no warnings. Raises BadStart."""
    root = config.spool.directory
    path = override_path(root)
    if os.path.exists(path) and os.access(path, os.R_OK):
        try:
            read_overrides(root)
        except OverrideError as error:
            raise BadStart(str(error)) from None
    return []
