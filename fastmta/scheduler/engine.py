"""What every part of the scheduler shares: options, ports, limits, the stop."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from fastmta.budget import Backoff, Broker, DividedBroker, LocalMeters, Slots
from fastmta.budget.meter import Meters
from fastmta.budget.shape import Shape, Shapes
from fastmta.message import Message

from .contact import Contacts
from .port import Ports
from .retry import RetryPolicy

HUNG_FACTOR = 4  # so many times the connections to all sites may hang beside them
EXPIRY_FREEZE_S = 3600.0  # after a step of the wall clock


class SiteOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How one site is treated. `connections` is over all workers: the broker divides it.

    A site that cannot be reached is left alone for `backoff_first_s`, doubling to `backoff_max_s`:
    a relay that restarts holds mail for seconds, a dead one costs an attempt every five minutes
    (Postfix's dead timer).
    """

    connections: int = 20
    window_start: int = 5
    backoff_first_s: float = 10.0
    backoff_max_s: float = 300.0
    jitter: float = 0.1
    rate_per_s: float = 0.0  # jobs started; 0: no limit
    rate_burst: int = 1


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """Options of one worker's scheduler."""

    site: SiteOptions = SiteOptions()
    retry: RetryPolicy = RetryPolicy()  # everybody's
    profiles: tuple[RetryPolicy, ...] = ()  # those that tenants have instead
    connections: int = 500  # to all sites together, over all workers
    hung: int = 0  # attempts that hang, beside these; 0: HUNG_FACTOR times as many
    ram_messages: int = 4_000  # in RAM with their content, shared by all next hops
    ram_octets: int = 8 * 1024 * 1024  # of that content
    recipients_per_job: int = 50
    sweep_interval_s: float = 30.0  # between looks for expired mail and forgotten sites
    delay_s: float = 0.0  # after which a sender is told that mail still waits; 0: never
    shapes: tuple[Shape, ...] = ()  # rules of the configuration
    overdue_grace_s: float = 900.0  # mail already expired at the start, if its site is down


class Engine:
    """Shared by paths, hops and the lifecycle of messages."""

    __slots__ = (
        "_on_idle",
        "broker",
        "contacts",
        "cut_off",
        "is_stopped",
        "marks",
        "may_start",
        "meters",
        "options",
        "pause_reason",
        "ports",
        "shapes",
        "slots",
    )

    def __init__(
        self,
        ports: Ports,
        options: Options,
        broker: Broker | None = None,
        meters: Meters | None = None,
    ) -> None:
        self.ports = ports
        self.options = options
        self.broker = broker if broker is not None else DividedBroker(1)
        if meters is None:
            meters = LocalMeters(ports.clock.monotonic_s, ports.timers)
        self.meters: Meters = meters
        self.shapes = Shapes(self.meters)
        self.shapes.replace(options.shapes)
        self.slots = Slots(1)
        self.contacts = Contacts(self)
        self.renew()
        self.is_stopped = False  # no job starts any more
        self.pause_reason = ""  # why none starts just now; empty: there is no pause
        self.cut_off = (
            ""  # why mail past its lifetime does not expire, see `Uplink`; empty: it does
        )
        self.may_start = True  # neither stopped nor paused
        self.marks = 0  # records under way
        self._on_idle: Callable[[], None] | None = None

    def renew(self) -> None:
        """Ask the broker again how many connections are ours."""
        self.slots.limit = self.broker.share(b"", self.options.connections)
        hung = self.options.hung or HUNG_FACTOR * self.options.connections
        self.contacts.limit = self.broker.share(b"", hung)

    def retry_of(self, message: Message) -> RetryPolicy:
        """When `message` is tried again, and when it is given up."""
        return self.ports.tenant_of(message.envelope).retry or self.options.retry

    def warn_s_of(self, policy: RetryPolicy) -> float:
        """After how many seconds the sender of mail with that policy is told; 0: never."""
        return self.options.delay_s if policy.warn_s is None else policy.warn_s

    @property
    def is_expiry_frozen(self) -> bool:
        """Whether nothing may expire: the wall clock was set not long ago, ages are in doubt."""
        clock = self.ports.clock
        return clock.monotonic_s() - clock.stepped_at_s < EXPIRY_FREEZE_S

    def stop(self, on_idle: Callable[[], None] | None) -> None:
        """No job starts any more; `on_idle` is called once when nothing is under way."""
        self.halt()
        self._on_idle = on_idle
        self.come_to_rest()

    def halt(self) -> None:
        """No job starts any more, and nobody waits for the end of what is under way."""
        self.is_stopped = True
        self.may_start = False

    def pause(self, reason: str) -> None:
        """No job starts until `resume`; what is under way ends as usual."""
        self.pause_reason = reason
        self.may_start = False

    def resume(self) -> None:
        """Jobs may start again, unless we were stopped."""
        self.pause_reason = ""
        self.may_start = not self.is_stopped

    def come_to_rest(self) -> None:
        """Tell whoever waits for it, if that was the last thing under way after a stop."""
        is_idle = self.slots.used == 0 and self.contacts.hung_count == 0 and self.marks == 0
        if is_idle and self._on_idle is not None:
            on_idle, self._on_idle = self._on_idle, None
            on_idle()

    def backoff(self) -> Backoff:
        """The pauses of a site or a look-up that fails."""
        site = self.options.site
        return Backoff(site.backoff_first_s, site.backoff_max_s, site.jitter)
