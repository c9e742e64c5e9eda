"""kill -9 of a worker or of the whole server under load: no acknowledged message is lost.

`make test` does ten runs; `make test-long MINUTES=n` goes on and adds its counts to a results file.
Duplicates are counted, not forbidden: the peer may have said 250 when we died (RFC 5321 6.1 allows
no better), but each must have been in flight.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
from collections import Counter
from pathlib import Path

import pytest

from fastmta.lab import Server, ServerOptions
from tests.support.loading import Load
from tests.support.long import LongRun
from tests.support.receiver import Receiver

RUNS = 10
WORKERS = 2
SETTLE_S = 30.0


def key_of(forward_path: bytes) -> str:
    return forward_path.partition(b"@")[0].strip(b"<").decode()


def new_server(directory: Path, receiver: Receiver) -> Server:
    return Server(
        ServerOptions(
            directory=directory,
            relay_host=f"[127.0.0.1]:{receiver.port}",
            workers=WORKERS,
            settings={
                "spool.segment_octets": 1 << 20,
                "limits.message_octets": 200_000,
                "retry.site_backoff_min_s": 0.2,
            },
        )
    )


def kill_somebody(server: Server, rng: random.Random) -> str:
    """SIGKILL one worker, or everybody (then start again, half of the time without the index)."""
    if rng.random() < 0.5 and (workers := server.workers()):
        os.kill(rng.choice(workers), signal.SIGKILL)
        return "worker"
    server.kill()
    kind = "server"
    if rng.random() < 0.5:
        for index in (server.directory / "spool").glob("shard-*/index"):
            shutil.rmtree(index)
        kind = "server, index deleted"
    server.start()
    return kind


def one_run(directory: Path, seed: int) -> tuple[int, int, int, list[str]]:
    """Returns (acknowledged, lost, duplicates, what was killed)."""
    rng = random.Random(seed)
    with Receiver() as receiver:
        server = new_server(directory, receiver)
        server.start()
        killed = []
        load = Load(server, seed=seed)
        try:
            for _ in range(rng.randrange(1, 4)):
                time.sleep(rng.uniform(0.05, 0.6))
                killed.append(kill_somebody(server, rng))
            time.sleep(rng.uniform(0.05, 0.3))
        finally:
            history = load.stop()
        acknowledged = set(history.acknowledged)
        until_s = time.monotonic() + SETTLE_S
        missing = acknowledged
        while missing and time.monotonic() < until_s:
            time.sleep(0.05)
            missing = acknowledged - {key_of(t.forward_paths[0]) for t in receiver.transactions}
        status = server.stop()
        assert status == 0, server.said()
        counts = Counter(key_of(each.forward_paths[0]) for each in list(receiver.transactions))
        duplicates = sum(count - 1 for count in counts.values())
        assert set(counts) <= acknowledged | set(history.unknown), "mail that nobody sent"
        for each in list(receiver.transactions):
            subject = f"Subject: {key_of(each.forward_paths[0])}\r\n".encode()
            assert subject in each.content, "content of another message"
        if missing:
            print(
                f"seed {seed} lost {sorted(missing)[:5]}; killed {killed}; {server.said()[-3000:]}"
            )
        return len(acknowledged), len(missing), duplicates, killed


@pytest.mark.parametrize("seed", range(RUNS))
def test_no_acknowledged_message_is_lost(tmp_path: Path, seed: int) -> None:
    acknowledged, lost, duplicates, killed = one_run(tmp_path, seed)
    assert lost == 0, f"{lost} of {acknowledged} lost, killed {killed}"
    assert acknowledged > 10, "the load never got going: this run proves nothing"
    assert duplicates <= 200 * len(killed), "more duplicates than can have been in flight"


@pytest.mark.long
def test_kill_for_minutes(tmp_path: Path, long_run: LongRun) -> None:
    for seed in long_run.seeds():
        directory = tmp_path / str(seed)
        acknowledged, lost, duplicates, killed = one_run(directory, 1_000_000 + seed)
        assert lost == 0, f"seed {seed}: {lost} of {acknowledged} lost, killed {killed}"
        long_run.record(seed, acknowledged=acknowledged, duplicates=duplicates, kills=len(killed))
        shutil.rmtree(directory)
