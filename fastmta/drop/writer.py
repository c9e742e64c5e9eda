"""Writing one file into the drop directory, durably, as whoever runs the command."""

from __future__ import annotations

import os
import stat

from .form import checksum, encode_trailer
from .place import UNFINISHED, Place

_SHARED, _OPEN, _PRIVATE = 0o640, 0o644, 0o600


class DropFile:
    """A file on its way: `write` all of it, then `finish` and `publish`, or `abandon` it.

    Raises OSError; what was begun should be abandoned then. Nobody sees it before `publish`, and
    after that it stays.
    """

    def __init__(self, place: Place) -> None:
        name = os.urandom(16).hex()
        self._path = os.path.join(place.new, name)
        self._partial = os.path.join(place.new, UNFINISHED + name)
        self._directory = place.new
        found = os.stat(place.new)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
        self._fd = os.open(self._partial, flags, _PRIVATE)
        self._octets = self._crc = 0
        try:
            os.fchmod(self._fd, _mode_for(found))
        except OSError:
            self.abandon()
            raise

    def write(self, octets: bytes) -> None:
        """Append."""
        self._crc = checksum(octets, self._crc)
        self._octets += len(octets)
        self._put(octets)

    def finish(self) -> None:
        """Nothing follows: it is whole, and its octets are durable."""
        self._put(encode_trailer(self._crc, self._octets))
        os.fsync(self._fd)

    def publish(self) -> None:
        """Give it its name, durably."""
        os.rename(self._partial, self._path)
        self._partial = ""
        try:
            directory = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except PermissionError:  # as it should be; see the room's page
            os.fsync(self._fd)
        else:
            try:
                os.fsync(directory)
            finally:
                os.close(directory)
        self._close()

    def abandon(self) -> None:
        """Take it away, if it has not been published."""
        self._close()
        if self._partial:
            try:
                os.unlink(self._partial)
            except OSError:
                return  # the server sweeps it

    def _put(self, octets: bytes) -> None:
        view = memoryview(octets)
        while view:
            view = view[os.write(self._fd, view) :]

    def _close(self) -> None:
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            os.close(fd)


def _mode_for(directory: os.stat_result) -> int:
    """What lets the server read the file, and as few others as can be."""
    if directory.st_uid in (0, os.geteuid()):
        return _PRIVATE
    if directory.st_mode & stat.S_ISGID:
        return _SHARED
    return _OPEN  # found only by its name, which is random, in a directory that is not to be listed
