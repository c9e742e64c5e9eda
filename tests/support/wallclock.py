"""Sets the wall clock of another process, and of that process only.

clock = WallClock(tmp_path / "clock")
with running(tmp_path, environment=clock.environment()) as server:
    clock.set(86_400)     # its wall clock is a day ahead of ours from now on
"""

from __future__ import annotations

import struct
from pathlib import Path

from tests.support import shim

_SOURCE = Path(shim.__file__).with_name("clock.c")


class WallClock:
    """The offset of a wall clock, in a file that the preloaded library maps."""

    def __init__(self, path: Path) -> None:
        self._path = path
        path.write_bytes(bytes(8))

    def environment(self) -> dict[str, str]:
        """Variables to be added to the process's environment."""
        return {"LD_PRELOAD": str(shim.build(_SOURCE)), "FASTMTA_CLOCK": str(self._path)}

    def set(self, offset_s: int) -> None:
        """From now on the process is `offset_s` seconds ahead of the true time."""
        with self._path.open("r+b") as file:  # in place: it is mapped
            file.write(struct.pack("<q", offset_s))
