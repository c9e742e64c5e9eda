"""Sessions that wait for their next message, by site, and the one clock that watches every session.

Last in, first out: the session used last is the least likely to have been closed by its server, and
the ones nobody needs grow old together.

A session that said QUIT counts at its server until the connection is closed. Who would open a new
one to the site meanwhile waits for that, so that a site never has more connections than attempts.
For the same reason a session that only one next hop may share makes room for mail of another: what
is counted is the site.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from functools import partial
from time import monotonic

from .connection import Connection
from .options import DeliveryOptions


class Pool:
    """Every open connection of a courier. An idle one is reached by the key of its site, and by one
    of its own, which says who may share it."""

    __slots__ = (
        "_by_age",
        "_farewells",
        "_idle",
        "_leaving",
        "_loop",
        "_open",
        "_options",
        "_renewed_s",
        "_tick_s",
        "_timer",
        "_waiting",
    )

    def __init__(self, options: DeliveryOptions, loop: asyncio.AbstractEventLoop) -> None:
        self._options = options
        self._loop = loop
        self._open: set[Connection] = set()
        self._idle: dict[bytes, list[Connection]] = {}
        self._leaving: dict[bytes, set[Connection]] = {}  # they said QUIT; never empty
        self._waiting: dict[bytes, deque[Callable[[], None]]] = {}  # not more than leave
        self._farewells: dict[bytes, list[tuple[set[Connection], Callable[[], object]]]] = {}
        self._tick_s = options.tick_s
        self._timer: asyncio.TimerHandle | None = None
        self._by_age: dict[Connection, None] = {}  # the idle ones, those that idle longest first
        self._renewed_s = 0.0  # who is older was opened by other options

    def renew(self, options: DeliveryOptions, now_s: float) -> None:
        """Open and keep sessions by these from now on; those that are open end with their mail."""
        self._options = options
        self._renewed_s = now_s
        self.quit_idle()

    def __len__(self) -> int:
        return len(self._open)

    @property
    def idle_count(self) -> int:
        """Sessions that wait for their next message."""
        return len(self._by_age)

    def add(self, connection: Connection) -> None:
        """Watch a new connection until it is gone."""
        self._open.add(connection)
        if self._timer is None:
            self._timer = self._loop.call_later(self._tick_s, self._tick)

    def take(self, site_key: bytes, key: bytes) -> Connection | None:
        """The idle session of that site, and of that key, that was used last."""
        idle = self._idle.get(site_key)
        if not idle:
            return None
        connection = idle.pop()
        if connection.session_key != key:
            idle.append(connection)
            found = next((one for one in reversed(idle) if one.session_key == key), None)
            if found is None:
                return None
            connection = found
            idle.remove(connection)
        assert connection.is_idle
        connection.is_idle = False
        del self._by_age[connection]
        return connection

    def _rouse(self, connection: Connection) -> None:
        connection.is_idle = False
        del self._by_age[connection]

    def may_go_on(self, connection: Connection) -> bool:
        """Whether a session may carry one more transaction."""
        use_count = connection.use_count
        if use_count >= self._options.messages_per_session_max:
            return False
        messages_max = connection.dialog.messages_max  # RFC 9422 4.1
        return messages_max <= 0 or use_count < messages_max

    def put(self, site_key: bytes, key: bytes, connection: Connection, now_s: float) -> None:
        """Keep a session for the next message, or let it say QUIT if it has served enough."""
        options = self._options
        assert not connection.is_idle
        if (
            options.idle_s <= 0
            or connection.opened_s < self._renewed_s
            or not self.may_go_on(connection)
            or now_s - connection.opened_s >= options.session_age_s_max
            or len(self._by_age) >= options.idle_sessions_max
        ):
            self.leave(site_key, connection)
            return
        connection.is_idle = True
        connection.site_key = site_key
        connection.session_key = key
        connection.deadline_s = now_s + options.idle_s
        self._by_age[connection] = None
        idle = self._idle.get(site_key)
        if idle is None:
            self._idle[site_key] = [connection]
        else:
            idle.append(connection)
        if 0 < options.sessions_max < len(self._open):
            leaving = sum(map(len, self._leaving.values()))
            if len(self._open) - leaving > options.sessions_max:
                self._part_with_oldest(connection)

    def _part_with_oldest(self, kept: Connection) -> None:
        """There are more sessions than there may be: whichever idles longest says QUIT."""
        oldest = next(iter(self._by_age))
        if oldest is not kept:
            self.drop(oldest)
            self.leave(oldest.site_key, oldest)

    def drop(self, connection: Connection) -> None:
        """The session is not fit for use; the connection is still watched until it is gone."""
        if not connection.is_idle:
            return
        self._rouse(connection)
        self._idle[connection.site_key].remove(connection)

    def forget(self, connection: Connection) -> None:
        """The connection is gone."""
        self.drop(connection)
        self._open.discard(connection)
        key = connection.site_key
        leaving = self._leaving.get(key)
        if leaving is None or connection not in leaving:
            return
        leaving.remove(connection)
        waiting = self._waiting.get(key)
        next_in_line = waiting.popleft() if waiting else None
        if waiting is not None and not waiting:
            del self._waiting[key]
        if not leaving:
            del self._leaving[key]
        if next_in_line is not None:
            next_in_line()
        self._say_farewell(key, connection)

    def _say_farewell(self, key: bytes, connection: Connection) -> None:
        """Whoever waits for the last of its connections to go is told."""
        farewells = self._farewells.pop(key, ())
        for connections, _ in farewells:
            connections.discard(connection)
        if left := [one for one in farewells if one[0]]:
            self._farewells[key] = left
        for connections, done in farewells:
            if not connections:
                done()

    def leave(self, site_key: bytes, connection: Connection) -> None:
        """A session that is neither idle nor busy says QUIT."""
        connection.site_key = site_key
        self._leaving.setdefault(site_key, set()).add(connection)
        connection.quit()

    def make_room(self, site_key: bytes) -> bool:
        """Whether there is an idle session, which whoever needs one may not share: it says QUIT."""
        idle = self._idle.get(site_key)
        if not idle:
            return False
        oldest = idle.pop(0)
        self._rouse(oldest)
        self.leave(site_key, oldest)
        return True

    def may_open(self, site_key: bytes) -> bool:
        """Whether a new connection to the site is not one too many; else `wait`."""
        leaving = self._leaving.get(site_key)
        return leaving is None or len(leaving) <= len(self._waiting.get(site_key, ()))

    def wait(self, site_key: bytes, then: Callable[[], None]) -> None:
        """Call `then` once a connection that is leaving is gone."""
        assert not self.may_open(site_key)
        self._waiting.setdefault(site_key, deque()).append(then)

    def close_idle(self, site_key: bytes, done: Callable[[], None]) -> None:
        """Every idle session of the site says QUIT; `done`, on a later turn, once they are gone.

        So are those that said it before.
        """
        for connection in self._idle.pop(site_key, ()):
            self._rouse(connection)
            self.leave(site_key, connection)
        leaving = self._leaving.get(site_key)
        if leaving:
            farewell = (set(leaving), partial(self._loop.call_soon, done))
            self._farewells.setdefault(site_key, []).append(farewell)
        else:
            self._loop.call_soon(done)

    def quit_idle(self) -> None:
        """Every idle session says QUIT."""
        for connection in list(self._by_age):
            self.drop(connection)
            self.leave(connection.site_key, connection)

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
                self._leaving.setdefault(connection.site_key, set()).add(connection)
            connection.look(now_s)  # which says QUIT, if it was idle
        for site_key in [key for key, idle in self._idle.items() if not idle]:
            del self._idle[site_key]
        self._timer = self._loop.call_later(self._tick_s, self._tick) if self._open else None
