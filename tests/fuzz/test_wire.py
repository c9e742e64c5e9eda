"""Fuzz of all that reads a peer's octets, under AddressSanitizer and UBSan.

Ten seconds in `make test`; `make test-long MINUTES=n` goes on with new seeds. A finding fails
with its case as one line, which goes into a file below `tests/fuzz/wire/regressions`: from then on
`test_found.py` runs it. The line is also kept below `build/fuzz`.
"""

from __future__ import annotations

import shutil
import struct
import time
from pathlib import Path

import pytest

from tests.fuzz import sanitized
from tests.fuzz.parent import run_child
from tests.fuzz.wire.case import INPUTS
from tests.support.long import LongRun

KEPT = sanitized.ROOT / "build" / "fuzz"
SECONDS = 10.0
LONG_SECONDS = 60.0  # of one seed
INPUTS_OCTETS_MAX = 300_000
_EVERY = (
    *("session", "framing", "mail", "rcpt", "parameter", "exchange", "front", "content"),
    *("reply", "proxy", "hello", "xtext", "bdat", "dovecot", "base64"),
)


@pytest.fixture(scope="module")
def modules() -> Path:
    """The directory of the compiled modules."""
    if shutil.which("gcc") is None:
        pytest.skip("needs gcc")
    return sanitized.build(KEPT, "smtp")


def fuzz(directory: Path, modules: Path, seed: int, seconds: float) -> dict[str, int]:
    """The kept inputs, then mutants for that long; what was reached."""
    directory.mkdir(parents=True, exist_ok=True)
    case_file = directory / "case"
    arguments = ["-m", "tests.fuzz.wire.child", str(modules), str(case_file)]
    arguments += [str(seed), str(seconds)]
    return run_child(arguments, seconds, lambda said: keep(case_file, seed, said[-6000:]))


def keep(case_file: Path, seed: int, said: str) -> str:
    """Save what repeats a finding; the text of the failure."""
    octets = case_file.read_bytes() if case_file.exists() else b""
    size = struct.unpack_from("<Q", octets)[0] if octets else 0
    line = octets[8 : 8 + size].decode("ascii")
    target = KEPT / f"wire-finding-{seed}-{int(time.time())}.txt"
    target.write_text(line + "\n")
    return f"{target}:\n{line}\n{said}"


def check_depth(reached: dict[str, int], seconds: float) -> None:
    """Every target had its share, and sessions came as far as messages that were sent on."""
    assert reached["mutants"] > 20 * seconds, reached
    for name in _EVERY:
        assert reached.get(name), f"nothing reached: {name}; {reached}"
    assert reached["accepted"] > seconds, reached
    assert reached["relayed"] == reached["accepted"]
    assert reached["aiosmtpd"] > seconds / 2, reached


def test_mutants_of_sessions_and_values(tmp_path: Path, modules: Path) -> None:
    check_depth(fuzz(tmp_path, modules, int(time.time()), SECONDS), SECONDS)


def test_inputs_are_few() -> None:
    assert sum(path.stat().st_size for path in INPUTS.glob("*.txt")) < INPUTS_OCTETS_MAX


@pytest.mark.long
def test_wire_for_minutes(tmp_path: Path, modules: Path, long_run: LongRun) -> None:
    for seed in long_run.seeds():
        reached = fuzz(tmp_path / str(seed), modules, seed, LONG_SECONDS)
        check_depth(reached, LONG_SECONDS)
        counted = {name: reached[name] for name in ("mutants", "features", "accepted", "aiosmtpd")}
        long_run.record(seed, **counted)
        shutil.rmtree(tmp_path / str(seed))
