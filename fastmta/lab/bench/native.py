"""The programs of `bench/`, compiled when they are first needed."""

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from ..loopback import LabError

SOURCES = Path(__file__).parent.parent.parent.parent / "bench"
_PLAIN = ("-ldl",)
_OPENSSL = ("-lssl", "-lcrypto")


def compile_native(
    name: str, target: Path, options: Sequence[str] = (), libraries: Sequence[str] = _PLAIN
) -> Path:
    """Compile `bench/<name>.c`; LabError where there is no compiler or no source tree."""
    source = SOURCES / f"{name}.c"
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None or not source.exists():
        raise LabError(f"needs a C compiler and {source} (a source tree)")
    command = [compiler, "-O2", "-Wall", "-o", str(target), *options, str(source), *libraries]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        needs = "needs libssl-dev: " if "openssl/" in done.stderr else ""
        raise LabError(f"{needs}{' '.join(command)}: {done.stderr}")
    return target


def program(name: str, directory: Path) -> Path:
    """`bench/<name>.c`, which uses OpenSSL, as a program in a directory: made once."""
    target = directory / name
    if not target.exists():
        compile_native(name, target, ("-Wextra",), _OPENSSL)
    return target
