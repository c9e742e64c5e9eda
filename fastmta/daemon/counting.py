"""The supervisor's part of metrics: the memory that workers count in, and the front desk.

The memory is made before any fork and handed on at restarts, so counts go on.
"""

from __future__ import annotations

import mmap
from collections.abc import Callable

from fastmta.config import Config
from fastmta.journal.block import BLOCK_OCTETS, Block, State, Word, blocks_of

from .attendant import LOOK_S
from .frontdesk import FrontDesk


class Counting:
    """One block for each worker; a front desk, if it is configured."""

    def __init__(self, config: Config, workers: int) -> None:
        """Raises BadStart: the front desk cannot listen."""
        self._memory = mmap.mmap(-1, BLOCK_OCTETS * workers)  # of which only what is used
        self.blocks = blocks_of(memoryview(self._memory), workers)
        self._front = FrontDesk(config, self.blocks) if config.metrics.bind else None

    def tell(self, say: Callable[[str], None]) -> None:
        """Say where there is something to see."""
        for address in self._front.addresses if self._front else ():
            say(f"fastmta: metrics on {address}")

    def start(self, on_fork: Callable[[], None]) -> None:
        """Start the front desk; `on_fork` closes in each new one what is not for it."""
        if self._front is not None:
            self._front.start(on_fork)

    def starting(self, index: int) -> Block:
        """Worker `index` is about to be forked: its block."""
        block = self.blocks[index]
        block.set(Word.STATE, State.STARTING)
        return block

    def started(self, index: int, pid: int) -> None:
        """It was forked."""
        self.blocks[index].set(Word.PID, pid)
        self.blocks[index].add(Word.STARTS)

    def worker_ended(self, index: int) -> None:
        """It was reaped."""
        self.blocks[index].set(Word.PID, 0)

    def close_front(self) -> None:
        """In a new process that is no front desk: nothing of it is for it."""
        if self._front is not None:
            self._front.close_all()

    def ended(self, pid: int, code: int) -> bool:
        """A process was reaped: whether it was the front desk."""
        return self._front is not None and self._front.ended(pid, code)

    def look(self) -> None:
        """To be called every `wait_s`."""
        if self._front is not None:
            self._front.look()

    def wait_s(self) -> float:
        """How long until the next `look`."""
        return 3600.0 if self._front is None else min(LOOK_S, self._front.wait_s())

    def close(self) -> None:
        """All workers have ended."""
        if self._front is not None:
            self._front.close()
