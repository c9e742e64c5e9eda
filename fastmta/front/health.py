"""Whether the server lives, and whether it should be given mail."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from fastmta.journal.block import Block, State, Word

STALE_S = 3.0  # without a beat, which comes every half second: the worker stands still
HUNG_S = 60.0  # the same for so long: a restart is what is left
RED = 2  # of `Word.PRESSURE`: all mail is refused
_NS = 1_000_000_000


class WorkerHealth(NamedTuple):
    """One worker."""

    number: int
    is_alive: bool
    silent_s: float  # since its last beat
    reason: str  # why it should be given no mail; "" when it should


class Health(NamedTuple):
    """All of them."""

    workers: tuple[WorkerHealth, ...]

    @property
    def is_ready(self) -> bool:
        """Whether each worker lives, serves, and takes mail."""
        return not any(worker.reason for worker in self.workers)

    @property
    def reasons(self) -> list[str]:
        """Why not."""
        return [f"worker {one.number}: {one.reason}" for one in self.workers if one.reason]

    @property
    def is_alive(self) -> bool:
        """False when all have stood still for so long that only a restart can help."""
        return any(worker.silent_s < HUNG_S for worker in self.workers)


def judge(blocks: Sequence[Block], now_ns: int) -> Health:
    """As far as the words in front of the blocks tell; `now_ns` is monotonic."""
    return Health(tuple(_look(index, block, now_ns) for index, block in enumerate(blocks)))


def _look(index: int, block: Block, now_ns: int) -> WorkerHealth:
    state, pid = block.get(Word.STATE), block.get(Word.PID)
    if not pid:  # its supervisor is about to start another
        return WorkerHealth(index, False, 0.0, "not running")
    if state == State.STARTING:  # recovery may take its time, and must not be cut short
        return WorkerHealth(index, True, 0.0, "starting")
    silent_s = max(0, now_ns - block.get(Word.BEAT_NS)) / _NS
    is_alive = silent_s < STALE_S
    reason = ""
    if not is_alive:
        reason = f"no sign of life for {silent_s:.0f} s"
    elif state == State.DRAINING:
        reason = "stopping"
    elif not block.get(Word.IS_HEALTHY):
        reason = "its spool is unhealthy"
    elif block.get(Word.PRESSURE) >= RED:
        reason = "it refuses mail: short of something, see the log"
    return WorkerHealth(index, is_alive, silent_s, reason)
