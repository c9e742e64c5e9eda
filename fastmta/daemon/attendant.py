"""A process beside the workers that no mail goes through: started, watched, and started again.

It has a leash, a pipe that ends when the supervisor does, and a pipe for its beats: one octet a
second says that it is well. One that ends is started again after a while, one that hangs is killed.
Nothing of it may disturb the mail.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator

LOOK_S = 1.0  # between two looks whether it is well
HUNG_S = 5.0  # without a beat, and it is killed: the next one knows what it has to wait for
_BACKOFF_FIRST_S = 0.2
_BACKOFF_MAX_S = 10.0
_STABLE_S = 60.0
_NAME_OCTETS = 15  # that the kernel takes

Main = Callable[[int, int], int]  # of its leash and the pipe for its beats; the exit code


class Attendant:
    """Keeps one process running, from the supervisor's loop."""

    def __init__(self, what: str, main: Main) -> None:
        """`what` is what log lines call it; `main` is called in the new process, and closes there
        what is not for it."""
        self._what = what
        self._main = main
        self.starts = 0
        self._pid = 0  # 0: there is none
        self._leash_fd = -1
        self._beat_fd = -1
        self._started_at_s = self._beaten_at_s = self._looked_at_s = 0.0
        self._start_again_at_s = 0.0
        self._backoff_s = _BACKOFF_FIRST_S
        self._is_closed = False

    def start(self) -> None:
        """Fork."""
        self.starts += 1
        self._started_at_s = self._beaten_at_s = self._looked_at_s = time.monotonic()
        leash_fd, self._leash_fd = os.pipe2(os.O_CLOEXEC)
        self._beat_fd, beat_fd = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        pid = os.fork()
        if pid:
            os.close(leash_fd)
            os.close(beat_fd)
            self._pid = pid
            return
        code = 70  # EX_SOFTWARE
        try:
            self.forget()
            code = self._main(leash_fd, beat_fd)
        except BaseException:
            import traceback

            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(code)

    def forget(self) -> None:
        """In any new process: close our ends, or it would not see the supervisor's end."""
        for fd in self._pipes():
            os.close(fd)

    def ended(self, pid: int, code: int) -> bool:
        """A process was reaped. Whether it was this one; another is started after a while."""
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
                f"fastmta: {self._what} (pid {pid}) ended with {code}; "
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
            sys.stderr.write(f"fastmta: {self._what} (pid {self._pid}) hangs: killed\n")
            self._beaten_at_s = now_s
            os.kill(self._pid, signal.SIGKILL)

    def wait_s(self) -> float:
        """How long until the next `look`."""
        if self._pid:
            return LOOK_S
        return max(0.0, min(LOOK_S, self._start_again_at_s - time.monotonic()))

    def close(self) -> None:
        """The workers have ended: it ends, too."""
        self._is_closed = True
        self._close_pipes()
        if self._pid:
            with contextlib.suppress(ChildProcessError):
                os.kill(self._pid, signal.SIGKILL)  # it has nothing to lose
                os.waitpid(self._pid, 0)
            self._pid = 0

    def _pipes(self) -> Iterator[int]:
        return (fd for fd in (self._leash_fd, self._beat_fd) if fd >= 0)

    def _close_pipes(self) -> None:
        for fd in self._pipes():
            os.close(fd)
        self._leash_fd = self._beat_fd = -1


def become(name: str) -> None:
    """In the new process: no signal of a terminal or an operator ends it; ps shows `name`."""
    for signo in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1):
        signal.signal(signo, signal.SIG_IGN)  # workers that drain still need it
    with contextlib.suppress(OSError), open("/proc/self/comm", "w", encoding="ascii") as file:
        file.write(name[:_NAME_OCTETS])
