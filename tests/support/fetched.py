"""Other people's test material, fetched once into build/external; nothing of it is committed.

Each is named with version and SHA-256. Where it cannot be fetched the test is skipped, and says so.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Sequence
from pathlib import Path

import pytest

CACHE = Path(__file__).parents[2] / "build" / "external"
_FETCH_S = 120


def python_source(name: str, version: str, sha256: str) -> Path:
    """The unpacked source distribution of a package on PyPI."""
    archive = CACHE / f"{name}-{version}.tar.gz"
    options = ["--no-deps", "--no-binary", ":all:", "-q", "-d", str(CACHE)]
    command = [sys.executable, "-m", "pip", "download", *options, f"{name}=={version}"]
    return _unpacked(archive, command, sha256)


def node_package(name: str, version: str, sha256: str) -> Path:
    """The unpacked package of npm's registry."""
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("needs npm")
    command = [npm, "pack", "--silent", f"{name}@{version}"]
    return _unpacked(CACHE / f"{name}-{version}.tgz", command, sha256)


def _unpacked(archive: Path, command: Sequence[str], sha256: str) -> Path:
    CACHE.mkdir(parents=True, exist_ok=True)
    if not archive.exists():
        try:
            done = subprocess.run(
                command, cwd=CACHE, capture_output=True, timeout=_FETCH_S, check=False
            )
        except subprocess.TimeoutExpired:
            pytest.skip(f"needs {archive.name}, which did not come")
        if done.returncode or not archive.exists():
            pytest.skip(f"needs {archive.name}, which cannot be fetched")
    assert hashlib.sha256(archive.read_bytes()).hexdigest() == sha256, f"{archive} is another one"
    directory = CACHE / f"{archive.name}.unpacked"
    if not directory.exists():
        partial = directory.with_suffix(".partial")
        shutil.rmtree(partial, ignore_errors=True)
        with tarfile.open(archive) as contents:
            contents.extractall(partial, filter="data")
        partial.rename(directory)
    (top,) = directory.iterdir()
    return top
