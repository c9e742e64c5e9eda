"""The modules under test, compiled a second time with AddressSanitizer and UBSan.

`build` makes them once for each state of their sources, below `build/fuzz`; `install` puts them in
the place of the ordinary ones, in a process that was started with `environment`.
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
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
MODULES = ("scan", "row", "verify")  # of ext/spool: what reads octets that a disk gave
CFLAGS = (
    *("-shared", "-fPIC", "-O1", "-g1", "-w", "-fno-omit-frame-pointer"),
    *("-fsanitize=address,undefined", "-fno-sanitize-recover=all"),
)
_BUILD_S = 300.0


def build(target: Path) -> Path:
    """Compile what is not there yet; the directory. Raises CalledProcessError."""
    digest = hashlib.sha256(" ".join(CFLAGS).encode())
    for source in sorted([*ROOT.glob("ext/spool/*.pyx"), *ROOT.glob("ext/pxd/*.pxd")]):
        digest.update(source.read_bytes())
    made = target / f"modules-{digest.hexdigest()[:16]}"
    made.mkdir(parents=True, exist_ok=True)
    missing = [name for name in MODULES if not (made / f"_{name}.so").exists()]
    running = [(name, _compile(name, made)) for name in missing]
    for name, process in running:
        said, _ = process.communicate(timeout=_BUILD_S)
        if process.returncode:
            raise RuntimeError(f"ext/spool/{name}.pyx does not compile: {said.decode()}")
        (made / f"_{name}.so.new").rename(made / f"_{name}.so")
    return made


def _compile(name: str, made: Path) -> subprocess.Popen[bytes]:
    c_file, library = made / f"_{name}.c", made / f"_{name}.so.new"
    cython = [
        *(sys.executable, "-m", "cython", "-3", "-X", "cdivision=True", "-I", "ext/pxd"),
        *("--module-name", f"fastmta.spool._{name}", "-o", str(c_file), f"ext/spool/{name}.pyx"),
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
        "ASAN_OPTIONS": "detect_leaks=0:abort_on_error=1:allocator_may_return_null=1",
        "UBSAN_OPTIONS": "print_stacktrace=1:abort_on_error=1",
        "PYTHONMALLOC": "malloc",
        "PYTHONPATH": str(ROOT),
        "PYTHONFAULTHANDLER": "1",
    }


def install(made: Path) -> None:
    """Let `fastmta.spool` find these; call it before anything imports that."""
    assert "fastmta.spool" not in sys.modules
    for name in MODULES:
        full = f"fastmta.spool._{name}"
        loader = importlib.machinery.ExtensionFileLoader(full, str(made / f"_{name}.so"))
        spec = importlib.util.spec_from_file_location(full, made / f"_{name}.so", loader=loader)
        assert spec is not None
        module = importlib.util.module_from_spec(spec)
        loader.exec_module(module)
        sys.modules[full] = module
