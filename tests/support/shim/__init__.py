"""The preload shim: delays, fails, skips and counts the flushes (or writes) of another process.

    counts = tmp_path / "counts"
    process = subprocess.Popen(command, env=shim.environment(counts, delay_s=0.3))
    ...
    assert shim.read_counts(counts).delayed > 0  # proof that it fired

Controls are drawn in shim.c. With `only_while`, it acts only while that file exists, so that a test
can let the process start undisturbed; what is being delayed goes on when the file is removed.
"""

import fcntl
import os
import subprocess
import tempfile
from pathlib import Path
from typing import NamedTuple

SOURCE = Path(__file__).with_name("shim.c")
RECORDER = Path(__file__).with_name("recorder.c")  # see tests/support/recording.py


class Counts(NamedTuple):
    """What the shim did, over all processes that share its file of counts."""

    calls: int = 0
    delayed: int = 0
    failed: int = 0
    skipped: int = 0
    passed: int = 0


def build(source: Path = SOURCE) -> Path:
    """Compile a preload library unless it is there already; the library's path."""
    directory = Path(__file__).parents[3] / "build" / "shim"
    directory.mkdir(parents=True, exist_ok=True)
    library = directory / source.with_suffix(".so").name
    with (directory / "lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not library.exists() or library.stat().st_mtime < source.stat().st_mtime:
            with tempfile.TemporaryDirectory(dir=directory) as place:
                fresh = Path(place) / library.name
                command = ["cc", "-O2", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC"]
                subprocess.run([*command, "-o", fresh, source, "-ldl"], check=True)
                fresh.rename(library)
    return library


def controls(
    counts: Path,
    *,
    delay_s: float = 0.0,
    error: int = 0,
    first: int = 0,
    limit: int = -1,
    times: int = -1,
    is_writing: bool = False,
    is_skipping: bool = False,
    match: str = "",
    only_while: Path | None = None,
) -> dict[str, str]:
    """The variables that load and steer the shim, to be added to an environment."""
    variables = {
        "LD_PRELOAD": str(build()),
        "FASTMTA_SHIM_COUNTS": str(counts),
        "FASTMTA_SHIM_DELAY_US": str(int(delay_s * 1e6)),
        "FASTMTA_SHIM_ERRNO": str(error),
        "FASTMTA_SHIM_FIRST": str(first),
        "FASTMTA_SHIM_LIMIT": str(limit),
        "FASTMTA_SHIM_TIMES": str(times),
        "FASTMTA_SHIM_WRITES": str(int(is_writing)),
        "FASTMTA_SHIM_SKIP": str(int(is_skipping)),
        "FASTMTA_SHIM_MATCH": match,
    }
    if only_while is not None:
        variables["FASTMTA_SHIM_WHILE"] = str(only_while)
    return variables


def environment(counts: Path, **steering: object) -> dict[str, str]:
    """This process's environment with `controls` added."""
    return {**os.environ, **controls(counts, **steering)}  # type: ignore[arg-type]  # passed on


def read_counts(counts: Path) -> Counts:
    """What the shim has counted so far."""
    octets = counts.read_bytes() if counts.exists() else b""
    numbers = (int.from_bytes(octets[at : at + 8], "little") for at in range(0, len(octets), 8))
    return Counts(*numbers)
