"""A backup while the log under it moves at every moment: what it copies is a state that there was.

The log is a model that keeps the rules of the real one (what is live in the oldest segment goes to
the cold log first, then the segment is voided, then its file may hold another) and writes real
headers, so that the listings, the copying and the passes are those of the backup. It moves on
between any two files that the backup opens or looks at again.
"""

from __future__ import annotations

import contextlib
import os
import random
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from fastmta.spool import backup, survey
from fastmta.spool.layout import Layout
from fastmta.spool.segment import COLD_BASE, HEADER_OCTETS, LogKind, Segment
from tests.support.long import LongRun

# Histories in which a listing lacks a segment, or one is voided whose end was not copied yet.
TOLD = (76, 124, 191, 489, 611, 746)
SEEDS = (*range(12), *TOLD)
MEMORY = "/dev/shm" if os.path.isdir("/dev/shm") else None
PATIENCE = 900  # moments at which the log moves; then it rests, so that every backup ends
SIZE = HEADER_OCTETS + 4096
RECORD = 512  # octets of every record, so that few fill a segment
FILES = 5  # per log

MSG, OUTCOME, TOMB = "message", "outcome", "tomb"


class Part:
    """One life of one file."""

    def __init__(self, segment: Segment, file: str) -> None:
        self.segment, self.file = segment, file
        self.records: list[tuple[str, int]] = []
        self.is_trimmed = False

    @property
    def fill(self) -> int:
        return HEADER_OCTETS + RECORD * len(self.records)

    @property
    def is_full(self) -> bool:
        return self.fill + RECORD > SIZE


class Log:
    """One generation: its parts, oldest first, and the files that are spares."""

    def __init__(self, directory: str, kind: LogKind) -> None:
        os.makedirs(directory)
        self.directory, self.kind = directory, kind
        self.parts: list[Part] = []
        self.base = 0 if kind is LogKind.HOT else COLD_BASE
        self.end = self.base
        self.spares: list[str] = []
        self.lives: dict[int, Part] = {}  # by epoch, those that are over too
        for _ in range(FILES):
            self.make()

    def make(self) -> None:
        name = f"{len(os.listdir(self.directory)) + 1:016x}.seg"
        path = os.path.join(self.directory, name)
        with open(path, "wb") as file:
            file.truncate(SIZE)
        self.spares.append(path)

    def append(self, kind: str, item: int) -> None:
        if not self.parts or self.parts[-1].is_full:
            self.begin()
        part = self.parts[-1]
        part.records.append((kind, item))
        self.end = part.segment.base + part.fill

    def begin(self) -> None:
        if not self.spares:
            self.make()
        path = self.spares.pop(0)
        segment = Segment(path, -1, SIZE, self.kind)
        segment.epoch, segment.sequence = len(self.lives) + 1, len(self.lives) + 1
        segment.base, segment.previous_end = self.base, self.end
        self.base += SIZE
        part = Part(segment, path)
        self.parts.append(part)
        self.lives[segment.epoch] = part
        with open(path, "r+b") as file:
            file.write(segment.encode_header())

    def void_oldest(self) -> None:
        part = self.parts.pop(0)
        with open(part.file, "r+b") as file:
            file.write(bytes(HEADER_OCTETS))
        self.spares.append(part.file)


class World:
    """Both logs, and what becomes of the mail in them."""

    def __init__(self, root: Path, seed: int) -> None:
        self.random = random.Random(seed)
        self.layout = Layout(str(root), 0)
        self.hot = Log(self.layout.hot, LogKind.HOT)
        self.cold = Log(self.layout.cold, LogKind.COLD)
        self.count = 0
        self.live: dict[int, tuple[Log, int]] = {}  # by item: where its record counts
        self.final: set[int] = set()
        self.moments = 0
        self.pace = self.random.choice((0.05, 0.2, 0.5, 0.9))
        self.burst = self.random.choice((2, 8, 40))
        self.backlog = self.random.choice((0, 3, 30))

    def moment(self) -> None:
        self.moments += 1
        if self.moments < PATIENCE and self.random.random() < self.pace:
            for _ in range(self.random.randrange(self.burst)):
                self.step()

    def step(self) -> None:
        what = self.random.random()
        if what < 0.35:
            self.hot.append(MSG, self.count)
            self.live[self.count] = (self.hot, self.hot.parts[-1].segment.epoch)
            self.count += 1
        elif what < 0.7 and len(self.live) > self.backlog:
            item = self.random.choice(list(self.live))
            self.hot.append(OUTCOME, item)
            del self.live[item]
            self.final.add(item)
        elif what < 0.9:
            self.free(self.hot)
        else:
            self.free(self.cold)

    def free(self, log: Log) -> None:
        """One of the steps on the way of the oldest segment back to the spares."""
        if not log.parts or (log is self.hot and len(log.parts) == 1):
            return
        part = log.parts[0]
        place = (log, part.segment.epoch)
        live = [item for kind, item in part.records if kind == MSG and self.live.get(item) == place]
        own = {item for kind, item in part.records if kind == MSG}
        strays = [item for kind, item in part.records if kind == OUTCOME and item not in own]
        needs_tombs = log is self.hot and strays and self.cold.parts
        if part.is_trimmed or not (live or needs_tombs):
            log.void_oldest()
        elif len(log.parts) > 1:
            for item in live:
                self.cold.append(MSG, item)
                self.live[item] = (self.cold, self.cold.parts[-1].segment.epoch)
            for item in strays if log is self.hot else ():
                if item in self.final:
                    self.cold.append(TOMB, item)
            part.is_trimmed = True


@pytest.fixture
def world_of(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Makes a world of a seed, which moves whenever the backup looks at a file."""
    now: list[World] = []
    true_opened, true_is_same = survey.opened, survey.is_same

    @contextlib.contextmanager
    def opened(path: str) -> Iterator[int]:
        now[-1].moment()
        with true_opened(path) as fd:
            yield fd
        now[-1].moment()

    def is_same(fd: int, segment: Segment) -> bool:
        now[-1].moment()
        return true_is_same(fd, segment)

    def read_and_judge(_: int, segment: Segment, *__: int) -> tuple[memoryview, Any]:
        log = now[-1].hot if segment.kind is LogKind.HOT else now[-1].cold
        return memoryview(b""), SimpleNamespace(end=log.lives[segment.epoch].fill)

    def copy_octets(_: int, path: str, *__: int) -> None:
        with open(path, "wb"):
            now[-1].moment()

    monkeypatch.setattr(survey, "opened", opened)
    monkeypatch.setattr(survey, "is_same", is_same)
    monkeypatch.setattr(backup, "opened", opened)
    monkeypatch.setattr(backup, "is_same", is_same)
    monkeypatch.setattr(backup, "read_and_judge", read_and_judge)
    monkeypatch.setattr(backup, "_copy_octets", copy_octets)
    monkeypatch.setattr(backup, "_PASSES_MAX", 1000)

    def make(root: Path, seed: int) -> World:
        now.append(World(root, seed))
        return now[-1]

    return make


def copied(log: Log, copies: Any) -> list[tuple[str, int]]:
    """The records in the copies of a log; its copies are one piece."""
    found: list[tuple[str, int]] = []
    ordered = sorted(copies._copies.items(), key=lambda item: item[1].base)
    for at, (epoch, copy) in enumerate(ordered):
        part = log.lives[epoch]
        count = (copy.octets - HEADER_OCTETS) // RECORD
        if at + 1 < len(ordered):
            assert copy.end == ordered[at + 1][1].base, "a gap: mail in it is lost"
            assert count == len(part.records), "the end of a segment is missing"
        found += part.records[:count]
    return found


def back_up(world: World, place: Path) -> int:
    """Copy the logs of `world` and hold the copies against what it knows; how many passes."""
    live, final = set(world.live), set(world.final)
    target = Layout(str(place), 0)
    os.makedirs(target.hot)
    os.makedirs(target.cold)
    hot = backup._LogCopy(world.layout, target, LogKind.HOT)
    cold = backup._LogCopy(world.layout, target, LogKind.COLD)
    passes = backup._follow(hot, cold)
    hot_records, cold_records = copied(world.hot, hot), copied(world.cold, cold)
    there = {item for kind, item in cold_records + hot_records if kind == MSG}
    over = {item for kind, item in cold_records + hot_records if kind != MSG}
    assert live - there <= world.final, "mail of before the backup is lost"
    assert not final & there - over, "an outcome of before the backup is forgotten"
    # Up to where the copy of the hot log ends, all that came is there, unless it was final by then.
    last = max((item for kind, item in hot_records if kind == MSG), default=-1)
    assert set(range(last + 1)) - there <= world.final, "mail of during the backup is lost"
    assert there - over <= set(world.live) | world.final
    return passes


def run(make: Any, seed: int) -> tuple[int, int]:
    """One history; passes of the backup, and segments that were begun meanwhile."""
    with tempfile.TemporaryDirectory(dir=MEMORY) as root:
        world = make(Path(root, "spool"), seed)
        for _ in range(world.random.randrange(300)):
            world.step()
        began = len(world.hot.lives)
        return back_up(world, Path(root, "copy")), len(world.hot.lives) - began


def test_a_copy_is_a_state_that_there_was(world_of: Any) -> None:
    results = [run(world_of, seed) for seed in SEEDS]
    assert sum(passes > 1 for passes, _ in results) > 5, "the logs were quiet: this proves nothing"
    assert sum(begun > 3 for _, begun in results) > 5


@pytest.mark.long
def test_many_histories(world_of: Any, long_run: LongRun) -> None:
    for seed in long_run.seeds():
        passes, begun = run(world_of, seed)
        long_run.record(seed, passes=passes, begun=begun)
