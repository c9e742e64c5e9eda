"""Blocks that the index will need, taken while there are some.

LMDB never overwrites a page that a reader or the last commit may need: even to delete it takes new
pages first. On a volume that others filled it would find none, and the queue could not drain. So
blocks are allocated beyond the end of its file, where it will look for pages when no page is free.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time

from ._disk import reserve_blocks

RESERVE_OCTETS = 64 * 1024 * 1024
_VOLUME_SHARE = 32  # at most this part of a small volume
_RETRY_S = 1.0  # between looks for space that was not there
_BLOCK_OCTETS = 4096


class Reserve:
    """Keeps blocks beyond the end of `<directory>/data.mdb`. One thread at a time.

    The file is opened by name only before LMDB has it open (`prepare`), because a process that
    opens it twice loses locks. Later on (`top_up`) LMDB's own descriptor is used (`adopt`).
    """

    def __init__(self, directory: str) -> None:
        self._path = os.path.join(directory, "data.mdb")
        self._fd = -1  # LMDB's
        self._end = 0  # blocks are ours up to here
        self._next_try_s = 0.0

    def prepare(self) -> None:
        """Before LMDB opens the file: make it if it is not there, and reserve."""
        fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            self._reserve(fd)
        finally:
            os.close(fd)

    def adopt(self) -> None:
        """LMDB has opened the file: from now on use its descriptor."""
        ours = os.stat(self._path)
        for name in os.listdir("/proc/self/fd"):
            with contextlib.suppress(OSError):  # closed meanwhile by another thread
                fd = int(name)
                status = os.fstat(fd)
                is_writable = fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDWR
                if os.path.samestat(status, ours) and is_writable:
                    self._fd = fd
                    return

    def top_up(self) -> None:
        """After a commit: reserve again once half of it has been written to."""
        if self._fd >= 0 and time.monotonic() >= self._next_try_s:
            wanted = _wanted(self._fd)[0]
            if self._end - os.fstat(self._fd).st_size < wanted // 2:
                self._next_try_s = time.monotonic() + _RETRY_S
                self._reserve(self._fd)

    def release(self) -> None:
        """LMDB is about to close its descriptor."""
        self._fd = -1

    def _reserve(self, fd: int) -> None:
        """Take the blocks if the volume has twice as many: a try that fails would take the rest."""
        wanted, free = _wanted(fd)
        if not wanted or free < 2 * wanted:
            return
        start = os.fstat(fd).st_size
        with contextlib.suppress(OSError):  # this file system cannot, or somebody was faster
            reserve_blocks(fd, start, wanted)
            self._end = start + wanted


def _wanted(fd: int) -> tuple[int, int]:
    """(octets to reserve, octets free) on the volume of `fd`."""
    volume = os.fstatvfs(fd)
    share = volume.f_blocks * volume.f_frsize // _VOLUME_SHARE
    wanted = min(RESERVE_OCTETS, share) // _BLOCK_OCTETS * _BLOCK_OCTETS
    return wanted, volume.f_bavail * volume.f_frsize
