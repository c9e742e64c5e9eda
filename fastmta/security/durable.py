"""A file that is put in place whole and durably, or not at all.

The spool has a function of its own for that: neither of the two rooms may import the other.
"""

from __future__ import annotations

import os
import stat
import tempfile
from typing import Final

MODE_NEW: Final = 0o600


def replace_file(path: str, octets: bytes, like: os.stat_result | None = None) -> None:
    """Put `octets` at `path`, for its owner only or with mode and owner of `like`. Raises OSError.

    What stands there is untouched until the new one is durable.
    """
    directory, name = os.path.split(path)
    directory = directory or "."
    fd, temporary = tempfile.mkstemp(prefix=f".{name}.", dir=directory)
    try:
        view = memoryview(octets)
        while view:
            view = view[os.write(fd, view) :]
        if like is not None and (like.st_uid, like.st_gid) != (os.geteuid(), os.getegid()):
            os.fchown(fd, like.st_uid, like.st_gid)
        os.fchmod(fd, MODE_NEW if like is None else stat.S_IMODE(like.st_mode))
        os.fsync(fd)
        os.rename(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
    finally:
        os.close(fd)
    sync_directory(directory)


def sync_directory(path: str) -> None:
    """Make the names in `path` durable. Raises OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
