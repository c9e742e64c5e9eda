"""The measurements, one after the other, on one backlog."""

from __future__ import annotations

import shutil
import smtplib
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import lmdb

from fastmta.spool.index import LIB_VERSION

from ...loopback import HOST, LabError
from ...server import Server
from .field import Field, MemoryWatch, anonymous_mb, disk_octets

REST_S = 3.0
FEW_DOMAINS = 20  # of the intake: sites that are known and have connections
_POLL_S = 0.005
_DELIVERY_S = 60.0
_STALL_S = 30.0
_FIRST_RATE = 1500  # messages/s, before anything is known


@dataclass(slots=True)
class Start:
    """Seconds from the start of the process."""

    ready_s: float
    accept_s: float
    delivery_s: float


@dataclass(slots=True)
class Figures:
    """Everything that was measured."""

    build_s: float = 0.0
    disk_mb: float = 0.0
    memory_mb: dict[str, float] = field(default_factory=dict)  # most of any worker, by phase
    starts: dict[str, list[Start]] = field(default_factory=dict)
    lookups_ms: dict[str, list[float]] = field(default_factory=dict)
    rebuild_s: float = 0.0
    rebuild_intake_per_s: float = 0.0
    intake_per_s: dict[str, list[float]] = field(default_factory=dict)  # empty, loaded
    fresh_per_s: list[float] = field(default_factory=list)
    drain_per_s: list[float] = field(default_factory=list)
    whole_drain: tuple[int, float] | None = None  # messages, seconds
    problems: list[str] = field(default_factory=list)


class FirstDelivery:
    """When the receiver got its first message since this was made; a thread that looks often."""

    def __init__(self, at: Field) -> None:
        self._field = at
        self._before = at.delivered
        self.at_s = 0.0
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        deadline_s = time.monotonic() + _DELIVERY_S
        while time.monotonic() < deadline_s:
            if self._field.delivered > self._before:
                self.at_s = time.monotonic()
                return
            time.sleep(_POLL_S)

    def wait(self) -> float:
        """Monotonic seconds of it; LabError when there was none."""
        self._thread.join()
        if not self.at_s:
            raise LabError(f"nothing was delivered within {_DELIVERY_S:g} s of a start")
        return self.at_s


class Phases:
    """Runs on a field with two servers: `loaded` has the backlog, `empty` has nothing."""

    def __init__(self, at: Field, seconds: float, pairs: int, say: Callable[[str], None]) -> None:
        self._field = at
        self._seconds = seconds
        self._pairs = pairs
        self._say = say
        self.loaded = at.server("loaded")
        self.empty = at.server("empty")
        self.figures = Figures()
        self._sent = 0

    @property
    def _spool(self) -> Path:
        return self.loaded.directory / "spool"

    def start(self, server: Server, name: str) -> Start:
        """Start, and send one message, which is the first to be accepted."""
        first = FirstDelivery(self._field)
        begin_s = time.monotonic()
        server.start()
        ready_s = time.monotonic()
        with smtplib.SMTP(HOST, server.port, local_hostname="probe.test") as client:
            client.sendmail("probe@origin.test", ["probe@probe.test"], "Subject: probe\n\nprobe\n")
            accept_s = time.monotonic()
        start = Start(ready_s - begin_s, accept_s - begin_s, first.wait() - begin_s)
        self.figures.starts.setdefault(name, []).append(start)
        self._sent += 1
        text = f"first accept {start.accept_s:.2f} s, first delivery {start.delivery_s:.2f} s"
        self._say(f"start, {name}: {text}")
        return start

    def build(self, due_at_ns: int) -> list[list[str]]:
        """The backlog; some ids of each shard."""
        self.figures.build_s, sample = self._field.build(self._spool, due_at_ns)
        self.figures.disk_mb = disk_octets(self._spool) / (1 << 20)
        self._say(f"built in {self.figures.build_s:.0f} s, {self.figures.disk_mb:.0f} MB on disk")
        return sample

    def rest(self) -> None:
        """Start with the whole index; memory when nothing happens; then the intake."""
        figures = self.figures
        self.start(self.loaded, "backlog at rest")
        time.sleep(REST_S)
        workers = self.loaded.workers()
        figures.memory_mb["at rest"] = max(map(anonymous_mb, workers))
        self._say(f"anonymous memory at rest: {figures.memory_mb['at rest']:.0f} MB")
        self.start(self.empty, "empty")
        with MemoryWatch(self.loaded) as memory:
            self._intake_pairs()
        figures.memory_mb["intake"] = memory.most_mb
        self.empty.stop()
        self.loaded.stop()

    def _intake_pairs(self) -> None:
        servers = {"empty": self.empty, "loaded": self.loaded}
        rates = {name: self._intake(server, _FIRST_RATE) for name, server in servers.items()}
        for pair in range(self._pairs):
            for name in list(servers) if pair % 2 == 0 else reversed(servers):
                count = max(200, int(rates[name] * self._seconds))
                rates[name] = self._intake(servers[name], count)
                self.figures.intake_per_s.setdefault(name, []).append(rates[name])
                self._say(f"intake {pair + 1}/{self._pairs} {name}: {rates[name]:.0f}/s")

    def _intake(self, server: Server, count: int) -> float:
        """Accepted per second; returns when all of it is delivered too."""
        before = self._field.delivered
        taken_s = self._field.send(server, count, FEW_DOMAINS)
        self._sent += count
        self._until_delivered(before + count)
        return count / taken_s

    def _until_delivered(self, count: int) -> float:
        """Wait for the receiver; monotonic seconds of the last message. LabError on a stall."""
        known, changed_s = self._field.delivered, time.monotonic()
        while known < count:
            time.sleep(_POLL_S)
            now = self._field.delivered
            if now != known:
                known, changed_s = now, time.monotonic()
            elif time.monotonic() - changed_s > _STALL_S:
                raise LabError(f"deliveries stand still at {known} of {count}")
        return changed_s

    def look_up(self, sample: list[list[str]]) -> None:
        """Look-ups in each shard, with no server running."""
        for shard, ids in enumerate(sample):
            for kind, times in self._field.look_up(self._spool, shard, ids).items():
                self.figures.lookups_ms.setdefault(kind, []).extend(times)

    def rebuild(self) -> None:
        """Delete the index and start: how long until it is whole, with mail coming in."""
        scale = self._field.scale
        for index in self._spool.glob("shard-*/index"):
            shutil.rmtree(index)
        begin_s = time.monotonic()
        with MemoryWatch(self.loaded) as memory:
            self.start(self.loaded, "without index")
            before, sent, sending_s = self._field.delivered, 0, 0.0
            while self._indexed() < scale.messages:
                sending_s += self._field.send(self.loaded, 500, FEW_DOMAINS)
                sent += 500
                if time.monotonic() - begin_s > 60 + scale.messages / 2_000:
                    self.figures.problems.append("the index was not rebuilt in time")
                    break
            self.figures.rebuild_s = time.monotonic() - begin_s
            self._sent += sent
            if sent:
                self.figures.rebuild_intake_per_s = sent / sending_s
                self._until_delivered(before + sent)
        self.figures.memory_mb["rebuilding"] = memory.most_mb
        text = f"{self.figures.rebuild_s:.1f} s, {sent} messages accepted meanwhile"
        self._say(f"index rebuilt in {text}")
        self.loaded.stop()

    def _indexed(self) -> int:
        """Messages in the index on the disk."""
        count = 0
        for index in self._spool.glob("shard-*/index"):
            try:
                environment = lmdb.open(
                    str(index), readonly=True, max_dbs=16, lib_version=LIB_VERSION
                )
                with environment, environment.begin() as transaction:
                    rows = environment.open_db(b"message", transaction, create=False)
                    count += int(transaction.stat(rows)["entries"])
            except lmdb.Error:
                continue  # not there yet
        return count

    def drain(self, due_at_s: float, *, is_whole: bool) -> None:
        """Pairs of fresh mail to all domains, and of the backlog, all of it due."""
        wait_s = due_at_s - time.time()
        if wait_s < 0:
            text = f"the backlog was due {-wait_s:.0f} s before it was looked at: choose --due-in-s"
            self.figures.problems.append(text)
        time.sleep(max(0.0, wait_s))
        rate = _FIRST_RATE
        for pair in range(self._pairs):
            if pair % 2:
                self._drain_once(pair)
            rate = int(self._fresh(max(500, int(rate * self._seconds))))
            self._say(f"fresh {pair + 1}/{self._pairs}: {rate}/s")
            if not pair % 2:
                self._drain_once(pair)
        if is_whole:
            self._drain_whole()

    def _fresh(self, count: int) -> float:
        """Relayed per second by a server that has just started, over all domains."""
        self.start(self.empty, "empty")
        before, begin_s = self._field.delivered, time.monotonic()
        self._field.send(self.empty, count, self._field.scale.domains)
        rate = count / (self._until_delivered(before + count) - begin_s)
        self._sent += count
        self.figures.fresh_per_s.append(rate)
        self.empty.stop()
        return rate

    def _drain_once(self, pair: int) -> None:
        """Deliveries per second by a server that has just started, from its first delivery on."""
        with MemoryWatch(self.loaded) as memory:
            self.start(self.loaded, "backlog due")
            before, begin_s = self._field.delivered, time.monotonic()
            time.sleep(self._seconds)
            rate = (self._field.delivered - before) / (time.monotonic() - begin_s)
        if self._left() <= 0:
            self.figures.problems.append("the backlog was over before its drain was measured")
        else:
            self.figures.drain_per_s.append(rate)
        self._note_memory("draining", memory)
        self._say(f"drain {pair + 1}/{self._pairs}: {rate:.0f}/s, {memory.most_mb:.0f} MB")
        self.loaded.stop()

    def _drain_whole(self) -> None:
        """What is left, to the last message; then as many must have arrived as were sent."""
        with MemoryWatch(self.loaded) as memory:
            self.start(self.loaded, "backlog due")
            count, begin_s = self._left(), time.monotonic()
            end_s = self._until_delivered(self._field.scale.messages + self._sent)
        self._note_memory("draining", memory)
        self.figures.whole_drain = (count, end_s - begin_s)
        time.sleep(1.0)
        self.loaded.stop()
        surplus = -self._left()
        if surplus:
            self.figures.problems.append(f"{surplus} messages were delivered twice")
        self._say(f"drained {count} to the end at {count / (end_s - begin_s):.0f}/s")

    def _left(self) -> int:
        return self._field.scale.messages + self._sent - self._field.delivered

    def _note_memory(self, phase: str, memory: MemoryWatch) -> None:
        known = self.figures.memory_mb
        known[phase] = max(known.get(phase, 0.0), memory.most_mb)
