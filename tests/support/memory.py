"""What a process uses, sampled from /proc while something happens."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PERIOD_S = 0.02
KIB = 1024


def status_octets(pid: int, name: str) -> int:
    """A size of /proc/<pid>/status in octets: VmHWM, VmRSS, RssAnon ..."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        key, _, value = line.partition(":")
        if key == name:
            return int(value.split()[0]) * KIB
    raise KeyError(name)


class Peak:
    """The largest values seen."""

    def __init__(self) -> None:
        self.anonymous_octets = 0  # RssAnon
        self.resident_octets = 0  # VmHWM: shared and mapped pages too, as the kernel counts them
        self.samples = 0

    def look(self, pid: int) -> None:
        """One sample."""
        self.anonymous_octets = max(self.anonymous_octets, status_octets(pid, "RssAnon"))
        self.resident_octets = max(self.resident_octets, status_octets(pid, "VmHWM"))
        self.samples += 1


@contextmanager
def watching(pid: int) -> Iterator[Peak]:
    """Sample process `pid` until the end of the block."""
    peak = Peak()
    is_over = threading.Event()

    def sample() -> None:
        while not is_over.wait(PERIOD_S):
            peak.look(pid)

    thread = threading.Thread(target=sample)
    thread.start()
    try:
        yield peak
        peak.look(pid)
    finally:
        is_over.set()
        thread.join()
