"""The programs of `bench/` for a test; skips, and says so, where they cannot be compiled.

done = run_source("-m", "5", f"127.0.0.1:{port}")
assert done.status == 0
assert done.report["messages"] == 5
"""

import json
import subprocess
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from fastmta.lab.bench.native import program
from fastmta.lab.loopback import LabError

__all__ = ["Done", "built", "built_directory", "run_source"]

_DIRECTORY = tempfile.TemporaryDirectory(prefix="fastmta-native-")
_TIMEOUT_S = 60


@dataclass(frozen=True, slots=True)
class Done:
    """How a program ended."""

    status: int
    report: dict[str, Any]  # its last line of JSON, or nothing
    complaint: str


def built_directory() -> Path:
    """Where the programs of this test run are."""
    return Path(_DIRECTORY.name)


@cache
def _build(name: str) -> Path | LabError:
    try:
        return program(name, built_directory())
    except LabError as error:
        return error


def built(name: str) -> str:
    """The program `bench/<name>.c`."""
    found = _build(name)
    if isinstance(found, LabError):
        if str(found).startswith("needs"):
            pytest.skip(str(found))
        raise found
    return str(found)


def run_source(*arguments: str, stdin: str = "") -> Done:
    """bench/source.c to its end."""
    done = subprocess.run(
        [built("source"), *arguments],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=_TIMEOUT_S,
        check=False,
    )
    lines = [line for line in done.stdout.split("\n") if line]
    return Done(done.returncode, json.loads(lines[-1]) if lines else {}, done.stderr)
