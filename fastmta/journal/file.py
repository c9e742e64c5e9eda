"""A file, or standard output, as the place where blocks of lines go."""

import os
import select
from collections.abc import Callable

STANDARD_OUTPUT = "-"
MODE = 0o640
_STALL_S = 1.0  # how long one wait for a full pipe lasts before closing is looked at again


class FilePlace:
    """Appends to a file; all but the constructor is called by the writing thread."""

    slow_text = "the file cannot be written fast enough"

    def __init__(self, path: str) -> None:
        """Opens `path` at once; raises OSError when that fails."""
        self._path = path
        self.descriptor = _open(path)

    def put(self, octets: bytes, line_count: int, is_closing: Callable[[], bool]) -> int:
        """Write a block; returns 0, the lines that were lost. Raises OSError: all of them."""
        rest = memoryview(octets)
        while rest:
            try:
                rest = rest[os.write(self.descriptor, rest) :]
            except BlockingIOError:  # standard output may be a pipe that others made non-blocking
                poll = select.poll()
                poll.register(self.descriptor, select.POLLOUT)
                if not poll.poll(_STALL_S * 1000) and is_closing():
                    raise
        return 0

    def reopen(self) -> None:
        """Go on in a new file of the same name."""
        if self._path == STANDARD_OUTPUT:
            return
        try:
            descriptor = _open(self._path)
        except OSError as error:  # the old file still takes lines; better there than nowhere
            text = f"fastmta: cannot reopen {self._path}: {error.strerror}\n"
            self.put(text.encode("ascii", "replace"), 1, lambda: True)
            return
        os.close(self.descriptor)
        self.descriptor = descriptor

    def close(self) -> None:
        """Nothing is written any more."""
        if self._path != STANDARD_OUTPUT:
            os.close(self.descriptor)


def check_file(path: str) -> None:
    """Raises OSError, with the path, when a log cannot be written there. May create the file."""
    if path != STANDARD_OUTPUT:
        os.close(_open(path))


def _open(path: str) -> int:
    if path == STANDARD_OUTPUT:
        return 1
    return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, MODE)
