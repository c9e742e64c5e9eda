"""A service manager for one test: the socket that it is told on, and a user to become."""

from __future__ import annotations

import os
import shutil
import socket
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fastmta.lab.loopback import LabError

USER = "nobody"  # every system has it, and it owns nothing


class Manager:
    """Hears what a service tells."""

    def __init__(self, directory: Path) -> None:
        self.address = str(directory / "notify.sock")
        self.heard: list[dict[str, str]] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(self.address)
        os.chmod(self.address, 0o666)

    def hear(self, seconds: float) -> dict[str, str] | None:
        """The next message; None when none comes in time."""
        self._socket.settimeout(max(0.001, seconds))
        try:
            text = self._socket.recv(65536).decode()
        except TimeoutError:
            return None
        fields = dict(line.split("=", 1) for line in text.split("\n"))
        self.heard.append(fields)
        return fields

    def wait_for(self, key: str, value: str = "1", seconds: float = 20.0) -> dict[str, str]:
        """The next message that says so. LabError when there is none in time."""
        until_s = time.monotonic() + seconds
        while (left_s := until_s - time.monotonic()) > 0:
            fields = self.hear(left_s)
            if fields is not None and fields.get(key) == value:
                return fields
        raise LabError(f"no {key}={value} within {seconds:g} s; heard {self.heard}")

    def close(self) -> None:
        self._socket.close()


@contextmanager
def open_place() -> Iterator[Path]:
    """A directory that any user can come to, unlike those of pytest; gone at the end."""
    directory = Path(tempfile.mkdtemp(prefix="fastmta-"))
    directory.chmod(0o755)
    try:
        yield directory
    finally:
        shutil.rmtree(directory)


def open_python() -> tuple[str, dict[str, str]] | None:
    """A Python that any user can start with what we import, and its environment; None: there is
    none. That of a test may be in the home of root.
    """
    places = [path for path in sys.path if path and "site-packages" in path]
    root = str(Path(__file__).parent.parent.parent)
    environment = {"PYTHONPATH": os.pathsep.join([root, *places]), "PATH": os.environ["PATH"]}
    mine = os.path.realpath(sys.executable)
    minor = f"{sys.version_info[0]}.{sys.version_info[1]}"
    for candidate in (mine, f"/usr/bin/python{minor}"):
        library = sysconfig.get_path("stdlib") if candidate == mine else f"/usr/lib/python{minor}"
        is_open = all(map(_is_open, (candidate, library, root, *places)))
        if os.path.exists(candidate) and is_open:
            return candidate, environment
    return None


def _is_open(path: str) -> bool:
    """Whether everybody can come to it."""
    steps = [Path(path), *Path(path).parents]
    return all(step.exists() and step.stat().st_mode & 0o001 for step in steps if step.is_dir())
