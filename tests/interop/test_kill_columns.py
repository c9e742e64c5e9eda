"""The same kills under the same load for fastmta and for Debian's Postfix: loss and duplicates.

    FASTMTA_LONG_MINUTES=10 python -m pytest -m long -s tests/interop/test_kill_columns.py

SIGKILL to every process of the server at random moments, started again, up to three times in a run;
then everything acknowledged has to come. Both acknowledge after a flush. A duplicate is a copy of a
recipient's message beyond the first. The table is of all runs recorded so far.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from fastmta.lab import Postfix, process
from tests.support import long
from tests.support.counting import Sink
from tests.support.killing import Verdict, Victim, new_server, run_under_load
from tests.support.long import LongRun
from tests.support.postfix import running_postfix

NAMES = ("fastmta", "postfix")
COLUMNS = ("kills", "acknowledged", "unknown", "lost", "duplicates", "reports_twice")
GONE_S = 10.0
SETTINGS = {"minimal_backoff_time": "1s", "maximal_backoff_time": "2s", "queue_run_delay": "1s"}


class PostfixVictim:
    """Postfix, killed as a whole."""

    def __init__(self, postfix: Postfix) -> None:
        self.port = postfix.port
        self._postfix = postfix

    def kill(self) -> None:
        """SIGKILL to the master and every process below it."""
        members = list(process.tree(self._postfix.pid))
        for pid in members:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue  # it ended by itself
        until_s = time.monotonic() + GONE_S
        while any(process.is_running(pid) for pid in members):
            assert time.monotonic() < until_s, "Postfix's processes do not die"
            time.sleep(0.002)

    def start(self) -> None:
        """Start it again."""
        self._postfix.start()


def kills_of(victim: Victim, seed: int) -> Iterator[str]:
    rng = random.Random(seed)
    for _ in range(rng.randrange(1, 4)):
        time.sleep(rng.uniform(0.05, 1.0))
        victim.kill()
        victim.start()
        yield "everybody"
    time.sleep(rng.uniform(0.05, 0.3))


def run_fastmta(directory: Path, seed: int) -> Verdict:
    with Sink() as sink:
        server = new_server(directory, sink)
        server.start()
        try:
            verdict = run_under_load(server, sink, seed, lambda: kills_of(server, seed))
            assert server.stop() == 0, server.said()
        finally:
            server.kill()
    return verdict


def run_postfix(seed: int) -> Verdict:
    with (
        Sink() as sink,
        running_postfix(relay_host=f"[127.0.0.1]:{sink.port}", **SETTINGS) as postfix,
    ):
        victim = PostfixVictim(postfix)
        return run_under_load(victim, sink, seed, lambda: kills_of(victim, seed))


def table(name: str) -> str:
    """Sums of all runs recorded so far."""
    sums = {each: Counter[str]() for each in NAMES}
    runs = 0
    for line in long.RESULTS.read_text().splitlines():
        facts = json.loads(line)
        if facts["test"] == name:
            runs += 1
            for key, value in facts.items():
                each, _, column = key.partition(".")
                if column:
                    sums[each][column] += value
    rows = [f"{'':10}" + "".join(f"{column:>15}" for column in COLUMNS)]
    rows += [
        f"{each:10}" + "".join(f"{counts[column]:>15,}" for column in COLUMNS)
        for each, counts in sums.items()
    ]
    return "\n".join((f"{runs} runs each", *rows))


@pytest.mark.long
@pytest.mark.interop
def test_the_same_kills_for_both(tmp_path: Path, long_run: LongRun) -> None:
    for seed in long_run.seeds():
        directory = tmp_path / str(seed)
        verdicts = {"fastmta": run_fastmta(directory, seed), "postfix": run_postfix(seed)}
        verdicts["fastmta"].check()  # what Postfix loses is counted
        facts = {
            f"{name}.{key}": value
            for name, verdict in verdicts.items()
            for key, value in verdict.facts.items()
        }
        long_run.record(seed, **facts)
        shutil.rmtree(directory)
    print(f"\n{table(long_run.name)}")
