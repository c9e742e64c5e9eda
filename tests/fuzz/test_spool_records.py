"""Fuzz of the record scanner and the row decoders under AddressSanitizer and UBSan.

Ten seconds in `make test`; `make test-long MINUTES=n` goes on with new seeds. A finding fails with
everything that repeats it kept below `build/fuzz`: corpus, seed and the number of the mutant.
"""

from __future__ import annotations

import shutil
import struct
import sys
import time
from pathlib import Path

import pytest

from tests.fuzz import sanitized
from tests.fuzz.corpus import write_corpus
from tests.fuzz.parent import run_child
from tests.support.long import LongRun

KEPT = sanitized.ROOT / "build" / "fuzz"
SECONDS = 10.0
LONG_SECONDS = 60.0  # of one seed


@pytest.fixture(scope="module")
def modules() -> Path:
    """The directory of the compiled modules."""
    if shutil.which("gcc") is None:
        pytest.skip("needs gcc")
    return sanitized.build(KEPT)


def fuzz(directory: Path, modules: Path, seed: int, seconds: float) -> dict[str, int]:
    """One corpus, mutants of it for that long; what was reached."""
    directory.mkdir(parents=True, exist_ok=True)
    write_corpus(directory, seed)
    case_file = directory / "case"
    arguments = ["-m", "tests.fuzz.child", str(modules), str(directory)]
    arguments += [str(seed), str(seconds), str(case_file)]
    return run_child(arguments, seconds, lambda said: keep(directory, seed, arguments, said[:6000]))


def keep(directory: Path, seed: int, arguments: list[str], said: str) -> str:
    """Save what repeats a finding; the text of the failure."""
    (number,) = struct.unpack_from("<Q", (directory / "case").read_bytes())
    target = KEPT / f"finding-{seed}-{number}-{int(time.time())}"
    shutil.copytree(directory, target, ignore=shutil.ignore_patterns("spool"))
    (target / "said").write_text(said)
    again = [str(target) if part == str(directory) else part for part in arguments]
    return f"{sys.executable} {' '.join(again)} --only {number}\n{said}"


def check_depth(reached: dict[str, int], seconds: float) -> None:
    """The mutants went through every door, and not only the first one."""
    assert reached["mutants"] > 5 * seconds
    for what in (
        "changed message",
        "changed state",
        "changed reference",
        "changed fold",
        "changed batch",
        "holes",
        "messages read",
        "rows taken",
        "refused message",
        "not decoded state: ValidationError",
        "whole segments",
    ):
        assert reached.get(what), f"no mutant reached: {what}; {reached}"


def test_mutants_of_segments_and_rows(tmp_path: Path, modules: Path) -> None:
    reached = fuzz(tmp_path, modules, int(time.time()), SECONDS)
    check_depth(reached, SECONDS)


@pytest.mark.long
def test_mutants_for_minutes(tmp_path: Path, modules: Path, long_run: LongRun) -> None:
    for seed in long_run.seeds():
        reached = fuzz(tmp_path / str(seed), modules, seed, LONG_SECONDS)
        check_depth(reached, LONG_SECONDS)
        long_run.record(seed, mutants=reached["mutants"])
        shutil.rmtree(tmp_path / str(seed))
