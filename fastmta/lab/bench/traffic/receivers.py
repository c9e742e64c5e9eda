"""bench/receivers.c as a process: what it is told, and what it tells."""

from __future__ import annotations

import mmap
import struct
import subprocess
from dataclasses import dataclass
from pathlib import Path

from ...loopback import LabError, wait_until
from ..native import program
from ..shim import SharedPage
from ..standing import Standing
from .place import PORT, free_first_address

_START_S = 20.0
_ARRIVAL = struct.Struct("<QQII")
_FIELDS = ("messages", "connections", "open", "open_most", "site_most", "arrivals", "lost")
_READY = 511


@dataclass(frozen=True, slots=True, kw_only=True)
class Town:
    """The sites; delays are those of site 0, 1, .. in turn. From `dead_from` on they are dead."""

    sites: int
    delays_ms: tuple[int, ...]
    dead_from: int | None = None
    is_final: bool = False  # only the reply to the end of data is delayed
    arrivals_max: int = 1_000_000

    @property
    def flights(self) -> int:
        """Delayed replies of one message over an open connection, envelope and content."""
        return 1 if self.is_final else 2

    def delay_s(self, site: int) -> float:
        return self.delays_ms[site % len(self.delays_ms)] / 1000


@dataclass(frozen=True, slots=True)
class Arrival:
    """One message at a receiver; times of CLOCK_MONOTONIC in seconds."""

    begun_s: float  # MAIL came
    ended_s: float  # the end of data came
    site: int
    number: int  # the digits before the @ of its recipient


@dataclass(frozen=True, slots=True)
class Counts:
    """What has happened since the receivers started."""

    messages: int
    connections: int
    open: int
    open_most: int
    site_most: int
    arrivals: int
    lost: int  # arrivals that there was no room for


class Receivers(Standing):
    """A context manager: the sites are there while it is open."""

    def __init__(self, directory: Path, town: Town) -> None:
        super().__init__()
        self.town = town
        self.first = ""  # address of site 0
        self._directory = directory
        self._page: SharedPage
        self._arrivals: mmap.mmap
        self._process: subprocess.Popen[bytes]

    def stand(self) -> None:
        town, directory = self.town, self._directory
        self.first = free_first_address()
        self._page = SharedPage(directory / "receivers.page")
        self._stack.callback(self._page.close)
        noted = directory / "receivers.arrivals"
        with noted.open("w+b") as file:
            file.truncate(town.arrivals_max * _ARRIVAL.size)
            self._arrivals = mmap.mmap(file.fileno(), 0)
        self._stack.callback(self._arrivals.close)
        command = [
            *(str(program("receivers", directory)), "--arrivals", str(noted)),
            *("--delays", ",".join(map(str, town.delays_ms))),
            *(["--final"] if town.is_final else []),
            *([] if town.dead_from is None else ["--dead-from", str(town.dead_from)]),
            *(f"{self.first}:{PORT}", str(town.sites), str(self._page.path)),
        ]
        self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL)
        self._stack.callback(self._process.wait)
        self._stack.callback(self._process.kill)
        wait_until(self._is_up, _START_S, "the receivers")

    def _is_up(self) -> bool:
        if self._process.poll() is not None:
            raise LabError(f"bench/receivers.c ended with {self._process.returncode}")
        return bool(self._page.read(8 * _READY))

    @property
    def messages(self) -> int:
        """Messages answered so far."""
        return self._page.read(0)

    def counts(self) -> Counts:
        return Counts(*(self._page.read(8 * index) for index in range(len(_FIELDS))))

    def arrivals(self) -> list[Arrival]:
        """All messages so far, in the order in which they ended. LabError when some are missing."""
        counts = self.counts()
        if counts.lost:
            raise LabError(f"{counts.lost} arrivals found no room")
        octets = memoryview(self._arrivals)[: counts.arrivals * _ARRIVAL.size]
        try:
            return [
                Arrival(begun_ns / 1e9, ended_ns / 1e9, site, number)
                for begun_ns, ended_ns, site, number in _ARRIVAL.iter_unpack(octets)
            ]
        finally:
            octets.release()
