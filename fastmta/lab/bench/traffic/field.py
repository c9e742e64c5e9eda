"""The sites, their name server, and servers that send to them."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

from ...loopback import HOST, LabError, free_port
from ...server import Server, ServerOptions
from ..backlog.field import LOOPBACK
from ..backlog.filling import Filling, fill
from ..standing import Standing
from ..workplace import Setting, module
from . import nameserver
from .receivers import Receivers, Town

SIZE = 4096  # octets of a message, unless something else is asked for
SITE_CONNECTIONS, WINDOW_START = 20, 5  # the defaults of fastmta, and of Postfix
_POLL_S = 0.05
_DUE_NS = 1  # long ago


def limits(connections: int) -> dict[str, Setting]:
    """Settings for so many connections to all sites together, and no more than that to one."""
    return {
        "delivery.connections": connections,
        "delivery.site_connections": min(SITE_CONNECTIONS, connections),
        "delivery.window_start": min(WINDOW_START, connections),
    }


class Field(Standing):
    """A context manager: receivers and name server run while it is open, servers at most so long.

    `domains` are the names `d00000.test`, ..: the first of them have the first sites.
    """

    def __init__(self, directory: Path, town: Town, domains: int) -> None:
        super().__init__()
        self.directory = directory
        self.domains = domains
        self.town = town
        self.receivers: Receivers
        self._dns_port = free_port()

    def stand(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        self.receivers = self._stack.enter_context(Receivers(self.directory, self.town))
        zone = [self.receivers.first, str(self.domains), str(self.town.sites)]
        command = [*module(nameserver), str(self._dns_port), *zone]
        running = subprocess.Popen(command, stdin=subprocess.DEVNULL)
        self._stack.callback(running.wait)
        self._stack.callback(running.kill)

    def server(self, name: str, workers: int, settings: Mapping[str, Setting]) -> Server:
        """A server that is not started yet, with a spool of its own."""
        options = ServerOptions(
            directory=self.directory / name,
            workers=workers,
            settings={
                "dns.servers": [f"{HOST}:{self._dns_port}"],
                "delivery.allow_addresses": [LOOPBACK],
                **settings,
            },
        )
        server = Server(options)
        self._stack.callback(server.kill)
        return server

    def fill(self, server: Server, messages: int, domains: int, size: int = SIZE) -> float:
        """Give a server that has not run yet mail for the first domains, due now; seconds taken."""
        filling = Filling(
            messages=messages,
            domains=domains,
            size=size,
            shards=server.options.workers,
            due_at_ns=_DUE_NS,
        )
        return fill(server.directory / "spool", filling, self._stack)[0]

    def wait(self, messages: int, stall_s: float, limit_s: float) -> bool:
        """Until so many messages have been answered; False after `limit_s`. LabError: a stall."""
        known, begin_s = self.receivers.messages, time.monotonic()
        changed_s = begin_s
        while known < messages:
            time.sleep(_POLL_S)
            found, now_s = self.receivers.messages, time.monotonic()
            if found != known:
                known, changed_s = found, now_s
            elif now_s - changed_s > stall_s:
                raise LabError(f"deliveries stand still at {known} of {messages}")
            if now_s - begin_s > limit_s:
                return False
        return True
