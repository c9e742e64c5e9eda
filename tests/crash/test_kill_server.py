"""kill -9 of a worker or of the whole server under load: no acknowledged message is lost.

`make test` does six runs; `make test-long MINUTES=n` goes on and adds its counts to a results file.
Duplicates are counted, not forbidden: the peer may have said 250 when we died (RFC 5321 6.1 allows
no better), but each must have been in flight.
"""

from __future__ import annotations

import random
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fastmta.lab import Server
from tests.support.counting import Sink
from tests.support.killing import (
    Verdict,
    check_drained,
    check_listed,
    is_queue_empty,
    kill_worker,
    new_server,
    run_under_load,
)
from tests.support.long import LongRun

RUNS = 6
IN_FLIGHT_MAX = 200  # deliveries at the moment of a kill


def kills_of(server: Server, rng: random.Random) -> Iterator[str]:
    """One to three times SIGKILL one worker, or everybody, half of those without the index."""
    for _ in range(rng.randrange(1, 4)):
        time.sleep(rng.uniform(0.05, 0.6))
        if rng.random() < 0.5 and kill_worker(server, rng):
            yield "worker"
            continue
        server.kill()
        kind = "server"
        if rng.random() < 0.5:
            for index in (server.directory / "spool").glob("shard-*/index"):
                shutil.rmtree(index)
            kind = "server, index deleted"
        server.start()
        yield kind
    time.sleep(rng.uniform(0.05, 0.3))


def one_run(directory: Path, seed: int) -> Verdict:
    rng = random.Random(seed)
    with Sink() as sink:
        server = new_server(directory, sink)
        server.start()
        try:
            verdict = run_under_load(
                server,
                sink,
                seed,
                lambda: kills_of(server, rng),
                is_empty=lambda: is_queue_empty(server),
            )
            assert server.stop() == 0, server.said()
        finally:
            server.kill()
        try:
            verdict.check()
            check_listed(server, verdict)
        except AssertionError as problem:
            problem.add_note(f"seed {seed}, killed {verdict.kills}; {server.said()[-3000:]}")
            raise
    check_drained(server)
    return verdict


@pytest.mark.parametrize("seed", range(RUNS))
def test_no_acknowledged_message_is_lost(tmp_path: Path, seed: int) -> None:
    verdict = one_run(tmp_path, seed)
    assert verdict.acknowledged > 10, "the load never got going: this run proves nothing"
    assert len(verdict.duplicates) <= IN_FLIGHT_MAX * len(verdict.kills)


@pytest.mark.long
def test_kill_for_minutes(tmp_path: Path, long_run: LongRun) -> None:
    for seed in long_run.seeds():
        directory = tmp_path / str(seed)
        verdict = one_run(directory, 1_000_000 + seed)
        long_run.record(seed, **verdict.facts)
        shutil.rmtree(directory)
