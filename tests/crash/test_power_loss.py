"""Loss of power at any moment: what was promised until then is there after recovery.

A child works on a shard as a script says while a preload library records every write, name and
flush. From that the states are rebuilt that a disk may be in when the power fails after any event
(S1 to S9, see tests/support/crash_states.py); each is unpacked and recovered: with its index and
without, and a second time. `make test-long` goes on with every short script and random ones.
"""

from __future__ import annotations

import os
import random
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.long import LongRun
from tests.support.power import record, replay, second_run
from tests.support.power_scripts import AFTERWARDS, NAMED, random_script, short_scripts

STATES = 30  # asked for, per script in `make test`
STATES_LEAST = 15  # different ones, at least
SCRIPT_STEPS = 4  # of the short scripts that `make test-long` runs one after the other


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    """In memory where that is possible: power is lost in the model only."""
    if not os.path.isdir("/dev/shm"):
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(prefix="power-", dir="/dev/shm") as made:
        yield Path(made)


@pytest.mark.parametrize("name", NAMED)
def test_power_loss_in_a_short_history(place: Path, name: str) -> None:
    """At least 500 different states over all names."""
    seed = list(NAMED).index(name)
    recording = record(place / "run", NAMED[name], seed=seed)
    result = replay(recording, place, random.Random(seed), states=STATES)
    assert result.states >= STATES_LEAST
    assert STATES_LEAST * len(NAMED) >= 500


@pytest.mark.parametrize("seed", range(6))
def test_power_loss_after_power_loss(place: Path, seed: int) -> None:
    """The second one may come while the shard recovers from the first."""
    chance = random.Random(seed)
    recording = record(place / "run", random_script(chance, 8), seed=seed)
    again = second_run(recording, place / "again", AFTERWARDS, chance, seed=seed)
    assert replay(again, place, chance, states=STATES).states >= 10


@pytest.mark.long
def test_power_loss_for_long(place: Path, long_run: LongRun) -> None:
    """Every short script once (odd seeds), random ones in between and afterwards."""
    scripts = [s for length in range(1, SCRIPT_STEPS + 1) for s in short_scripts(length)]
    for seed in long_run.seeds():
        chance = random.Random(seed)
        if seed % 2 and seed // 2 < len(scripts):
            script, states = scripts[seed // 2], 60
        else:
            script, states = random_script(chance, chance.randint(4, 30)), 250
        age_s = chance.choice((0.0, 0.0, 0.8))
        delay_us = chance.choice((0, 300, 1200, 5000))
        run = place / str(seed)
        recording = record(run, script, seed=seed, delay_us=delay_us, age_s=age_s)
        if chance.random() < 0.3:
            recording = second_run(recording, run / "again", AFTERWARDS, chance, seed=seed)
        result = replay(recording, place, chance, states=states)
        shutil.rmtree(run)
        long_run.record(seed, states=result.states, checks=result.checks, crashes=result.crashes)
