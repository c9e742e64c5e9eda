"""One run: a source, a server, a receiver; what it took."""

import os
import time
from dataclasses import dataclass
from pathlib import Path

from .. import process
from ..loopback import LabError
from .contender import Contender
from .receiver import Progress, Receiver
from .shim import Shim
from .source import Sending, Source, SourceReport

_SAMPLE_S = 0.005
_LOG_S = 0.05
_STALL_S = 60.0
_SETTLE_S = 0.4  # after the last "removed": the next index commit, cleaning up


@dataclass(frozen=True, slots=True)
class Run:
    """What one run took. Rates count from the start of the source."""

    messages: int
    accepted_s: float
    relayed_s: float
    cpu_s: float  # process tree of the server
    machine_s: float  # the whole machine, source and receiver included
    deferred: int  # attempts that the server logged as deferred
    flushes: int | None = None  # counted by the shim
    flush_s: float | None = None
    load_average: float = 0.0
    source: SourceReport | None = None  # our own source's
    handshakes_out: int = 0  # of TLS, with the receiver
    resumed_out: int = 0  # of these

    @property
    def accepted_rate(self) -> float:
        return self.messages / self.accepted_s

    @property
    def relayed_rate(self) -> float:
        return self.messages / self.relayed_s

    @property
    def cpu_us(self) -> float:
        return self.cpu_s / self.messages * 1e6

    @property
    def machine_us(self) -> float:
        return self.machine_s / self.messages * 1e6


class LogTail:
    """Counts of what a server wrote to its log since this object was made."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = path.stat().st_size if path.exists() else 0
        self._rest = b""
        self.sent = 0
        self.deferred = 0
        self.removed = 0

    def read(self) -> None:
        if not self._path.exists():
            return
        with self._path.open("rb") as file:
            file.seek(self._offset)
            octets = file.read()
        self._offset += len(octets)
        lines, _, self._rest = (self._rest + octets).rpartition(b"\n")
        self.sent += lines.count(b" status=sent ")
        self.deferred += lines.count(b" status=deferred ")
        self.removed += lines.count(b": removed\n") + lines.endswith(b": removed")


def measure_ceiling(source: Source, port: int, count: int) -> float:
    """Messages per second of the source straight into a receiver."""
    begin = time.monotonic()
    sending = source.start(port, count)
    sending.finish()
    return count / (time.monotonic() - begin)


def measure(
    source: Source, server: Contender, receiver: Receiver, count: int, shim: Shim | None = None
) -> Run:
    """Send `count` messages through the server; LabError when it loses one or stands still."""
    os.sync()  # what an earlier run left to write is not this one's work
    log = LogTail(server.log)
    progress = Progress(receiver)
    flushes, flush_ns = (shim.flushes, shim.flush_ns) if shim else (0, 0)
    load_average = os.getloadavg()[0]
    handshakes, resumed = receiver.handshakes()
    cpu_s = process.tree_cpu_s(server.pid)
    machine_s = process.machine_cpu_s()

    begin = time.monotonic()
    sending = source.start(server.port, count)
    try:
        accepted_at = _watch(sending, progress)
        report = sending.finish()
    finally:
        sending.kill()
    _wait_for(log, "sent", count, progress)
    progress.sample()
    relayed_at = progress.reached_at(progress.last - receiver.slack(source.case.size))
    _wait_for(log, "removed", count, progress)
    time.sleep(_SETTLE_S)

    return Run(
        messages=count,
        accepted_s=accepted_at - begin,
        relayed_s=max(relayed_at, accepted_at) - begin,
        cpu_s=process.tree_cpu_s(server.pid) - cpu_s,
        machine_s=process.machine_cpu_s() - machine_s,
        deferred=log.deferred,
        flushes=shim.flushes - flushes if shim else None,
        flush_s=(shim.flush_ns - flush_ns) / 1e9 if shim else None,
        load_average=load_average,
        source=report,
        handshakes_out=receiver.handshakes()[0] - handshakes,
        resumed_out=receiver.handshakes()[1] - resumed,
    )


def _watch(sending: Sending, progress: Progress) -> float:
    """Sample until the source has ended; when that was."""
    while not sending.has_ended(_SAMPLE_S):
        progress.sample()
    return time.monotonic()


def _wait_for(log: LogTail, what: str, count: int, progress: Progress) -> None:
    """Until the log tells of `count` such facts; LabError when nothing more happens."""
    log.read()
    known = getattr(log, what)
    changed_at = read_at = time.monotonic()
    while known < count:
        time.sleep(_SAMPLE_S)
        progress.sample()
        now = time.monotonic()
        if now - read_at < _LOG_S:
            continue
        read_at = now
        log.read()
        if getattr(log, what) != known:
            known, changed_at = getattr(log, what), now
        elif now - changed_at > _STALL_S:
            text = f"{known} of {count} {what}, {log.deferred} deferred"
            raise LabError(f"the server stands still: {text}")
