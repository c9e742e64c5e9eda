"""The supervisor's part of limits over workers: sockets to lease over, and a living broker."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import time
from collections.abc import Callable

from fastmta.budget.frame import gone
from fastmta.budget.ledger import Ledger

from .broker import broker_main, receive, send

LOOK_S = 1.0  # between two looks whether the broker is well
HUNG_S = 5.0  # without a beat, and it is killed: the next one knows what it has to wait for
_BACKOFF_FIRST_S = 0.2
_BACKOFF_MAX_S = 10.0
_STABLE_S = 60.0


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
        self._pid = 0  # 0: there is none
        self._leash_fd = -1
        self._beat_fd = -1
        self._started_at_s = self._beaten_at_s = self._looked_at_s = 0.0
        self._start_again_at_s = 0.0
        self._backoff_s = _BACKOFF_FIRST_S
        self._epoch = 0
        self._is_closed = False

    def start(self) -> None:
        """Fork a broker."""
        self._epoch += 1
        self._started_at_s = self._beaten_at_s = self._looked_at_s = now_s = time.monotonic()
        leash_fd, self._leash_fd = os.pipe2(os.O_CLOEXEC)
        self._beat_fd, beat_fd = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        absent = set(range(len(self._pairs))) - self._alive
        ledger = Ledger(
            len(self._pairs), self._epoch, now_s, is_first=self._epoch == 1, absent=absent
        )
        pid = os.fork()
        if pid:
            os.close(leash_fd)
            os.close(beat_fd)
            self._pid = pid
            return
        code = 70  # EX_SOFTWARE
        try:
            self._on_fork()
            os.close(self._leash_fd)
            os.close(self._beat_fd)
            for _, end in self._pairs:
                end.close()
            code = broker_main([end for end, _ in self._pairs], leash_fd, beat_fd, ledger)
        except BaseException:
            import traceback

            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(code)

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
        for fd in (self._leash_fd, self._beat_fd):
            if fd >= 0:
                os.close(fd)

    def worker_ended(self, index: int) -> None:
        """A worker was reaped: what it had leased is free."""
        self._alive.discard(index)
        send(self._pairs[index][1], gone(self._lives[index]))  # else its successor says so

    def ended(self, pid: int, code: int) -> bool:
        """A process was reaped. Whether it was the broker; another is started after a while."""
        if pid != self._pid:
            return False
        self._pid = 0
        self._close_pipes()
        if not self._is_closed:
            now_s = time.monotonic()
            if now_s - self._started_at_s > _STABLE_S:
                self._backoff_s = _BACKOFF_FIRST_S
            self._start_again_at_s = now_s + self._backoff_s
            sys.stderr.write(
                f"fastmta: the broker of limits over workers (pid {pid}) ended with {code}; "
                f"starting it again in {self._backoff_s:g} s\n"
            )
            sys.stderr.flush()
            self._backoff_s = min(self._backoff_s * 2, _BACKOFF_MAX_S)
        return True

    def look(self) -> None:
        """Start it when it is time, end one that hangs; to be called every `LOOK_S`."""
        now_s = time.monotonic()
        slept_s, self._looked_at_s = now_s - self._looked_at_s, now_s
        if not self._pid:
            if now_s >= self._start_again_at_s:
                self.start()
            return
        try:
            is_well = bool(os.read(self._beat_fd, 4096))
        except BlockingIOError:
            is_well = False
        if is_well or slept_s > 2 * LOOK_S:  # else it is us who stood still
            self._beaten_at_s = now_s
        elif now_s - self._beaten_at_s > HUNG_S:
            sys.stderr.write(
                f"fastmta: the broker of limits over workers (pid {self._pid}) hangs: killed\n"
            )
            self._beaten_at_s = now_s
            os.kill(self._pid, signal.SIGKILL)

    def wait_s(self) -> float:
        """How long until the next `look`."""
        if self._pid:
            return LOOK_S
        return max(0.0, min(LOOK_S, self._start_again_at_s - time.monotonic()))

    def close(self) -> None:
        """All workers have ended: it ends, too."""
        self._is_closed = True
        self._close_pipes()
        if self._pid:
            with contextlib.suppress(ChildProcessError):
                os.kill(self._pid, signal.SIGKILL)  # it has nothing to lose
                os.waitpid(self._pid, 0)
            self._pid = 0
        for pair in self._pairs:
            for end in pair:
                end.close()

    def _close_pipes(self) -> None:
        for fd in (self._leash_fd, self._beat_fd):
            if fd >= 0:
                os.close(fd)
        self._leash_fd = self._beat_fd = -1
