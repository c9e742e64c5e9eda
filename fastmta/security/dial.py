"""Connections to a service that is named by a path or by host and port."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from .step import Cancel

CONNECT_TIMEOUT_S: Final = 10.0
_TCP = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^/:\[\]\s]+):([0-9]{1,5})")
_PORT_MAX = 65_535


class BadPlace(ValueError):
    """Neither a path nor host and port."""


class Dialler:
    """Connects to one place, from one loop."""

    def __init__(self, where: str, loop: asyncio.AbstractEventLoop) -> None:
        """Raises BadPlace."""
        self._loop = loop
        self._path = where if where.startswith("/") else ""
        self._address = ("", 0)
        if not self._path:
            match = _TCP.fullmatch(where)
            if match is None or not 0 < int(match[2]) <= _PORT_MAX:
                raise BadPlace(f"{where}: not /path/of/a/socket and not host:port")
            self._address = (match[1].strip("[]"), int(match[2]))

    def connect(self, protocol: asyncio.Protocol, failed: Callable[[str], None]) -> Cancel:
        """Give `protocol` a transport, or call `failed` once with the reason; neither when the
        function that is returned is called before."""
        task = self._loop.create_task(self._connect(protocol))
        task.add_done_callback(partial(_finish, failed))
        return lambda: _cancel(task)

    async def _connect(self, protocol: asyncio.Protocol) -> None:
        def make() -> asyncio.Protocol:
            return protocol

        connecting: Any  # either kind of coroutine, whose result is not needed
        if self._path:
            connecting = self._loop.create_unix_connection(make, self._path)
        else:
            connecting = self._loop.create_connection(make, *self._address)
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            await connecting


def _cancel(task: asyncio.Task[None]) -> None:
    task.cancel()


def _finish(failed: Callable[[str], None], task: asyncio.Task[None]) -> None:
    error = None if task.cancelled() else task.exception()
    if isinstance(error, TimeoutError):
        failed("no connection in time")
    elif isinstance(error, OSError):
        failed(error.strerror or str(error))
    elif error is not None:
        raise error  # a fault of ours: the loop's exception handler must see it
