"""The place of a measurement: disk, kernel, processors, versions."""

import os
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path

from fastmta import __version__

from ..loopback import LabError

_VOLATILE = frozenset({"tmpfs", "ramfs", "devtmpfs", "overlayfs-tmpfs"})
_PACKAGES = ("uvloop", "lmdb", "cython", "msgspec")


def file_system(directory: Path) -> tuple[str, str]:
    """(type, device) of what holds the directory: the longest mount point above it."""
    best = ("", "?", "?")
    target = str(directory.resolve())
    for line in Path("/proc/self/mounts").read_text().split("\n"):
        fields = line.split()
        if len(fields) < 3:
            continue
        device, point, kind = fields[:3]
        is_above = target == point or target.startswith(point.rstrip("/") + "/")
        if is_above and len(point) >= len(best[0]):
            best = (point, kind, device)
    return best[1], best[2]


def require_disk(directory: Path) -> None:
    """LabError on a file system in memory: a flush there costs nothing and proves nothing."""
    kind, _ = file_system(directory)
    if kind in _VOLATILE:
        raise LabError(f"{directory} is on {kind}: choose a directory on a disk (--directory)")


def describe(directory: Path) -> dict[str, str | int]:
    """What a reader must know of the machine to repeat the figures."""
    kind, device = file_system(directory)
    return {
        "kernel": platform.release(),
        "cpu": _cpu_model(),
        "cpu_count": len(os.sched_getaffinity(0)),
        "memory_mb": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 20,
        "file_system": kind,
        "device": device,
        "python": platform.python_version(),
        "fastmta": __version__,
        "commit": _commit(),
        **{name: _version(name) for name in _PACKAGES},
    }


def load_average() -> float:
    """What else ran here during the last minute, as processes that wanted a processor."""
    return os.getloadavg()[0]


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().split("\n"):
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _version(package: str) -> str:
    try:
        return version(package)
    except ModuleNotFoundError:
        return "not installed"


def _commit() -> str:
    root = Path(__file__).parent.parent.parent.parent
    done = subprocess.run(
        ["git", "-C", str(root), "describe", "--always", "--dirty"],
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout.strip() or "unknown"
