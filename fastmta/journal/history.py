"""The latest lines of a worker on the disk, within bounds: for those whose log goes elsewhere.

A few files, the eldest of which makes room: `worker-0.log`, `worker-0.log.1` and so on, read by who
asks for the story of a message. Nothing is synced: it is a convenience, and no record.
"""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Callable
from typing import Final

from .file import FilePlace

FILES: Final = 4  # that share the room
_OCTETS_MIN: Final = 4_096  # of a file


class HistoryPlace:
    """Takes blocks of lines; all but the constructor is called by the writing thread."""

    slow_text = "the history cannot be written fast enough"

    def __init__(self, directory: str, worker: int, octets_max: int) -> None:
        """Goes on where an earlier process ended. Raises OSError."""
        os.makedirs(directory, mode=0o750, exist_ok=True)
        self._path = os.path.join(directory, f"worker-{worker}.log")
        self._file_octets = max(octets_max // FILES, _OCTETS_MIN)
        self._file = FilePlace(self._path)
        self._octets = os.fstat(self._file.descriptor).st_size

    def put(self, octets: bytes, line_count: int, is_closing: Callable[[], bool]) -> int:
        """Keep a block; what is larger than a file is not kept. Raises OSError."""
        if len(octets) > self._file_octets:
            return line_count
        if self._octets + len(octets) > self._file_octets:
            self._turn()
        self._octets += len(octets)
        return self._file.put(octets, line_count, is_closing)

    def reopen(self) -> None:
        """Nobody moves our files."""

    def close(self) -> None:
        """Nothing is kept any more."""
        self._file.close()

    def _turn(self) -> None:
        """Begin a new file; the eldest one goes."""
        names = [self._path, *(f"{self._path}.{number}" for number in range(1, FILES))]
        for newer, elder in reversed(list(itertools.pairwise(names))):
            with contextlib.suppress(FileNotFoundError):
                os.rename(newer, elder)
        self._file.reopen()
        self._octets = 0
