"""The modules under test, compiled a second time with AddressSanitizer and UBSan.

`build` makes those of a room once for each state of their sources, below `build/fuzz`; `install`
puts them in the place of the ordinary ones, in a process that was started with `environment`.
"""

from __future__ import annotations

import hashlib
import importlib.machinery
import importlib.util
import os
import shlex
import subprocess
import sys
import sysconfig
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).parent.parent.parent
MODULES = {
    "spool": ("scan", "row", "verify"),  # what reads octets that a disk gave
    "smtp": ("framing", "path", "content", "reply"),  # what reads octets that a peer sent
}
CFLAGS = (
    *("-shared", "-fPIC", "-O1", "-g1", "-w", "-fno-omit-frame-pointer"),
    *("-fsanitize=address,undefined", "-fno-sanitize-recover=all"),
)
_BUILD_S = 300.0
_ASAN_OPTIONS = ":".join(
    (
        "detect_leaks=0:abort_on_error=1:allocator_may_return_null=1",
        "malloc_context_size=1:quarantine_size_mb=16",  # else a third of the time goes there
    )
)


def build(target: Path, room: str = "spool") -> Path:
    """Compile what is not there yet; the directory. Raises CalledProcessError."""
    digest = hashlib.sha256(" ".join(CFLAGS).encode())
    for source in sorted([*ROOT.glob(f"ext/{room}/*.pyx"), *ROOT.glob("ext/pxd/*.pxd")]):
        digest.update(source.read_bytes())
    made = target / f"modules-{digest.hexdigest()[:16]}"
    made.mkdir(parents=True, exist_ok=True)
    missing = [name for name in MODULES[room] if not (made / f"_{name}.so").exists()]
    running = [(name, _compile(room, name, made)) for name in missing]
    for name, process in running:
        said, _ = process.communicate(timeout=_BUILD_S)
        if process.returncode:
            raise RuntimeError(f"ext/{room}/{name}.pyx does not compile: {said.decode()}")
        (made / f"_{name}.so.new").rename(made / f"_{name}.so")
    return made


def _compile(room: str, name: str, made: Path) -> subprocess.Popen[bytes]:
    c_file, library = made / f"_{name}.c", made / f"_{name}.so.new"
    cython = [
        *(sys.executable, "-m", "cython", "-3", "-X", "cdivision=True", "-I", "ext/pxd"),
        *("--module-name", f"fastmta.{room}._{name}", "-o", str(c_file), f"ext/{room}/{name}.pyx"),
    ]
    include = sysconfig.get_path("include")
    compiler = ["gcc", *CFLAGS, f"-I{include}", "-o", str(library), str(c_file)]
    return subprocess.Popen(
        f"{shlex.join(cython)} && exec {shlex.join(compiler)}",
        shell=True,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


def environment() -> dict[str, str]:
    """For a process in which they work: each object of Python is an allocation of its own."""
    library = subprocess.run(
        ["gcc", "-print-file-name=libasan.so"], capture_output=True, text=True, check=True
    ).stdout.strip()
    return {
        **os.environ,
        "LD_PRELOAD": library,
        "ASAN_OPTIONS": _ASAN_OPTIONS,
        "UBSAN_OPTIONS": "print_stacktrace=1:abort_on_error=1",
        "PYTHONMALLOC": "malloc",
        "PYTHONPATH": str(ROOT),
        "PYTHONFAULTHANDLER": "1",
    }


class _Finder(MetaPathFinder):
    """Asked before all others: the compiled modules of one room are those in `made`."""

    def __init__(self, made: Path, room: str) -> None:
        self._files = {f"fastmta.{room}._{name}": made / f"_{name}.so" for name in MODULES[room]}

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        file = self._files.get(fullname)
        if file is None:
            return None
        loader = importlib.machinery.ExtensionFileLoader(fullname, str(file))
        return importlib.util.spec_from_file_location(fullname, file, loader=loader)


def install(made: Path, room: str = "spool") -> None:
    """Let `fastmta.<room>` find these; call it before anything imports that."""
    assert f"fastmta.{room}" not in sys.modules
    sys.meta_path.insert(0, _Finder(made, room))
