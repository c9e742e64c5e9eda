"""One shard: a spool directory with its scheduler and its way out of the house."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from fastmta.budget import DividedBroker
from fastmta.budget.meter import Meters
from fastmta.budget.share import LeasedSites
from fastmta.config import Config
from fastmta.delivery import Courier, Dispatch, FileAgent
from fastmta.delivery.ports import CourierPorts
from fastmta.dsn import Bouncer
from fastmta.event import Event
from fastmta.route import Resolver, RouteTable
from fastmta.route.owned import OwnedTable
from fastmta.scheduler import Ports as SchedulerPorts
from fastmta.scheduler import Scheduler
from fastmta.scheduler.operation import Answer, Kind, Order
from fastmta.scheduler.tenant import Tenants
from fastmta.spool import Spool

from .clock import QueueClock
from .defect import halt_on_defect
from .descriptor import Division
from .settings import delivery_options, notify_options, scheduler_options, spool_options
from .shaping import tenants

_MARKS_S = 5.0  # a flush takes milliseconds; beyond this the disk hangs

Emit = Callable[[Event], None]


@dataclass(slots=True)
class Surroundings:
    """What the shards of a worker share; also its part of limits over all workers."""

    config: Config
    workers: int
    clock: QueueClock
    emit: Emit
    routes: RouteTable | OwnedTable
    resolver: Resolver
    courier_ports: CourierPorts
    loop: asyncio.AbstractEventLoop
    on_halt: Callable[[str], None]
    descriptors: Division
    meters: Meters | None  # leased, if there are several workers
    broker: DividedBroker = field(init=False)
    tenants: Tenants = field(init=False)
    shard_count: int = 0

    def __post_init__(self) -> None:
        kind = DividedBroker if self.meters is None else LeasedSites
        self.broker = kind(self.workers)
        self.tenants = tenants(self.config)

    def join(self, may_have_mail: bool) -> None:
        """A shard was opened. All but the first only drain: one without mail needs no part."""
        if self.shard_count and may_have_mail:
            self.broker.join()
        self.shard_count += 1


class Shard:
    """Opens (and so recovers) the spool, and starts what delivers from it."""

    def __init__(self, directory: Path, number: int, around: Surroundings) -> None:
        config = around.config
        routes = around.routes
        self.number = number
        self._loop = around.loop
        self._on_halt = around.on_halt
        self.spool = Spool.open(
            str(directory),
            spool_options(config, number, routes.fingerprint),
            routes.next_hop,
            around.emit,
        )
        around.join(self.spool.live_count > 0 or not self.spool.is_indexed)
        clock, contents = around.clock, self.spool.contents
        self.courier = Courier(
            delivery_options(config, around.workers),
            around.emit,
            around.loop,
            contents,
            around.courier_ports,
        )
        self.deliver = Dispatch(
            self.courier,
            FileAgent(around.emit, around.loop, contents),
            around.emit,
            around.loop,
        )
        self.bouncer = Bouncer(
            config.hostname,
            self.spool.new_id,
            clock.true_wall_ns,
            clock.wall_ns,
            contents.head,
            notify_options(config),
        )
        ports = SchedulerPorts(
            backlog=self.spool,
            record=self.spool,
            deliver=self.deliver,
            notify=self.bouncer,
            resolve=around.resolver,
            clock=around.clock,
            timers=around.loop,
            next_hop=routes.next_hop,
            random=random.random,
            emit=around.emit,
            on_halt=around.on_halt,
            doubt=self.spool.doubt,
            tenant_of=around.tenants.of,
        )
        self._pauses: dict[str, str] = {}
        self._is_holding_doubt = config.spool.in_doubt == "hold"
        options = scheduler_options(config, around.workers, around.descriptors)
        self.scheduler = Scheduler(ports, options, around.broker, around.meters)

    def start(self) -> None:
        """Begin with what the spool holds."""
        halt_on_defect(self._loop, self._on_halt)
        self.spool.attach(self._loop, self._on_health, self.scheduler.take_up)
        if self._is_holding_doubt and self.spool.has_candidates:
            self._pause("doubt", "mail that is in doubt is put on hold first")
        self.scheduler.standing.recall(self.spool.read_suspended(is_last=True))
        self.scheduler.start()
        self.spool.review_doubt(self._deal_with_doubt)

    def _deal_with_doubt(self, ids: list[bytes]) -> None:
        """The live messages that may have been delivered already are listed: hold them if so
        configured, durably, before anything is delivered."""
        waiting = set(ids)

        def told(id: bytes, answer: Answer) -> None:
            waiting.discard(id)
            if not waiting and answer is not Answer.FAILED:
                self._end_doubt()

        if waiting and self._is_holding_doubt:
            self.scheduler.operate(Order(Kind.HOLD), ids, told)
        else:
            self._end_doubt()

    def _end_doubt(self) -> None:
        self.spool.doubt.forget_left()
        self._pause("doubt", "")

    def _on_health(self, trouble: str) -> None:
        """A delivery whose outcome cannot be recorded is a duplicate."""
        self._pause("health", trouble)

    def hold_back(self, reason: str) -> None:
        """Deliver nothing while there is a reason; "" ends it."""
        self._pause("drop", reason)

    def _pause(self, kind: str, reason: str) -> None:
        """Deliver nothing while there is a reason of any kind; an empty one ends that kind's."""
        self._pauses.pop(kind, None)
        if reason:
            self._pauses[kind] = reason
        if self._pauses:
            self.scheduler.pause("; ".join(self._pauses.values()))
        else:
            self.scheduler.resume()

    async def come_to_rest(self, deadline_s: float) -> None:
        """No new attempts; let running ones end within the deadline. Mail is still accepted."""
        idle = asyncio.Event()
        self.scheduler.drain(idle.set)
        await self.deliver.close(deadline_s)
        if not self.spool.has_failed:  # outcomes of the last attempts are on their way to the log
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(idle.wait(), _MARKS_S)

    async def close(self) -> None:
        """Make everything durable, and give the spool up."""
        with contextlib.suppress(OSError):
            self.spool.note_suspended(self.scheduler.standing.situation.suspended)
        await self.spool.close()
