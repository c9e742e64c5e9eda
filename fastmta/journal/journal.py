"""The journal of one worker: takes events on the hot path, renders and writes them later."""

from collections.abc import Callable
from typing import Protocol

from fastmta.event import Event, Notice, Severity

from .counter import Counters
from .line import Heed, LineRenderer, Origin
from .writer import Lost


class Output(Protocol):
    """Where blocks of lines go; `Writer` is one."""

    def write(self, octets: bytes, line_count: int) -> None:
        """Take a block of whole lines; never waits."""

    def take_lost(self) -> Lost | None:
        """Lines dropped since the last call."""

    def reopen(self) -> None:
        """Open the file anew."""

    def close(self, deadline_s: float) -> int:
        """Write the rest; returns the number of lines that were not written."""


class Journal:
    """Collects events and writes them in batches.

    `emit` is the append of a list, nothing more: events get the time of the `flush` that follows,
    which the daemon calls about every 100 ms. Log lines have a resolution of one second.
    """

    __slots__ = ("_clock", "_output", "_pending", "_renderer", "emit")

    def __init__(
        self,
        output: Output,
        clock: Callable[[], float],
        origin: Origin,
        heed: Heed | None = None,
    ) -> None:
        """`clock` gives seconds since the epoch; `heed` gets, at each flush, what a postmaster may
        want to be told of: the class of the notice, and the line."""
        self._output = output
        self._clock = clock
        self._renderer = LineRenderer(origin, heed)
        self._pending: list[Event] = []
        self.emit: Callable[[Event], None] = self._pending.append

    @property
    def counters(self) -> Counters:
        """Counts of all events flushed so far."""
        return self._renderer.counters

    def flush(self) -> None:
        """Render and hand over everything emitted so far. Cheap when there is nothing."""
        lost = self._output.take_lost()
        if lost is not None:
            text = f"journal: {lost.line_count} log lines were lost: {lost.reason}"
            self.emit(Notice("master", text, Severity.WARNING))
        pending = self._pending
        if not pending:
            return
        octets, line_count = self._renderer.render(pending, int(self._clock()))
        pending.clear()
        self._output.write(octets, line_count)

    def reopen(self) -> None:
        """Continue in a new file of the same name, after a log rotation."""
        self.flush()
        self._output.reopen()

    def close(self, deadline_s: float = 5.0) -> int:
        """Flush and write everything; returns the number of lines that could not be written."""
        self.flush()
        return self._output.close(deadline_s)
