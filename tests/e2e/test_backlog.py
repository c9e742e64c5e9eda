"""A backlog of 100,000 deferred messages to 10,000 sites, held against the targets."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.long import LongRun

MESSAGES = 100_000
LIMIT_S = 900.0


@pytest.mark.long
def test_a_backlog_meets_its_targets(tmp_path: Path, long_run: LongRun) -> None:
    if os.geteuid():
        pytest.skip("needs root: mail to domains goes to port 25")
    figures = tmp_path / "figures.json"
    seed = next(long_run.seeds())  # once is enough, however many minutes there are
    command = [
        *(sys.executable, "-m", "fastmta", "bench", "backlog", "--messages", str(MESSAGES)),
        *("--seconds", "8", "--directory", "/var/tmp", "--json", str(figures)),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    values = json.loads(figures.read_text())
    missed = [row for row in values["verdicts"] if row[3] != "met"]
    assert not missed, done.stdout
    most_mb = max(values["memory_mb"].values())
    long_run.record(
        seed, messages=MESSAGES, memory_mb=round(most_mb), rebuild_s=round(values["rebuild_s"], 2)
    )
