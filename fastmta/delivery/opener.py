"""Opening a connection to one target: over TCP from the right address, or to a unix socket."""

from __future__ import annotations

import asyncio
import os
from collections import OrderedDict
from typing import Final

from fastmta.message import Outcome
from fastmta.route.way import TlsLevel

from . import trouble
from .connection import Connection
from .options import DeliveryOptions
from .ports import CourierPorts

CLEAR_S: Final = 900.0  # so long a host that failed at TLS is not asked for it again
_CLEAR_MAX: Final = 1024
ALARM_S: Final = 60.0
_ALARMS_MAX: Final = 256


class Recent:
    """What happened within the last `life_s` seconds, at most `count_max` of it."""

    __slots__ = ("_count_max", "_known", "_life_s")

    def __init__(self, life_s: float, count_max: int) -> None:
        self._life_s = life_s
        self._count_max = count_max
        self._known: OrderedDict[tuple[object, ...], float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._known)

    def add(self, now_s: float, *key: object) -> None:
        """It happened now; the oldest is forgotten for it if need be."""
        self._known[key] = now_s
        self._known.move_to_end(key)
        if len(self._known) > self._count_max:
            self._known.popitem(last=False)

    def has(self, now_s: float, *key: object) -> bool:
        """Whether it happened lately."""
        at_s = self._known.get(key)
        if at_s is None:
            return False
        if now_s - at_s < self._life_s:
            return True
        del self._known[key]
        return False


def hosts_in_clear() -> Recent:
    """Hosts, by site, that get no STARTTLS for a while."""
    return Recent(CLEAR_S, _CLEAR_MAX)


def alarms() -> Recent:
    """What an operator was told of a relay, lest it fill the log."""
    return Recent(ALARM_S, _ALARMS_MAX)


async def open_connection(
    connection: Connection,
    options: DeliveryOptions,
    ports: CourierPorts,
    loop: asyncio.AbstractEventLoop,
) -> Outcome | None:
    """Connect within the time limit; the outcome if that fails. Only our own errors are raised."""
    target, way, peer = connection.target, connection.way, connection.peer
    is_unix = target.address.startswith("/")
    if ports.why_not is not None and not way.is_unfiltered and not is_unix:
        kind = ports.why_not(target.address)
        if kind:
            return trouble.forbidden(peer, kind)
    if ports.contexts is not None and way.tls.level is not TlsLevel.NONE:
        prepare = ports.contexts.preparation(way.tls)
        if prepare is not None:
            await loop.run_in_executor(None, prepare)
    source = None if is_unix else options.source_for(target.address, way.sources)
    try:
        async with asyncio.timeout(options.time_limits.connect_s):
            if is_unix:
                await loop.create_unix_connection(lambda: connection, target.address)
            else:
                await loop.create_connection(
                    lambda: connection,
                    target.address,
                    target.port,
                    local_addr=None if source is None else (source, 0),
                )
    except TimeoutError:
        return trouble.unreachable(peer, "Connection timed out")
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        return trouble.unreachable(peer, reason)
    return None
