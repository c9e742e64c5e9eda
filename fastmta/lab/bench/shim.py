"""The preload shim of `bench/`, and pages of counters that other processes map too."""

import mmap
import struct
from pathlib import Path

from .native import compile_native

_PAGE = 4096
_FLUSHES, _FLUSH_NS, _PROCESSES, _DELAYED, _FAILED, _DELAY_US = 0, 8, 16, 24, 32, 40


class SharedPage:
    """A page of counters that other processes map too."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.write_bytes(bytes(_PAGE))
        path.chmod(0o666)  # Postfix's daemons run as another user
        with path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), _PAGE)

    def read(self, offset: int) -> int:
        value: int = struct.unpack_from("<Q", self._map, offset)[0]
        return value

    def write(self, offset: int, value: int) -> None:
        struct.pack_into("<Q", self._map, offset, value)

    def close(self) -> None:
        self._map.close()


class Shim:
    """Counts a server's flushes and slows them down; `environment` loads it."""

    def __init__(self, directory: Path, label: str) -> None:
        library = directory / "shim.so"
        if not library.exists():
            compile_native("shim", library, ("-shared", "-fPIC"))
        self._page = SharedPage(directory / f"shim-{label}")
        self.environment = {
            "LD_PRELOAD": str(library),
            "FASTMTA_SHIM_FILE": str(self._page.path),
        }

    @property
    def flushes(self) -> int:
        return self._page.read(_FLUSHES)

    @property
    def flush_ns(self) -> int:
        return self._page.read(_FLUSH_NS)

    @property
    def processes(self) -> int:
        return self._page.read(_PROCESSES)

    @property
    def delayed(self) -> int:
        return self._page.read(_DELAYED)

    def delay(self, milliseconds: int) -> None:
        """Every flush from now on waits this long first."""
        self._page.write(_DELAY_US, milliseconds * 1000)

    def close(self) -> None:
        self._page.close()
