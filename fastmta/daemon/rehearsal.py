"""A configuration is read and tried in a process of its own, while the supervisor goes on."""

from __future__ import annotations

import os
import pickle
import signal
import time
from collections.abc import Callable
from typing import TypeAlias

from fastmta.config import Config, ConfigError

from .privilege import die_with
from .sockets import BadStart
from .trial import try_start

LIMIT_S = 120.0  # modules of hooks may take a minute to import
Again: TypeAlias = Callable[[], Config]  # reads the configuration anew; raises ConfigError
Verdict: TypeAlias = "tuple[Config | None, list[str]]"  # and warnings; None: and problems


class Rehearsal:
    """One reading. `verdict` is there when its process has ended."""

    def __init__(self, again: Again, forked: Callable[[], None]) -> None:
        """`forked` closes in the new process what is not for it. It dies with us."""
        parent = os.getpid()
        self._result_fd = os.memfd_create("fastmta-rehearsal", os.MFD_CLOEXEC)
        self._until_s = time.monotonic() + LIMIT_S
        self.pid = os.fork()
        if not self.pid:
            self._rehearse(parent, again, forked)

    def _rehearse(self, parent: int, again: Again, forked: Callable[[], None]) -> None:
        try:
            signal.pthread_sigmask(signal.SIG_SETMASK, ())
            for signo in (signal.SIGHUP, signal.SIGUSR1, signal.SIGIO):
                signal.signal(signo, signal.SIG_IGN)
            forked()
            die_with(parent)  # else it would go on for a while, and what it has open with it
            with open(self._result_fd, "wb", closefd=False) as file:
                pickle.dump(judge(again), file)
        finally:
            os._exit(0)

    @property
    def wait_s(self) -> float:
        """How long it may still take."""
        return max(0.0, self._until_s - time.monotonic())

    def give_up(self) -> None:
        """It takes too long, or nobody needs it any more."""
        os.kill(self.pid, signal.SIGKILL)

    def verdict(self, status: int) -> Verdict:
        """What came of it, once: its process has ended with `status`."""
        try:
            octets = os.pread(self._result_fd, os.fstat(self._result_fd).st_size, 0)
        finally:
            os.close(self._result_fd)
        if not octets:
            return None, [f"the configuration could not be tried within {LIMIT_S:g} s ({status})"]
        verdict: Verdict = pickle.loads(octets)
        return verdict


def judge(again: Again) -> Verdict:
    """As `fastmta check` and a start would: the configuration with warnings, or all problems."""
    try:
        config = again()
    except ConfigError as error:
        return None, [str(problem) for problem in error.problems]
    from .start import check_places  # which needs this module

    try:
        check_places(config)
        warnings = [*map(str, config.warnings), *try_start(config, has_files=False)]
    except BadStart as error:
        return None, [config.located(line) for line in str(error).split("\n")]
    except Exception as error:
        return None, [f"the configuration cannot be tried: {type(error).__name__}: {error}"]
    return config, warnings
