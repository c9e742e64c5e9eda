"""A worker's link to the broker of limits over workers."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable

from fastmta.budget.lease import LeasedMeters
from fastmta.event import Event, Notice, Severity

from .broker import receive, send

_PACKETS_MAX = 64  # read before others on the loop have their turn


class Leases:
    """The socket to the broker, on the loop."""

    def __init__(
        self,
        channel: socket.socket,
        life: int,
        loop: asyncio.AbstractEventLoop,
        emit: Callable[[Event], None],
    ) -> None:
        self._channel = channel
        self._loop = loop
        self._emit = emit
        self.meters = LeasedMeters(
            life, time.monotonic, loop, lambda frame: send(channel, frame), self._tell
        )
        channel.setblocking(False)
        loop.add_reader(channel.fileno(), self._on_packets)
        self.meters.start()

    def close(self) -> None:
        """All deliveries have ended."""
        self._loop.remove_reader(self._channel.fileno())
        self.meters.close()

    def _on_packets(self) -> None:
        for _ in range(_PACKETS_MAX):
            frame = receive(self._channel)
            if not frame:
                return
            try:
                self.meters.receive(frame)
            except ValueError as error:
                self._tell(f"limits over workers: {error}", True)

    def _tell(self, text: str, is_bad: bool) -> None:
        self._emit(Notice("master", text, Severity.WARNING if is_bad else Severity.INFO))
