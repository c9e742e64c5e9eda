"""The journal of one worker: takes events on the hot path, renders and writes them later."""

from collections.abc import Callable
from typing import NamedTuple, Protocol, TypeAlias

from fastmta.event import Event, Notice, Severity

from .anonymise import Anonymiser
from .counter import Counters
from .line import Heed, LineRenderer, Origin
from .record import RecordRenderer
from .writer import Lost

Emit: TypeAlias = Callable[[Event], None]
Counting: TypeAlias = Callable[[list[Event]], Emit]


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


Tap: TypeAlias = Callable[[bytes, int], None]  # a block of whole lines, and their number


class Outlets(NamedTuple):
    """What is written where; None: that is not wanted."""

    text: Output | None = None  # lines of Postfix's shape
    records: Output | None = None  # JSON lines
    anonymiser: Anonymiser | None = None


class Journal:
    """Collects events and writes them in batches.

    `emit` is the append of a list, nothing more: events get the time of the `flush` that follows,
    which the daemon calls about every 100 ms. Log lines have a resolution of one second.
    """

    __slots__ = (
        "_clock",
        "_outlets",
        "_outputs",
        "_pending",
        "_records",
        "_renderer",
        "_taps",
        "emit",
    )

    def __init__(
        self,
        output: Output | Outlets,
        clock: Callable[[], float],
        origin: Origin,
        heed: Heed | None = None,
        tap: Counting | None = None,
    ) -> None:
        """`clock` gives seconds since the epoch; `heed` gets, at each flush, what a postmaster may
        want to be told of: the class of the notice, and the line. `tap` is called once with the
        list of events that wait; what it returns appends to that, and counts. An `Output` alone is
        for text."""
        outlets = output if isinstance(output, Outlets) else Outlets(output)
        self._outlets = outlets
        self._outputs = [one for one in (outlets.text, outlets.records) if one is not None]
        self._clock = clock
        self._renderer = LineRenderer(origin, heed)  # it counts, whoever reads the lines
        self._records = None if outlets.records is None else RecordRenderer(origin)
        self._pending: list[Event] = []
        self._taps: list[Tap] = []
        self.emit: Emit = self._pending.append if tap is None else tap(self._pending)

    @property
    def counters(self) -> Counters:
        """Counts of all events flushed so far."""
        return self._renderer.counters

    def flush(self) -> None:
        """Render and hand over everything emitted so far. Cheap when there is nothing."""
        for output in self._outputs:
            lost = output.take_lost()
            if lost is not None:
                text = f"journal: {lost.line_count} log lines were lost: {lost.reason}"
                self.emit(Notice("master", text, Severity.WARNING))
        pending = self._pending
        if not pending:
            return
        now_s = self._clock()
        text_output, records_output, anonymiser = self._outlets
        events = pending if anonymiser is None else anonymiser.hide(pending)
        octets, line_count = self._renderer.render(events, int(now_s))
        if text_output is not None and line_count:
            text_output.write(octets, line_count)
        if records_output is not None:
            assert self._records is not None
            records_output.write(*self._records.render(events, now_s))
        pending.clear()
        for tap in self._taps if line_count else ():
            tap(octets, line_count)

    def tap(self, tap: Tap) -> None:
        """Give `tap` every block of text that is rendered from now on, wherever else it goes.

        It never waits and never raises.
        """
        self._taps.append(tap)

    def untap(self, tap: Tap) -> None:
        """No more of them."""
        self._taps.remove(tap)

    def reopen(self) -> None:
        """Continue in a new file of the same name, after a log rotation."""
        self.flush()
        for output in self._outputs:
            output.reopen()

    def close(self, deadline_s: float = 5.0) -> int:
        """Flush and write everything; returns the number of lines that could not be written."""
        self.flush()
        return sum(output.close(deadline_s) for output in self._outputs)
