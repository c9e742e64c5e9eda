"""The supervisor's part of limits over workers: sockets to lease over, and a living broker."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable

from fastmta.budget.frame import gone
from fastmta.budget.ledger import Ledger

from .attendant import Attendant
from .broker import broker_main, receive, send


class Brokerage:
    """One socket pair for each worker, made before any fork, and a broker at their other ends.

    Both ends stay open here, so neither a broker nor a worker that dies takes messages with it. A
    worker is told apart from the one before it by its `life`. That a worker has ended is known here
    first, and for sure: its connections are closed when it can be reaped. So that is told for it.
    """

    def __init__(self, count: int, on_fork: Callable[[], None]) -> None:
        """`on_fork` closes in a new broker what is not for it."""
        self._on_fork = on_fork
        self._pairs = [socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
                       for _ in range(count)]  # fmt: skip
        for pair in self._pairs:
            for end in pair:
                end.setblocking(False)
        self._lives = [0] * count
        self._alive: set[int] = set()
        self._life = 0
        self._attendant = Attendant("the broker of limits over workers", self._run)
        self.start = self._attendant.start
        self.ended = self._attendant.ended
        self.look = self._attendant.look
        self.wait_s = self._attendant.wait_s

    def _run(self, leash_fd: int, beat_fd: int) -> int:
        """In the new process."""
        self._on_fork()
        for _, end in self._pairs:
            end.close()
        epoch = self._attendant.starts
        absent = set(range(len(self._pairs))) - self._alive
        ledger = Ledger(
            len(self._pairs), epoch, time.monotonic(), is_first=epoch == 1, absent=absent
        )
        return broker_main([end for end, _ in self._pairs], leash_fd, beat_fd, ledger)

    def lease_out(self, index: int) -> tuple[socket.socket, int]:
        """Worker `index` is about to be forked: its end of the pair, and its life."""
        self._life += 1
        self._lives[index] = self._life
        self._alive.add(index)
        end = self._pairs[index][1]
        while receive(end):  # for the one before it
            continue
        return end, self._life

    def keep_only(self, index: int) -> None:
        """In a worker that was just forked: close what is not for it."""
        for number, (ours, theirs) in enumerate(self._pairs):
            ours.close()
            if number != index:
                theirs.close()
        self._attendant.forget()

    def close_all(self) -> None:
        """In another new process: nothing of this is for it."""
        self.keep_only(-1)

    def worker_ended(self, index: int) -> None:
        """A worker was reaped: what it had leased is free."""
        self._alive.discard(index)
        send(self._pairs[index][1], gone(self._lives[index]))  # else its successor says so

    def close(self) -> None:
        """All workers have ended: it ends, too."""
        self._attendant.close()
        for pair in self._pairs:
            for end in pair:
                end.close()
