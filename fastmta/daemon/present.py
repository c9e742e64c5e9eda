"""What the supervisor starts workers with: the configuration in use, and what was made of it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, replace

from fastmta.config import Config
from fastmta.config.difference import difference, keeping

from .effect import for_start
from .inbound import Inbound
from .sockets import Bound, close_sockets, fresh_of
from .unixsocket import set_mode


@dataclass(slots=True)
class Present:
    """There is one, which a reload changes; and, during a reload, the one that it will become."""

    config: Config
    bound: list[Bound]
    inbound: Inbound
    count: int  # workers, until the next start
    again: Callable[[], Config]  # reads the configuration anew; raises ConfigError
    inherited: tuple[Bound, ...] = ()  # of the service manager: open as long as we live

    @property
    def kept(self) -> list[Bound]:
        """What another configuration may go on with: also what this one has no section for."""
        return [*self.inherited, *(each for each in self.bound if not each.is_inherited)]

    def after(self, config: Config) -> Present:
        """The same with another configuration, yet without what has to be made for it.

        What only a start takes up stays as it is: a worker that is started anew must not go to
        another spool than the others.
        """
        later = for_start(difference(self.config, config))
        return replace(self, config=keeping(self.config, config, later))

    def copy(self) -> Present:
        """As it is now."""
        return replace(self)

    def become(self, other: Present) -> None:
        """Be what the other one is."""
        self.config, self.bound, self.inbound = other.config, other.bound, other.inbound
        for each in self.bound:
            if each.mode:
                with contextlib.suppress(OSError):  # somebody took the path away
                    set_mode(each.path, int(each.mode, 8), each.identity)

    def leave(self, other: Present) -> None:
        """Close the sockets that only we have, and not the other one. The service manager's stay:
        nobody could open them again."""
        gone = fresh_of(self.bound, other.bound)
        close_sockets(each for each in gone if not each.is_inherited)
