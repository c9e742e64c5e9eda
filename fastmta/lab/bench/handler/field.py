"""The servers that have the handler, each as a process, and one run of one of them."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from ... import process
from ...loopback import HOST, LabError, free_port, is_listening, wait_until
from ...server import Server, ServerOptions
from ..measure import LogTail
from ..receiver import Receiver
from ..shim import SharedPage
from ..source import Source, SourceReport
from ..standing import Standing
from ..workplace import Setting, module
from . import controller
from .counting import HANDLERS, MESSAGES, PAGE

AIOSMTPD, SINK, FILTER = "aiosmtpd", "fastmta-sink", "fastmta-filter"
NAMES = (AIOSMTPD, SINK, FILTER)
_START_S = 20.0
_REMOVED_S = 120.0
_SETTLE_S = 0.3


@dataclass(frozen=True, slots=True)
class HandlerRun:
    """What one run took, until the last 250."""

    messages: int
    accepted_s: float
    cpu_s: float  # process tree of the server, deliveries of a filter included
    source: SourceReport

    @property
    def accepted_rate(self) -> float:
        return self.messages / self.accepted_s

    @property
    def cpu_us(self) -> float:
        return self.cpu_s / self.messages * 1e6


class Contender(Protocol):
    """What a run needs of a server."""

    port: int

    @property
    def pid(self) -> int: ...
    def start(self) -> None: ...
    def kill(self) -> None: ...


class Aiosmtpd:
    """aiosmtpd's Controller in a process of its own."""

    def __init__(self, handler: str, environment: Mapping[str, str]) -> None:
        self.port = free_port()
        self._command = [*module(controller), str(self.port), handler]
        self._environment = environment
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        return self._process.pid if self._process else 0

    def start(self) -> None:
        started = subprocess.Popen(
            self._command, stdin=subprocess.PIPE, env=dict(self._environment)
        )
        self._process = started

        def is_up() -> bool:
            if started.poll() is not None:
                raise LabError(f"aiosmtpd's server ended with {started.returncode}")
            return is_listening(self.port)

        wait_until(is_up, _START_S, "aiosmtpd's server")

    def kill(self) -> None:
        if self._process:
            self._process.kill()
            self._process.communicate()
            self._process = None


class Field(Standing):
    """Started servers, one of each name; a context manager that stops them."""

    def __init__(
        self,
        directory: Path,
        names: tuple[str, ...],
        handler: str,
        settings: Mapping[str, Setting],
    ) -> None:
        super().__init__()
        self.names = names
        self._directory = directory
        self._handler = handler
        self._settings = settings
        self._contenders: dict[str, Contender] = {}
        self._pages: dict[str, SharedPage] = {}

    def stand(self) -> None:
        for name in self.names:
            self._start(name)

    def _start(self, name: str) -> None:
        page = SharedPage(self._directory / f"page-{name}")
        self._stack.callback(page.close)
        self._pages[name] = page
        environment = {PAGE: str(page.path)}
        if name == AIOSMTPD:
            contender: Contender = Aiosmtpd(self._handler, environment)
        else:
            contender = self._fastmta(name, environment)
        self._stack.callback(contender.kill)
        contender.start()
        self._contenders[name] = contender

    def _fastmta(self, name: str, environment: Mapping[str, str]) -> Server:
        receiver = Receiver(self._directory, free_port(), is_own=True)
        self._stack.callback(receiver.stop)
        handler = HANDLERS[self._handler]
        return Server(
            ServerOptions(
                directory=self._directory / name,
                relay_host=f"[{HOST}]:{receiver.port}",
                workers=1,  # as many processes as the other has
                settings={
                    "hooks.aiosmtpd": f"{handler.__module__}:{handler.__qualname__}",
                    "hooks.mode": "filter" if name == FILTER else "sink",
                    **self._settings,
                },
                environment=environment,
            )
        )

    def measure(self, name: str, source: Source, count: int) -> HandlerRun:
        """Send `count` messages; LabError when the handler did not see each of them once."""
        contender, page = self._contenders[name], self._pages[name]
        log = LogTail(contender.log) if isinstance(contender, Server) else None
        seen = page.read(MESSAGES)
        cpu_s = process.tree_cpu_s(contender.pid)
        begin = time.monotonic()
        sending = source.start(contender.port, count)
        try:
            report = sending.finish()
        finally:
            sending.kill()
        accepted_s = time.monotonic() - begin
        if log and name == FILTER:
            _wait_for_removal(log, count)
        time.sleep(_SETTLE_S)
        if page.read(MESSAGES) - seen != count:
            raise LabError(f"{name}: the handler saw {page.read(MESSAGES) - seen} of {count}")
        assert report is not None
        return HandlerRun(count, accepted_s, process.tree_cpu_s(contender.pid) - cpu_s, report)


def _wait_for_removal(log: LogTail, count: int) -> None:
    def is_removed() -> bool:
        log.read()
        return log.removed >= count

    wait_until(is_removed, _REMOVED_S, "the server to deliver what the filter let through")
