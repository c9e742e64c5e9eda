"""Shells that call a `sendmail` one time after the other."""

import os
import resource
import subprocess
import time
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from ...loopback import LabError, wait_until
from ..receiver import Receiver

_SCRIPT = """
n=$1; shift
while [ "$n" -gt 0 ]; do "$@" -t -oi < "$MESSAGE" || exit 1; n=$((n-1)); done
"""
_ARRIVE_S = 60.0
_STARTS = 10


class Outcome(NamedTuple):
    """What was measured."""

    calls: int
    calls_per_s: float
    relayed_per_s: float
    call_ms: float  # of one, while the loops ran
    cpu_ms: float  # of the calls and their shells, not of the server
    start_ms: float


class Loops:
    """So many calls, shared out to so many shells."""

    def __init__(self, calls: int, loops: int, octets: int) -> None:
        self._each = calls // loops
        self._loops = loops
        self._octets = octets

    def run(
        self, command: Sequence[str], receiver: Receiver, variables: Mapping[str, str]
    ) -> Outcome:
        """Call it; LabError when a call fails or a message does not arrive."""
        line = b"x" * 70 + b"\n"
        text = b"To: someone@there.test\nSubject: bench\n\n" + line * max(1, self._octets // 71)
        message_fd = os.memfd_create("message", 0)  # inherited, so that the shells can open it
        os.write(message_fd, text)
        path = f"/proc/{os.getpid()}/fd/{message_fd}"
        environment = {**os.environ, **variables, "MESSAGE": path}
        start_ms = 1000 * start_s([*command, "-bh"], environment)
        before = receiver.progress()
        used_s = _children_s()
        began_s = time.monotonic()
        shells = [
            subprocess.Popen(
                ["sh", "-c", _SCRIPT, "loop", str(self._each), *command], env=environment
            )
            for _ in range(self._loops)
        ]
        statuses = [shell.wait() for shell in shells]
        ended_s = time.monotonic()
        used_s = _children_s() - used_s
        os.close(message_fd)
        if any(statuses):
            raise LabError("a call of sendmail failed")
        calls = self._each * self._loops
        wait_until(lambda: receiver.progress() - before >= calls, _ARRIVE_S, "all messages")
        arrived_s = time.monotonic()
        return Outcome(
            calls,
            calls / (ended_s - began_s),
            calls / (arrived_s - began_s),
            1000 * (ended_s - began_s) * self._loops / calls,
            1000 * used_s / calls,
            start_ms,
        )


def start_s(command: Sequence[str], environment: Mapping[str, str] | None = None) -> float:
    """The shortest of some runs."""
    times = []
    for _ in range(_STARTS):
        began_s = time.monotonic()
        subprocess.run(command, check=True, env=environment, stdin=subprocess.DEVNULL)
        times.append(time.monotonic() - began_s)
    return min(times)


def _children_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime
