"""Sessions that wait for their next message, by site, and the one clock that watches every session.

Last in, first out: the session used last is the least likely to have been closed by its server, and
the ones nobody needs grow old together.
"""

from __future__ import annotations

import asyncio
from time import monotonic

from .connection import Connection
from .options import DeliveryOptions


class Pool:
    """Every open connection of a courier. An idle one is reached by the key of its site."""

    __slots__ = ("_idle", "_loop", "_open", "_options", "_tick_s", "_timer", "idle_count")

    def __init__(self, options: DeliveryOptions, loop: asyncio.AbstractEventLoop) -> None:
        self._options = options
        self._loop = loop
        self._open: set[Connection] = set()
        self._idle: dict[bytes, list[Connection]] = {}
        self._tick_s = options.tick_s
        self._timer: asyncio.TimerHandle | None = None
        self.idle_count = 0

    def __len__(self) -> int:
        return len(self._open)

    def add(self, connection: Connection) -> None:
        """Watch a new connection until it is gone."""
        self._open.add(connection)
        if self._timer is None:
            self._timer = self._loop.call_later(self._tick_s, self._tick)

    def take(self, site_key: bytes) -> Connection | None:
        """The idle session of that site that was used last."""
        idle = self._idle.get(site_key)
        if not idle:
            return None
        connection = idle.pop()
        assert connection.is_idle
        connection.is_idle = False
        self.idle_count -= 1
        return connection

    def may_go_on(self, connection: Connection) -> bool:
        """Whether a session may carry one more transaction."""
        messages_max = connection.dialog.messages_max  # RFC 9422 4.1
        return connection.use_count < self._options.messages_per_session_max and not (
            0 < messages_max <= connection.use_count
        )

    def put(self, site_key: bytes, connection: Connection, now_s: float) -> None:
        """Keep a session for the next message, or let it say QUIT if it has served enough."""
        options = self._options
        assert not connection.is_idle
        if (
            options.idle_s <= 0
            or not self.may_go_on(connection)
            or now_s - connection.opened_s >= options.session_age_s_max
            or self.idle_count >= options.idle_sessions_max
        ):
            connection.quit()
            return
        connection.is_idle = True
        connection.site_key = site_key
        connection.deadline_s = now_s + options.idle_s
        self.idle_count += 1
        idle = self._idle.get(site_key)
        if idle is None:
            self._idle[site_key] = [connection]
        else:
            idle.append(connection)

    def drop(self, connection: Connection) -> None:
        """The session is not fit for use; the connection is still watched until it is gone."""
        if not connection.is_idle:
            return
        connection.is_idle = False
        self.idle_count -= 1
        self._idle[connection.site_key].remove(connection)

    def forget(self, connection: Connection) -> None:
        """The connection is gone."""
        self.drop(connection)
        self._open.discard(connection)

    def quit_idle(self) -> None:
        """Every idle session says QUIT."""
        idle, self._idle, self.idle_count = self._idle, {}, 0
        for connections in idle.values():
            for connection in connections:
                connection.is_idle = False
                connection.quit()

    def stop_clock(self) -> None:
        """Nothing is open any more, or nobody cares."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def open_connections(self) -> list[Connection]:
        """All of them, idle or busy."""
        return list(self._open)

    def _tick(self) -> None:
        now_s = monotonic()
        for connection in [one for one in self._open if one.deadline_s <= now_s]:
            if connection.is_idle:
                self.drop(connection)
            connection.look(now_s)
        for site_key in [key for key, idle in self._idle.items() if not idle]:
            del self._idle[site_key]
        self._timer = self._loop.call_later(self._tick_s, self._tick) if self._open else None
