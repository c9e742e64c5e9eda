"""Postfix with a queue that waits: filled while its transport is deferred, drained afterwards."""

from __future__ import annotations

import subprocess
from pathlib import Path

from ...loopback import LabError, free_port
from ...postfix import Postfix
from ..backlog import source
from ..backlog.build import domain_of
from ..workplace import module
from .place import PORT, address_of, site_of

_SESSIONS = 20
_MAP = "transport"


class Rival:
    """One instance below `directory`; `first` is the address of site 0.

    Its sites are named by a transport map, which spares it DNS: Postfix asks the system's name
    servers only. `processes` is its limit of connections to all sites together; 0: the default.
    """

    def __init__(
        self, directory: Path, first: str, *, domains: int, sites: int, processes: int
    ) -> None:
        self._directory = directory
        self._port = free_port()
        self._domains = domains
        self._settings = {"transport_maps": f"texthash:{directory / _MAP}"}
        if processes:
            self._settings["default_process_limit"] = str(processes)
        directory.mkdir(parents=True)
        lines = []
        for domain in range(domains):
            address = address_of(first, site_of(domain, domains, sites))
            lines.append(f"{domain_of(domain)} smtp:[{address}]:{PORT}\n")
        (directory / _MAP).write_text("".join(lines))
        self._running: Postfix | None = None

    @property
    def pid(self) -> int:
        return self._running.pid if self._running else 0

    def fill(self, messages: int, size: int) -> None:
        """Queue mail for the domains in turn. LabError: it did not take all of it."""
        holding = self._start({"defer_transports": "smtp"})
        values = (self._port, messages, _SESSIONS, self._domains, 0, size)
        try:
            done = subprocess.run(
                [*module(source), *map(str, values)],
                capture_output=True,
                timeout=120 + messages / 20,
                check=False,
            )
        finally:
            self.stop()
        if done.returncode:
            text = done.stderr.decode(errors="replace")[-500:]
            raise LabError(f"Postfix did not take its queue: {text}{holding.log_text()[-500:]}")

    def drain(self) -> None:
        """Start, and try everything in the queue now."""
        self._start({}).flush()

    def stop(self) -> None:
        if self._running:
            self._running.stop()
            self._running = None

    def _start(self, settings: dict[str, str]) -> Postfix:
        self._running = Postfix(
            self._directory, self._port, settings={**self._settings, **settings}
        )
        self._running.start()
        return self._running
