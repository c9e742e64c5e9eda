"""kill -9 at random moments under load: everything that was promised is there afterwards.

The child tells each promise through a pipe; this process writes them down, kills it, opens the
shard and compares. The index is deleted before half of the openings. The same shard goes through
all runs. FASTMTA_LONG_MINUTES makes it long.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from fastmta.message import RecipientStatus
from tests.support.spool import SMALL, Shard, delete_index
from tests.support.spool_child import DOMAINS, content_of

ROOT = Path(__file__).parents[2]
RUNS = 8
States = dict[int, tuple[int, int]]  # by recipient: status, due time


def is_final(states: States, recipients: int) -> bool:
    final = (status for status, _ in states.values() if RecipientStatus(status).is_final)
    return sum(1 for _ in final) == recipients


class Promises:
    """What the child said: of each id the marks that are durable and those that may be."""

    def __init__(self) -> None:
        self.accepted: dict[str, States] = {}
        self.tried: set[str] = set()
        self.marks: dict[str, States] = {}
        self.counts = {"accepted": 0, "marked": 0, "lost": 0}

    def read(self, line: bytes) -> None:
        verb, *rest = json.loads(line)
        if verb == "try":
            self.tried.add(rest[0])
        elif verb == "accepted":
            self.accepted[rest[0]] = {}
            self.counts["accepted"] += 1
        elif verb == "mark":
            self.marks[rest[0]] = {index: (status, due) for index, status, due in rest[1]}
        elif verb == "marked":
            # A DSN or a message from an earlier run is known by now, or was never acknowledged.
            self.accepted.setdefault(rest[0], {}).update(self.marks.pop(rest[0]))
            self.counts["marked"] += 1

    def check(self, shard: Shard) -> None:
        """Compare with the recovered shard, whose state is the truth from now on."""
        live: dict[str, States] = {}
        for id, found in shard.recovered.items():
            states = {at: (int(s.status), s.due_at_ns) for at, s in found.states.items()}
            live[id.decode()] = states
        for id, states in self.accepted.items():
            allowed = [states, {**states, **self.marks.get(id, {})}]
            if id in live:
                assert live[id] in allowed, f"{id}: {live[id]} is none of {allowed}"
            else:
                finals = [s for s in allowed if s and is_final(s, len(s))]
                assert finals, f"{id} was accepted and is lost; its states: {allowed}"
        unknown = set(live) - set(self.accepted) - self.tried
        assert not unknown, f"nobody ever sent {unknown}"
        self.accepted = live
        self.tried.clear()
        self.marks.clear()


def run_child(root: Path, seed: int, life_s: float, promises: Promises) -> None:
    """One life of the child."""
    command = [sys.executable, "-m", "tests.support.spool_child", "load", str(root), str(seed)]
    child = subprocess.Popen(
        [*command, str(SMALL.segment_octets)], stdout=subprocess.PIPE, cwd=ROOT, bufsize=1 << 20
    )
    assert child.stdout is not None
    try:
        first: list[Any] = json.loads(child.stdout.readline())
        assert first == ["ready"], first
        os.set_blocking(child.stdout.fileno(), True)
        deadline = time.monotonic() + life_s
        killed = False
        for line in child.stdout:
            if line.endswith(b"\n"):
                promises.read(line)
            if not killed and time.monotonic() >= deadline:
                child.kill()
                killed = True
        assert killed, "the child ended by itself"
    finally:
        child.kill()
        child.wait(20)
        child.stdout.close()


def check_contents(shard: Shard) -> None:
    """Everything that waits has its content, octet for octet."""
    for domain in DOMAINS:
        messages, _ = shard.fetch(b"smtp:" + domain, 2**62, limit=100_000)
        for message in messages:
            assert message.content == content_of(message.id)


def kill_loop(root: Path, seed: int, runs: int, until_s: float) -> Promises:
    """Kill until both `runs` and the time are used up."""
    chance = random.Random(seed)
    promises = Promises()
    run = 0
    while run < runs or time.monotonic() < until_s:
        run += 1
        run_child(root, seed * 1000 + run, chance.uniform(0.02, 0.9), promises)
        if chance.random() < 0.5:
            delete_index(root)
        with Shard(root, SMALL) as shard:
            promises.check(shard)
            check_contents(shard)
            for event in shard.events:
                assert "torn group" in str(event), event
    return promises


def test_kill_9_under_load_loses_nothing(tmp_path: Path) -> None:
    seed = int.from_bytes(os.urandom(2), "big")
    print(f"seed {seed}")
    promises = kill_loop(tmp_path / "spool", seed, RUNS, 0.0)
    assert promises.counts["accepted"] > 100 * RUNS
    assert promises.counts["marked"] > 50 * RUNS


@pytest.mark.long
def test_kill_9_for_long(tmp_path: Path) -> None:
    minutes = float(os.environ.get("FASTMTA_LONG_MINUTES", "0"))
    seed = int.from_bytes(os.urandom(2), "big")
    print(f"seed {seed}")
    kill_loop(tmp_path / "spool", seed, RUNS, time.monotonic() + 60 * minutes)
