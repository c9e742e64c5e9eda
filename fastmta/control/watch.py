"""What a running worker shows of itself: its log lines as they are written, and its counters.

Nobody pays while nobody watches. A reader that is slower than the log loses lines, and no worker:
what waits for it is bounded, and it is told how many lines it has not seen.
"""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

from fastmta.journal import Journal

from .desk import Handler
from .station import Result, Ticket
from .wire import ErrorCode, Refusal, Verb

TAILS_MAX: Final = 4  # of one worker
TAIL_OCTETS_MAX: Final = 2 << 20  # that wait for one reader
TAIL_PATIENCE_S: Final = 3_600.0  # with one that does not read: it may have been suspended
NEEDLES_MAX: Final = 20
_LOOK_S: Final = 0.25  # how often a tail looks whether it was cancelled


class Tail:
    """Lines for one reader, from when they are written to when it takes them."""

    def __init__(self, needles: Sequence[bytes], octets_max: int = TAIL_OCTETS_MAX) -> None:
        """Lines that hold one of `needles`; every line if there are none."""
        self._needles = tuple(needles)
        self._octets_max = octets_max
        self._blocks: deque[bytes] = deque()
        self._octets = 0
        self._dropped = 0
        self._has_some = asyncio.Event()

    def add(self, block: bytes, line_count: int) -> None:
        """The journal's tap."""
        if self._needles:
            block = lines_with(block, self._needles)
            line_count = block.count(b"\n")
        if not line_count:
            return
        if self._octets + len(block) > self._octets_max:
            self._dropped += line_count
        else:
            self._blocks.append(block)
            self._octets += len(block)
        self._has_some.set()

    async def wait(self, timeout_s: float) -> None:
        """Until there is something, or for that long."""
        try:
            await asyncio.wait_for(self._has_some.wait(), timeout_s)
        except TimeoutError:
            return

    def take(self) -> Result:
        """What there is; empty when there is nothing."""
        self._has_some.clear()
        if not self._blocks and not self._dropped:
            return {}
        lines = b"".join(self._blocks).decode("utf-8", "replace")
        told = {"lines": lines, "dropped": self._dropped}
        self._blocks.clear()
        self._octets = self._dropped = 0
        return told


class Watch:
    """Answers `tail` and `counters`."""

    def __init__(self, journal: Journal, lag_s: Callable[[], float], worker: int) -> None:
        """`lag_s`: how late the loop of the worker is, in seconds."""
        self._journal = journal
        self._worker = worker
        self._lag_s = lag_s
        self._tails = 0

    @property
    def verbs(self) -> dict[Verb, Handler]:
        """For the desk."""
        return {Verb.TAIL: self._tail, Verb.COUNTERS: self._counters}

    async def _tail(self, ticket: Ticket) -> Result:
        """Progress with nothing at once: lines are told from then on; it ends by a cancellation."""
        if self._tails >= TAILS_MAX:
            text = f"{TAILS_MAX} readers of the log are connected already"
            raise Refusal(ErrorCode.TEMPORARY, text)
        if len(ticket.request.ids) > NEEDLES_MAX:
            raise Refusal(ErrorCode.USAGE, f"at most {NEEDLES_MAX} texts to look for")
        tail = Tail([text.encode() for text in ticket.request.ids if text])
        ticket.patience_s = TAIL_PATIENCE_S
        self._tails += 1
        self._journal.tap(tail.add)
        try:
            await ticket.tell({"lines": "", "dropped": 0})
            while not ticket.is_cancelled:
                await tail.wait(_LOOK_S)
                if told := tail.take():
                    await ticket.tell(told)
        finally:
            self._journal.untap(tail.add)
            self._tails -= 1
        return {"is_cancelled": True}

    async def _counters(self, ticket: Ticket) -> Result:
        return {
            "worker": self._worker,
            "pid": os.getpid(),
            "counters": self._journal.counters.snapshot(),
            "loop_lag_s": round(self._lag_s(), 6),
        }


def lines_with(block: bytes, needles: Sequence[bytes]) -> bytes:
    """The lines of `block` that hold one of `needles`, in order."""
    found: dict[int, bytes] = {}
    for needle in needles:
        at = block.find(needle)
        while at >= 0:
            begin = block.rfind(b"\n", 0, at) + 1
            end = block.find(b"\n", at) + 1 or len(block)
            found[begin] = block[begin:end]
            at = block.find(needle, end)
    return b"".join(found[begin] for begin in sorted(found))
