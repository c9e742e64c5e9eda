"""All inbound connections of one worker: who may connect, how many, and for how long."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol, cast

from fastmta.event import CommandRefused, Notice, Severity
from fastmta.session import Ports
from fastmta.session.settings import Networks
from fastmta.smtp import Reply
from fastmta.smtp import reply as replies
from fastmta.smtp.use import Use

from .census import Census, Clients
from .connection import Connection
from .door import Door, Spare
from .lifetime import LimitedConnection
from .wheel import Wheel

_SCRATCH_OCTETS = 256 * 1024
_PLAIN_OCTETS = 64 * 1024
_SHUT_DOWN_POLL_S = 0.05
# While clients are turned away: 50 a second, of each socket.
_TURN_AWAY_INTERVAL_S = 0.1
_TURN_AWAY_COUNT = 5
_CONNECTION = Use.CONNECTION


class Names(Protocol):
    """Looks up the verified name of a client; calls back at once when it needs no look-up."""

    def client_name(self, address: str, done: Callable[[str], None]) -> None:
        """`done(name)` once; "unknown" when there is no name or it does not lead back."""


@dataclass(frozen=True, slots=True)
class ListenerSettings:
    """Time limits of one listener; how many may connect is the `Census`'s business."""

    idle_s: float = 300.0  # RFC 5321 4.5.3.2.7
    session_s: float = 7200.0  # the longest life of a session; ended between transactions
    backlog: int = 1024  # clients that the kernel accepts ahead of us
    is_implicit_tls: bool = False  # TLS from the first octet, RFC 8314 3.3
    handshake_s: float = 30.0
    proxies: Networks = field(default_factory=Networks)  # who begins with a PROXY header
    is_local: bool = False  # a unix socket
    proxy_s: float = 5.0  # how long for it (Postfix's smtpd_upstream_proxy_timeout)


class TlsSource(Protocol):
    """Where the context of a new TLS session comes from."""

    @property
    def context(self) -> ssl.SSLContext:
        """The present one."""


class Listener:
    """Accepts connections on sockets that the supervisor opened and keeps their limits.

    When no more fit, or `shut` was said, clients are turned away with 421, 50 a second. Before that
    those have to go that were told everything already and only keep us.

    Listeners of one worker share their `census`. `start` needs a running loop. `stop` closes the
    sockets' accepting here, tells idle clients 421, waits for open transactions until the deadline,
    then cuts the rest.
    """

    def __init__(
        self,
        ports: Ports,
        settings: ListenerSettings,
        names: Names,
        census: Census,
        loop: asyncio.AbstractEventLoop,
        tls: TlsSource | None = None,
    ) -> None:
        self._census = census
        self._tls = tls
        self.ports = ports
        self.scratch = memoryview(bytearray(_SCRATCH_OCTETS))
        # What was decrypted; used as `scratch` is.
        self.plain = memoryview(bytearray(_PLAIN_OCTETS if tls is not None else 0))
        # What connections ask for often, without a frame of ours.
        self.now_s = loop.time
        self.call_later = loop.call_later
        self._names = names
        self._heed(settings)
        self._loop = loop
        self._wheel = Wheel(loop.time)
        self._connections: set[LimitedConnection] = set()
        self._doors: list[Door] = []
        self._adopted: dict[int, Door] = {}
        self._wanted: set[int] = set()  # sockets that are adopted or about to be
        self._adopting: set[asyncio.Task[None]] = set()
        self._is_stopping = False
        self._is_shut = False
        self._is_draining = False
        self._is_turning_away = False
        self._spare = Spare()
        self._turning: asyncio.TimerHandle | None = None

    def _heed(self, settings: ListenerSettings) -> None:
        self.settings = settings
        self.idle_s = settings.idle_s
        # Something may come before SMTP: a proxy's header, or TLS.
        self.is_layered = bool(settings.proxies) or settings.is_implicit_tls
        self._is_counting_all = not settings.proxies and not settings.is_local

    def renew(
        self, ports: Ports, settings: ListenerSettings, names: Names, tls: TlsSource | None
    ) -> None:
        """Whoever connects from now on gets these; sessions keep the ports they began with."""
        self.ports = ports
        self._names = names
        self._heed(settings)
        if tls is not None:  # else those who were offered it may still begin with the old one
            self._tls = tls
            if not self.plain:
                self.plain = memoryview(bytearray(_PLAIN_OCTETS))

    def retire(self) -> None:
        """Let nobody in any more; who is in stays, until `stop`."""
        for door in self._doors:
            door.close()
        self._doors.clear()

    def recount(self, old: Clients, new: Clients) -> None:
        """Clients were counted by `old`, and are by `new` from now on.

        Who has more connections than the new one takes keeps them, without being counted.
        """
        for connection in self._connections:
            if connection.counted_as:
                old.leave(connection.counted_as)
                if not new.enter(connection.counted_as):
                    connection.counted_as = ""

    async def start(self, sockets: Sequence[socket.socket]) -> None:
        """Accept on listening `sockets`."""
        for listening in sockets:
            door = self._door(listening)
            self._doors.append(door)
            await door.open()
        self._turn()

    def _door(self, listening: socket.socket) -> Door:
        # uvloop looks for `get_buffer` by name; the base class of the hint would switch it off.
        factory = cast(Callable[[], asyncio.BaseProtocol], partial(Connection, self))
        return Door(self._loop, listening, factory, self.settings.backlog)

    def adopt(self, listening: socket.socket) -> None:
        """Accept on the socket of a worker that died, too (a duplicate of it, which we own)."""
        number = listening.fileno()
        if not self._is_stopping and number not in self._wanted:
            self._wanted.add(number)
            task = self._loop.create_task(self._adopt(number, listening.dup()))
            self._adopting.add(task)
            task.add_done_callback(self._adopting.discard)

    async def _adopt(self, number: int, duplicate: socket.socket) -> None:
        door = self._door(duplicate)
        if not self._is_turning_away:
            await self._open_again(door)
        if number in self._wanted and not self._is_stopping:
            self._adopted[number] = door
        else:  # its owner came back, or we stop
            door.close()

    def drop(self, listening: socket.socket) -> None:
        """The worker that owns the socket is back."""
        self._wanted.discard(listening.fileno())
        door = self._adopted.pop(listening.fileno(), None)
        if door is not None:
            door.close()

    def shut(self, is_shut: bool, is_draining: bool = False) -> None:
        """Whether new clients are turned away, whatever room there is for them; `is_draining`: as
        the server is to stop, not for want of something."""
        self._is_shut, self._is_draining = is_shut, is_draining
        if is_shut:
            while self._census.make_room():
                pass
            self._turn_away_from_now_on()

    def _turn_away_from_now_on(self) -> None:
        if not self._is_turning_away and not self._is_stopping:
            self._is_turning_away = True
            for door in (*self._doors, *self._adopted.values()):
                door.shut()
            self._loop.call_later(_TURN_AWAY_INTERVAL_S, self._turn_away)

    def _turn_away(self) -> None:
        """Tell some of those who wait that we cannot; or let them in, if we can again."""
        if self._is_stopping:
            return
        while self._census.is_crowded and self._census.make_room():
            pass
        if self._is_shut or self._census.is_crowded:
            hostname = self.ports.settings.hostname
            reply = replies.r421_busy(hostname)
            if self._is_shut:
                reply = self._shut_reply(hostname)
            for door in (*self._doors, *self._adopted.values()):
                for address in door.turn_away(reply, _TURN_AWAY_COUNT, self._spare):
                    self._refuse(self.normalise(address), reply)
            self._loop.call_later(_TURN_AWAY_INTERVAL_S, self._turn_away)
        else:
            self._is_turning_away = False
            for door in (*self._doors, *self._adopted.values()):
                task = self._loop.create_task(self._open_again(door))
                self._adopting.add(task)
                task.add_done_callback(self._adopting.discard)

    async def _open_again(self, door: Door) -> None:
        try:
            await door.open()
        except OSError:  # not even a descriptor to listen with
            self._turn_away_from_now_on()

    async def stop(self, deadline_s: float) -> None:
        """Stop accepting, let open transactions end within `deadline_s` seconds, close the rest."""
        self._is_stopping = True
        for door in (*self._doors, *self._adopted.values()):
            door.close()
        until_s = self.now_s() + deadline_s
        while self._connections and self.now_s() < until_s:
            self.send_away()
            await asyncio.sleep(_SHUT_DOWN_POLL_S)
        for connection in tuple(self._connections):
            connection.cut()
        await asyncio.sleep(0)
        self._spare.give_up()
        if self._turning is not None:
            self._turning.cancel()

    def send_away(self) -> None:
        """Tell clients without an open transaction 421."""
        for connection in tuple(self._connections):
            connection.shut_down()

    @property
    def connection_count(self) -> int:
        """Clients connected now."""
        return len(self._connections)

    # What connections ask.

    @staticmethod
    def normalise(address: str) -> str:
        """A v4-mapped IPv6 address as IPv4, everything else as it is (without a zone)."""
        if ":" not in address:
            return address
        ip = ipaddress.IPv6Address(address.partition("%")[0])
        return str(ip.ipv4_mapped or ip)

    def admit(self, connection: LimitedConnection, address: str) -> Reply | None:
        """Count the connection in, or say why not."""
        census = self._census
        if self._is_stopping or self._is_shut or census.is_full:
            refusal = self._no_room(address)
            if refusal is not None:
                return refusal
        if not self._is_counting_all and self._is_uncounted(address):
            connection.counted_as = ""
        else:
            quota = self.ports.quota
            if quota is not None and not quota.spend(_CONNECTION, address):
                return self._too_many(address)
        if not census.enter(connection.counted_as):
            return self._too_many(address)
        self._connections.add(connection)
        self._wheel.add(connection)
        return None

    def _no_room(self, address: str) -> Reply | None:
        """Why nobody can be admitted just now; None: room could be made."""
        hostname = self.ports.settings.hostname
        if self._is_stopping:
            return replies.r421_shutting_down(hostname)
        if self._is_shut:
            return self._refuse(address, self._shut_reply(hostname))
        if self._census.make_room():
            return None
        self._turn_away_from_now_on()
        return self._refuse(address, replies.r421_busy(hostname))

    def _shut_reply(self, hostname: str) -> Reply:
        if self._is_draining:
            return replies.r421_shutting_down(hostname)
        return replies.r421_no_resources(hostname)

    def _is_uncounted(self, address: str) -> bool:
        """Whose connection it is we hear from it (a proxy); or nobody counts."""
        return self.settings.is_local or address in self.settings.proxies

    def _too_many(self, address: str) -> Reply:
        hostname = self.ports.settings.hostname
        return self._refuse(address, replies.r421_too_many_connections(hostname, f"[{address}]"))

    def rename(self, connection: LimitedConnection, client: str) -> Reply | None:
        """Behind the proxy is `client`: count the connection as its, or say why not."""
        quota = self.ports.quota
        is_over = quota is not None and not quota.spend(_CONNECTION, client)
        if is_over or not self._census.rename("", client):
            return self._too_many(client)
        connection.counted_as = client
        return None

    def may_start_tls(self, address: str) -> bool:
        """Whether the client may begin one more handshake."""
        quota = self.ports.quota
        if quota is None or quota.spend(Use.TLS, address):
            return True
        hostname = self.ports.settings.hostname
        self._refuse(address, replies.r421_too_many_tls(hostname, f"[{address}]"))
        return False

    def tls_context(self) -> ssl.SSLContext:
        """The context of a new TLS session."""
        assert self._tls is not None, "TLS is on offer only where there is a certificate"
        return self._tls.context

    def tell_tls(self, address: str, text: str) -> None:
        """A TLS session broke; the reason is for the log, the client has its alert."""
        self.ports.emit(Notice("smtpd", f"SSL_accept error from unknown[{address}]: {text}"))

    def tell_proxy(self, address: str, text: str) -> None:
        """A trusted proxy sent something else than a header."""
        self.ports.emit(Notice("smtpd", f"PROXY header of [{address}]: {text}", Severity.WARNING))

    def _refuse(self, address: str, reply: Reply) -> Reply:
        service = self.ports.settings.service
        client = f"unknown[{address}]"
        self.ports.emit(CommandRefused(client, "CONNECT", reply.text, service=service))
        return reply

    def left(self, connection: LimitedConnection, address: str) -> None:
        """The connection is gone."""
        if connection not in self._connections:
            return
        self._connections.discard(connection)
        self._wheel.discard(connection)
        self._census.leave(address, connection)

    def parting(self, connection: LimitedConnection) -> None:
        """The connection was told everything and waits for its client to close."""
        if connection in self._connections:
            self._census.part(connection)

    def name_of(self, address: str, done: Callable[[str], None]) -> None:
        """The verified name of the client."""
        self._names.client_name(address, done)

    def watch(self, connection: LimitedConnection) -> None:
        """Watch a connection's deadline, which has passed or come nearer."""
        self._wheel.discard(connection)
        self._wheel.add(connection)

    def _turn(self) -> None:
        self._wheel.turn()
        self._turning = self._loop.call_later(1.0, self._turn)
