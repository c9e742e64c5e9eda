"""The listeners of one worker: made of a configuration, and, on a reload, made again of another.

Sessions keep the ports they began with, so a reload changes nothing for them; the next ones get
what is new. A listener that is in both keeps its sockets, one that is new gets its own, and one
that is gone takes no clients any more, but serves those it has.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fastmta.budget import ClientLimits
from fastmta.config import Config
from fastmta.delivery.dns import ClientNames
from fastmta.event import Event
from fastmta.listener import Census, Listener
from fastmta.listener.listener import ListenerSettings, Names
from fastmta.message import Envelope
from fastmta.security import Authenticator, ServerContexts
from fastmta.session import ContentRoom, Ports

from .clock import QueueClock
from .descriptor import Division
from .intake import Intake
from .local import LocalNames, LocalPolicy, LocalQuota
from .names import TrustedNames
from .settings import census, listener_settings, relay_policy, session_settings
from .sockets import Bound

if TYPE_CHECKING:
    from fastmta.hooks import AiosmtpdHooks


@dataclass(frozen=True, slots=True)
class Common:
    """What all listeners of a worker share, whatever the configuration."""

    index: int
    workers: int
    loop: asyncio.AbstractEventLoop
    emit: Callable[[Event], None]
    clock: QueueClock
    intake: Intake
    room: ContentRoom
    division: Division
    names: ClientNames
    hooks: AiosmtpdHooks | None
    tenant_of: Callable[[Envelope], str] | None


@dataclass(frozen=True, slots=True)
class Terms:
    """What a configuration says about clients."""

    config: Config
    contexts: Mapping[str, ServerContexts]
    limits: ClientLimits
    authenticator: Authenticator | None


@dataclass(frozen=True, slots=True)
class _Setting:
    """What one listener is made of."""

    ports: Ports
    settings: ListenerSettings
    names: Names
    tls: ServerContexts | None


class Reception:
    """All listeners; `listeners` is always the same list, for whoever looks at them."""

    def __init__(self, common: Common, terms: Terms, bound: Sequence[Bound]) -> None:
        self.bound = list(bound)
        self._common = common
        self._limits = terms.limits
        self._census: Census = census(terms.config, common.workers, common.division, terms.limits)
        made = self._settings(terms, bound)
        self.listeners = [self._listener(one) for one in made]
        self._retired: list[Listener] = []  # with clients, but without sockets
        self._shut = (False, False)

    async def start(self) -> None:
        """Let clients in."""
        for listener, each in zip(self.listeners, self.bound, strict=True):
            await listener.start([each.sockets[self._common.index]])

    async def stop(self, deadline_s: float) -> None:
        """Let nobody in; open transactions end within the deadline."""
        everybody = (*self.listeners, *self._retired)
        await asyncio.gather(*(listener.stop(deadline_s) for listener in everybody))

    def shut(self, is_shut: bool, is_draining: bool) -> None:
        """Whether whoever comes is told 421, and whether that is as the server drains."""
        self._shut = (is_shut, is_draining)
        for listener in self.listeners:
            listener.shut(*self._shut)

    def send_away(self) -> None:
        """Tell clients without an open transaction 421."""
        for listener in (*self.listeners, *self._retired):
            listener.send_away()

    def adopt(self, index: int) -> None:
        """Serve the clients of worker `index`, too: it is gone."""
        for listener, each in zip(self.listeners, self.bound, strict=True):
            listener.adopt(each.sockets[index])

    def drop(self, index: int) -> None:
        """It is back."""
        for listener, each in zip(self.listeners, self.bound, strict=True):
            listener.drop(each.sockets[index])

    @property
    def connection_count(self) -> int:
        """Clients connected now."""
        return sum(one.connection_count for one in (*self.listeners, *self._retired))

    async def renew(self, terms: Terms, bound: Sequence[Bound]) -> None:
        """Do as `terms` say from now on, at the sockets of `bound`."""
        common = self._common
        limits = census(terms.config, common.workers, common.division, terms.limits)
        had = dict(zip((each.key for each in self.bound), self.listeners, strict=True))
        sockets = {each.key: each for each in self.bound}
        new: list[Listener] = []
        for each, setting in zip(bound, self._settings(terms, bound), strict=True):
            listener = had.pop(each.key, None)
            if listener is None:
                listener = self._listener(setting)
                listener.shut(*self._shut)
                await listener.start([each.sockets[common.index]])
            else:
                listener.renew(setting.ports, setting.settings, setting.names, setting.tls)
            new.append(listener)
        for key, listener in had.items():
            listener.retire()
            self._retired.append(listener)
            for index, one in enumerate(sockets[key].sockets):
                listener.drop(one)
                if index != common.index:
                    one.close()
        self._retired = [one for one in self._retired if one.connection_count]
        self.listeners[:] = new
        self.bound = list(bound)
        self._census.connections_max = limits.connections_max
        if terms.limits is not self._limits:
            for listener in (*self.listeners, *self._retired):
                listener.recount(self._limits, terms.limits)
            self._limits = self._census.clients = terms.limits

    def _settings(self, terms: Terms, bound: Sequence[Bound]) -> list[_Setting]:
        config, common, limits = terms.config, self._common, terms.limits
        policy = relay_policy(config)
        names = TrustedNames(policy, common.names)
        made = []
        for each in bound:
            listen = config.listen[each.name]
            ports = Ports(
                session_settings(config, listen, each.name),
                LocalPolicy(policy) if each.is_local else policy,
                common.intake,
                common.clock,
                common.emit,
                common.room,
                terms.authenticator,
                LocalQuota(limits) if each.is_local else limits,
                None if common.hooks is None else common.hooks.begin,
                common.tenant_of,
            )
            settings = listener_settings(config, listen, common.division, each.is_local)
            known = LocalNames(names) if each.is_local else names
            made.append(_Setting(ports, settings, known, terms.contexts.get(each.name)))
        return made

    def _listener(self, one: _Setting) -> Listener:
        return Listener(
            one.ports, one.settings, one.names, self._census, self._common.loop, one.tls
        )
