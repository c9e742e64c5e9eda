"""A worker's part of a reload: what it needs is made first, and put in place only if all went well.

Everything here is done in place. Keys for which that cannot be, `effect` has a table of; of those
this is not asked.
"""

from __future__ import annotations

import asyncio
import os
import pickle
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import msgspec

from fastmta.config import Config
from fastmta.config.difference import difference
from fastmta.delivery.ports import CountTls, CourierPorts
from fastmta.event import Notice, Severity
from fastmta.route import OwnHosts, Resolver, RouteTable
from fastmta.route.owned import OwnedTable
from fastmta.route.ways import Ways
from fastmta.security import Authenticator
from fastmta.spool import SpoolOptions

from . import order
from .clients import Refresher, make_authenticator, make_limits
from .inbound import Inbound, renew_inbound
from .intake import Intake
from .order import Answer, Place, Plan
from .outbound import Authorities, authorities, courier_ports, rules
from .pickup import Pickup
from .pressure import Pressure
from .reception import Common, Reception, Terms
from .reshaping import Reshaper
from .routing import route_table, ways
from .settings import (
    delivery_options,
    notify_options,
    own_hosts,
    pressure_limits,
    scheduler_options,
    share,
    spool_options,
)
from .shard import Shard
from .sockets import BadStart, Bound

_OF_TLS = ("tls", "listen", "hostname")
_OF_OURSELVES = ("listen", "hostname")
_OF_LOGINS = ("auth", "listen", "hooks")
_OF_CLIENTS = ("client_limits", "limits.connections_per_client", "relay.trusted_networks")
_OF_THE_WAY_OUT = ("delivery", "relay", "relays", "route", "tls_policy", "listen")
_OF_LOCAL_MAIL = ("limits", "rewrite", "headers", "notify", "pressure")
RETIRED_MAX = 8  # authenticators that sessions may still have


@dataclass(slots=True)
class Running:
    """What a worker runs on, and a reload changes."""

    config: Config
    inbound: Inbound
    terms: Terms
    common: Common
    reception: Reception
    intake: Intake
    pickup: Pickup | None
    pressure: Pressure
    shards: Sequence[Shard]
    resolver: Resolver
    reshaper: Reshaper
    refresher: Refresher
    count_tls: CountTls


@dataclass(slots=True)
class _Change:
    """What is made and not yet used."""

    generation: int
    config: Config
    keys: list[str]
    bound: list[Bound]
    fresh: list[Bound]
    inbound: Inbound
    terms: Terms
    routes: RouteTable | OwnedTable
    ways: Ways
    own: OwnHosts
    ports: CourierPorts | None  # None: those we have
    authorities: Authorities

    def abandon(self) -> None:
        """It is not to be used."""
        for each in self.fresh:
            for one in each.sockets:
                one.close()


class Renewal:
    """Takes packets of the supervisor, and answers them."""

    def __init__(
        self, orders: socket.socket, running: Running, on_failed: Callable[[str], None]
    ) -> None:
        """`on_failed` ends the worker: the next one starts with what we could not take up."""
        self._orders = orders
        self._now = running
        self._on_failed = on_failed
        self._sockets: list[int] = []
        self._change: _Change | None = None
        self._authorities = authorities(running.config)
        self._retired: list[Authenticator] = []
        self._queue: list[tuple[bytes, bytes, list[int]]] = []
        self._task: asyncio.Task[None] | None = None
        orders.setblocking(False)
        running.common.loop.add_reader(orders.fileno(), self._on_packets)

    @property
    def config(self) -> Config:
        """The one in use."""
        return self._now.config

    def close(self) -> None:
        """Nothing is changed any more."""
        self._now.common.loop.remove_reader(self._orders.fileno())
        if self._task is not None:
            self._task.cancel()
        for one in self._retired:
            one.close()

    def _on_packets(self) -> None:
        try:
            while (packet := order.receive(self._orders)) is not None:
                self._queue.append(packet)
        except EOFError:
            self._now.common.loop.remove_reader(self._orders.fileno())
        if self._queue and self._task is None:
            self._task = self._now.common.loop.create_task(self._work())

    async def _work(self) -> None:
        while self._queue:
            kind, body, fds = self._queue.pop(0)
            try:
                await self._take(kind, body, fds)
            except Exception as defect:
                self._on_failed(f"reload: {type(defect).__name__}: {defect}")
                break
        self._task = None

    async def _take(self, kind: bytes, body: bytes, fds: list[int]) -> None:
        if kind == order.SOCKETS:
            self._sockets += fds
        elif kind == order.PREPARE:
            await self._prepare(pickle.loads(body), fds[0])
        elif kind == order.TELL:
            text, is_bad = msgspec.json.decode(body)
            self._tell(text, Severity.WARNING if is_bad else Severity.INFO)
        elif self._change is not None and body == order.number(self._change.generation):
            change, self._change = self._change, None
            if kind == order.COMMIT:
                await self._use(change)
                self._answer(Answer(change.generation, is_done=True))
            else:
                change.abandon()
        elif kind == order.COMMIT:  # we said that we cannot, but nobody waited for that
            self._on_failed("reload: the configuration in use could not be taken up")

    def _answer(self, answer: Answer) -> None:
        order.send(self._orders, msgspec.json.encode(answer), b"")

    def _tell(self, text: str, severity: Severity) -> None:
        self._now.common.emit(Notice("master", text, severity))

    # Before

    async def _prepare(self, plan: Plan, config_fd: int) -> None:
        if self._change is not None:
            self._change.abandon()
            self._change = None
        fds, self._sockets = self._sockets, []
        try:
            config = order.unpack_config(config_fd)
        finally:
            os.close(config_fd)
        bound, fresh = self._bound(plan.places, fds)
        try:
            self._change = await self._made(plan.generation, config, bound, fresh)
        except Exception as error:
            for each in fresh:
                for one in each.sockets:
                    one.close()
            is_told = isinstance(error, BadStart)
            text = str(error) if is_told else f"{type(error).__name__}: {error}"
            self._answer(Answer(plan.generation, problem=text or "it cannot be used"))
        else:
            self._answer(Answer(plan.generation))

    def _bound(self, places: Sequence[Place], fds: list[int]) -> tuple[list[Bound], list[Bound]]:
        """All that is listened on, and what of it is new."""
        had = {each.key: each for each in self._now.reception.bound}
        bound, fresh = [], []
        for place in places:
            if place.fds:
                own, fds = fds[: place.fds], fds[place.fds :]
                sockets = tuple(socket.socket(fileno=fd) for fd in own)
                each = Bound(place.name, place.address, sockets, place.path, key=place.key)
                fresh.append(each)
            else:
                each = replace(had[place.key], name=place.name)
            bound.append(each)
        return bound, fresh

    async def _made(
        self, generation: int, config: Config, bound: list[Bound], fresh: list[Bound]
    ) -> _Change:
        """Everything that may fail. Raises BadStart."""
        now = self._now
        common, old = now.common, now.terms
        keys = difference(now.config, config)
        inbound = now.inbound
        if _touches(keys, _OF_TLS):
            inbound = renew_inbound(config, inbound)
        limits = old.limits
        if _touches(keys, _OF_CLIENTS):
            limits = make_limits(config, inbound, common.index)
        authenticator = old.authenticator
        if _touches(keys, _OF_LOGINS) or limits is not old.limits:
            authenticator = make_authenticator(
                config, common.loop, common.emit, inbound.login_secret, limits.is_locked
            )
        own = now.resolver.options.own
        if _touches(keys, _OF_OURSELVES):
            addresses = [each.sockets[0].getsockname()[:2] for each in bound if not each.is_local]
            own = await common.loop.run_in_executor(None, own_hosts, config, addresses)
        trusted = authorities(config)
        # A connection that is kept was trusted by the files as they were.
        is_new = trusted != self._authorities or _touches(keys, _OF_THE_WAY_OUT)
        if config.delivery.reply_rules and not is_new:  # what is in the file may have changed
            known = now.shards[0].courier.rules
            is_new = known is None or not rules(config).is_like(known)
        return _Change(
            generation,
            config,
            keys,
            bound,
            fresh,
            inbound,
            Terms(config, inbound.contexts, limits, authenticator),
            route_table(config),
            ways(config),
            own,
            courier_ports(config, own, common.emit, common.loop, now.count_tls) if is_new else None,
            trusted,
        )

    # After

    async def _use(self, change: _Change) -> None:
        """Nothing here fails but by a defect."""
        now, config, keys = self._now, change.config, change.keys
        old = now.terms
        now.config, now.inbound, now.terms = config, change.inbound, change.terms
        self._authorities = change.authorities
        now.intake.renew(
            message_octets_max=config.limits.message_octets, large_octets=config.spool.big_octets
        )
        if now.pickup is not None and _touches(keys, _OF_LOCAL_MAIL):
            now.pickup.renew(config)
        now.common.room.octets_max = share(config.limits.content_octets, now.common.workers)
        if _touches(keys, ("pressure",)):
            now.pressure.renew(pressure_limits(config))
        authenticator = change.terms.authenticator
        if authenticator is not old.authenticator:
            if authenticator is not None:
                authenticator.start()
            self._retire(old.authenticator)
        await now.reception.renew(change.terms, change.bound)
        now.refresher.renew(config, change.inbound, change.terms.limits)
        self._let_out(change)

    def _retire(self, old: Authenticator | None) -> None:
        """Sessions that are open may still log in by it."""
        if old is not None:
            self._retired.append(old)
        while len(self._retired) > RETIRED_MAX:
            self._retired.pop(0).close()

    def _let_out(self, change: _Change) -> None:
        """The ways out."""
        now, config, common = self._now, change.config, self._now.common
        is_another_way = change.ways != now.resolver.ways
        now.resolver.ways = change.ways
        now.resolver.options = msgspec.structs.replace(
            now.resolver.options, own=change.own, attempt_targets=config.delivery.addresses
        )
        next_hop = change.routes.next_hop
        for shard in now.shards:
            if change.ports is not None:
                shard.courier.renew(delivery_options(config, common.workers), change.ports)
            shard.bouncer.renew(notify_options(config))
            options = scheduler_options(config, common.workers, common.division)
            shard.scheduler.renew(options, next_hop)
            rows = spool_options(config, shard.number, change.routes.fingerprint)
            is_elsewhere = _promise(rows) != _promise(shard.spool.options)
            if is_elsewhere:
                shard.spool.reroute(rows, next_hop)
            if is_elsewhere or is_another_way:
                shard.scheduler.reroute()
        now.reshaper.renew()


def _promise(options: SpoolOptions) -> tuple[bytes, float, float]:
    """What the rows of an index depend on."""
    return options.routing_token, options.lifetime_s, options.bounce_lifetime_s


def _touches(keys: Sequence[str], prefixes: Sequence[str]) -> bool:
    """Whether any of the keys is, or is below, one of `prefixes`."""
    return any(key == one or key.startswith(f"{one}.") for key in keys for one in prefixes)
