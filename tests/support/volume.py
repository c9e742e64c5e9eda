"""A small real file system of a test's own, that can be filled: ext4 on a loop device.

    with volume(tmp_path, octets=96 << 20) as place:
        ballast = fill(place)       # 100 %, as another process would
        ballast.unlink()

Making one needs root and loop devices; without them the test is skipped.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

_TRIES = 50
_CHUNK = bytes(1 << 16)


@contextlib.contextmanager
def volume(directory: Path, octets: int = 96 << 20) -> Iterator[Path]:
    """A directory on a volume of `octets`, unmounted at the end."""
    reason = "needs root and loop devices"
    if os.geteuid() or not os.path.exists("/dev/loop-control") or not shutil.which("mkfs.ext4"):
        pytest.skip(reason)
    image, place = directory / "volume.img", directory / "volume"
    place.mkdir()
    with image.open("wb") as file:
        file.truncate(octets)
    _call("mkfs.ext4", "-q", "-m", "0", str(image))
    if subprocess.run(["mount", "-o", "loop", image, place], capture_output=True).returncode:
        pytest.skip(reason)
    try:
        yield place
    finally:
        for _ in range(_TRIES):  # a process that was killed may be about to let go of it
            if not subprocess.run(["umount", place], capture_output=True).returncode:
                break
            time.sleep(0.1)
        else:
            _call("umount", "-l", str(place))
        image.unlink()


def fill(place: Path) -> Path:
    """Take every free block of the volume; the file that has them."""
    ballast = place / "ballast"
    fd = os.open(ballast, os.O_WRONLY | os.O_CREAT, 0o600)
    try:
        space = os.statvfs(place)
        with contextlib.suppress(OSError):
            os.posix_fallocate(fd, 0, space.f_bavail * space.f_frsize)
        os.lseek(fd, 0, os.SEEK_END)
        with contextlib.suppress(OSError):
            while True:
                os.write(fd, _CHUNK)
        os.fsync(fd)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
    finally:
        os.close(fd)
    return ballast


def free_octets(place: Path) -> int:
    """What anybody can still have of it."""
    space = os.statvfs(place)
    return space.f_bavail * space.f_frsize


def _call(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)
