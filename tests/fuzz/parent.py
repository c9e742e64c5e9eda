"""Starts the process that is fuzzed, and tells what it found."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Sequence

import pytest

from tests.fuzz import sanitized

_SLACK_S = 120.0  # for a busy machine; also a mutant that never ends is found by it


def run_child(
    arguments: Sequence[str], seconds: float, keep: Callable[[str], str]
) -> dict[str, int]:
    """What a child that mutates for so long says that it reached.

    `arguments` are those of Python. One that dies or hangs fails the test with the text of `keep`,
    which is told what it said.
    """
    try:
        done = subprocess.run(
            [sys.executable, *arguments],
            env=sanitized.environment(),
            cwd=sanitized.ROOT,
            capture_output=True,
            timeout=seconds + _SLACK_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        pytest.fail(keep("it hangs"))
    if done.returncode:
        pytest.fail(keep((done.stderr + done.stdout).decode(errors="replace")))
    reached: dict[str, int] = json.loads(done.stdout.splitlines()[-1])
    return reached
