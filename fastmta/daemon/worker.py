"""One worker: an event loop, a listener for each [listen.x], and the shards it owns."""

from __future__ import annotations

import asyncio
import gc
import os
import random
import resource
import select
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import uvloop

from fastmta.config import Config
from fastmta.control.watch import Watch
from fastmta.delivery.dns import ClientNames, DnsClient, DnsOptions, read_local_hosts
from fastmta.dsn import Digest
from fastmta.event import Notice, Severity
from fastmta.journal.block import Block
from fastmta.route import DnsCache, Resolver, ResolverOptions
from fastmta.session import ContentRoom
from fastmta.spool import SpoolError

from .clients import Refresher, make_authenticator, make_hooks, make_limits
from .clock import ClockFile, QueueClock
from .condition import Condition
from .descriptor import Division, divide
from .gauges import Gauges, Meter
from .history import History
from .inbound import Inbound
from .intake import Intake
from .leases import Leases
from .mail_log import journal_of_worker, started
from .memory import Memory
from .notices import Notices
from .operating import open_control
from .outbound import courier_ports
from .pickup import Pickup
from .pressure import Pressure
from .probe import LagMeter, Probe
from .reception import Common, Reception, Terms
from .renewal import Renewal, Running
from .reshaping import Reshaper
from .routing import route_table, ways
from .settings import (
    own_hosts,
    pressure_limits,
    share,
)
from .shaping import has_owners, known_providers
from .shard import Shard, Surroundings
from .sockets import BadStart, Bound
from .supervisor import ADOPT, DROP, EXIT_BAD_START, EXIT_OK, EXIT_SPOOL_FAILED, SHUT, Leash
from .watchman import Watchman

_FLUSH_INTERVAL_S = 0.1  # of the journal
# Nothing on the way of a message refers to itself, so there is next to nothing to collect.
_GC_THRESHOLDS = (100_000, 50, 50)


def worker_main(
    config: Config,
    index: int,
    workers: int,
    bound: Sequence[Bound],
    leash: Leash,
    inbound: Inbound,
) -> int:
    """Run worker `index` of `workers` until SIGTERM or the supervisor's end; its exit code."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the supervisor decides about Ctrl-C
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(Worker(config, index, workers, bound, leash, inbound).run())


class Worker:
    """Constructs and wires; never looks at a message."""

    def __init__(
        self,
        config: Config,
        index: int,
        workers: int,
        bound: Sequence[Bound],
        leash: Leash,
        inbound: Inbound,
    ) -> None:
        self._config = config
        self._index = index
        self._workers = workers
        self._bound = bound
        self._leash = leash
        self._inbound = inbound
        self._clock = QueueClock()
        self._clock_file = ClockFile(f"{config.spool.directory}/shard-{index:02d}")
        self._stopping = asyncio.Event()
        self._exit_code = EXIT_OK

    async def run(self) -> int:
        """The worker's life."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self._stopping.set)
        config = self._config
        self._digest = Digest(config.notify.classes)
        self._meter = Meter(self._leash.block or Block.alone(), config.metrics.destinations)
        self._journal = journal_of_worker(config, self._index, self._digest.heed, self._meter.tap)
        history = History(config, self._index, self._journal)
        loop.add_signal_handler(signal.SIGUSR1, self._journal.reopen)
        try:
            await self._serve(loop)
        except SpoolError as error:
            self._fail(f"spool: {error}")
        except BadStart as error:  # what the trial could not find, or what is wrong since then
            self._fail(str(error), EXIT_BAD_START)
        finally:
            self._journal.close()
            history.close()
        return self._exit_code

    async def _serve(self, loop: asyncio.AbstractEventLoop) -> None:
        dns = DnsClient(
            [(server.address, server.port) for server in self._config.dns.servers],
            DnsOptions(timeout_s=self._config.dns.timeout_s, tries=self._config.dns.tries),
        )
        cache = DnsCache(dns, time.monotonic)
        config, emit = self._config, self._journal.emit
        self._begin(loop, cache, dns)
        self._pickup = self._open_pickup(loop)
        for shard in self._shards:
            shard.start()
        self._notices = Notices(self._digest, self._shards[0], loop)
        self._reception = self._make_reception(loop, cache)
        if self._authenticator is not None:
            self._authenticator.start()
        await self._reception.start()
        self._control = open_control(
            config,
            self._index,
            self._shards,
            (self._clock, loop, emit),
            (self._reshaper.reload, self._condition.tell),
        )
        watch = Watch(self._journal, lambda: self._lag.lag_s, self._index)
        self._control.desk.add(watch.verbs)
        self._reshaper.start()  # what was ordered before anybody could have told us
        self._refresher = Refresher(
            config, self._inbound, self._limits, loop, emit, is_telling_tls=self._index == 0
        )
        if self._index == 0:
            emit(started(config))
        self._flush(loop)
        self._watchman.start(self._reception)
        self._condition.start(self._reception, lambda: self._reshaper.in_force)
        self._gauges.start(self._reception.listeners)
        self._renewal = self._make_renewal()
        loop.add_reader(self._leash.control_fd, self._on_control)
        if select.select((self._leash.control_fd,), (), (), 0)[0]:
            self._on_control()  # if the server drains, that was said before we were there
        if self._pickup is not None:
            self._pickup.start()
        gc.collect()
        gc.freeze()
        gc.set_threshold(*_GC_THRESHOLDS)
        os.write(self._leash.ready_fd, bytes((self._index,)))
        await self._stopping.wait()
        if self._index == 0:
            emit(Notice("master", f"terminating on signal {signal.SIGTERM.value}"))
        await self._stop()
        await dns.close()

    def _begin(self, loop: asyncio.AbstractEventLoop, cache: DnsCache, dns: DnsClient) -> None:
        """Open the shards, and make what watches over them; nothing is delivered yet."""
        config, emit = self._config, self._journal.emit
        # First what other people's code and files may spoil: no shard is begun, then.
        self._limits = make_limits(config, self._inbound, self._index)
        self._authenticator = make_authenticator(
            config, loop, emit, self._inbound.login_secret, self._limits.is_locked
        )
        self._hooks = make_hooks(config, loop, emit)
        said = self._clock_file.resume(self._clock)
        if said:
            self._journal.emit(Notice("master", said, Severity.WARNING))
        self._descriptors = self._divide_descriptors()
        self._leases = self._lease(loop)
        self._shards = self._open_shards(loop, cache)
        self._meter.watch(self._shards)
        self._watchman = self._make_watchman(loop)
        self._condition = Condition(self._index, self._shards, self._watchman, loop)
        self._gauges = Gauges(self._meter, self._shards, self._watchman.pressure, dns, cache, loop)
        self._room = ContentRoom(share(self._config.limits.content_octets, self._workers))
        self._intake = self._make_intake()
        self._reshaper = Reshaper(
            config.spool.directory, self._shards, self._clock.true_wall_ns, loop, emit
        )
        self._reshaper.start()

    async def _stop(self) -> None:
        """Stop accepting, finish what is in flight, make it durable."""
        loop = asyncio.get_running_loop()
        loop.remove_reader(self._leash.control_fd)
        if self._renewal is not None:
            self._renewal.close()
        self._gauges.stop()
        await self._control.close()
        self._reshaper.close()
        if self._pickup is not None:
            await self._pickup.close()
        # Our copies of the others' sockets would keep those listening.
        for each in self._reception.bound:
            for index, listening in enumerate(each.sockets):
                if index != self._index:
                    listening.close()
        # Both at once: a client that idles in a transaction must not use up the time of deliveries.
        config = self._config if self._renewal is None else self._renewal.config
        deadline_s = config.workers.stop_deadline_s
        await asyncio.gather(
            self._reception.stop(deadline_s),
            *(shard.come_to_rest(deadline_s) for shard in self._shards),
        )
        self._notices.close()
        if self._authenticator is not None:
            self._authenticator.close()
        if self._hooks is not None:
            self._hooks.close()
        if self._leases is not None:
            self._leases.close()
        for shard in self._shards:
            await shard.close()
        self._clock_file.save(self._clock)

    def _open_shards(self, loop: asyncio.AbstractEventLoop, cache: DnsCache) -> list[Shard]:
        """Our own shard first, then those that earlier runs with more workers left to us."""
        config = self._config
        bound = [each.sockets[0].getsockname()[:2] for each in self._bound if not each.is_local]
        own = own_hosts(config, bound)
        self._resolver = resolver = Resolver(
            cache,
            time.monotonic,
            random.shuffle,
            ResolverOptions(
                own=own,
                local_hosts=read_local_hosts(),
                attempt_targets=config.delivery.addresses,
            ),
            ways(config),
            known_providers(config),
        )
        around = Surroundings(
            config,
            self._workers,
            self._clock,
            self._journal.emit,
            route_table(config),
            resolver,
            courier_ports(config, own, self._journal.emit, loop, self._meter.count_tls),
            loop,
            self._fail,
            self._descriptors,
            None if self._leases is None else self._leases.meters,
        )
        self._tenant_of = around.tenants.owner if has_owners(config) else None
        root = Path(config.spool.directory)
        return [
            Shard(root, number, around)
            for number in shard_numbers(root, self._index, self._workers)
        ]

    def _make_intake(self) -> Intake:
        config = self._config
        return Intake(
            self._shards[0].spool,
            self._shards[0].scheduler.accepted,
            self._watchman.pressure,
            self._room,
            message_octets_max=config.limits.message_octets,
            large_octets=config.spool.big_octets,
        )

    def _open_pickup(self, loop: asyncio.AbstractEventLoop) -> Pickup | None:
        """One worker serves the drop directory."""
        if self._index:
            return None
        return Pickup(
            self._config,
            self._shards[0],
            self._intake,
            self._clock,
            loop,
            self._journal.emit,
            self._tenant_of,
        )

    def _lease(self, loop: asyncio.AbstractEventLoop) -> Leases | None:
        """None: there are no other workers to share limits with."""
        leash = self._leash
        if leash.channel is None:
            return None
        return Leases(leash.channel, leash.life, loop, self._journal.emit)

    def _divide_descriptors(self) -> Division:
        limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        root = Path(self._config.spool.directory)
        shards = len(shard_numbers(root, self._index, self._workers))
        division = divide(limit, shards, len(self._bound))
        wanted = share(self._config.limits.connections, self._workers)
        if division.inbound < wanted:
            text = (
                f"{limit} descriptors leave room for {division.inbound} clients of this worker, "
                f"not {wanted} (limits.connections)"
            )
            self._journal.emit(Notice("master", text))
        return division

    def _make_watchman(self, loop: asyncio.AbstractEventLoop) -> Watchman:
        config = self._config
        memory = Memory(config.pressure.memory_octets, self._workers)
        self._lag = LagMeter(loop, self._meter.note_lag)
        return Watchman(
            Pressure(pressure_limits(config)),
            Probe(
                config.spool.directory,
                [shard.spool for shard in self._shards],
                memory,
                self._lag,
            ),
            self._shards,
            loop,
            self._journal.emit,
            self._fail,
            (self._clock, self._clock_file),
        )

    def _make_reception(self, loop: asyncio.AbstractEventLoop, cache: DnsCache) -> Reception:
        self._common = Common(
            self._index,
            self._workers,
            loop,
            self._journal.emit,
            self._clock,
            self._intake,
            self._room,
            self._descriptors,
            ClientNames(cache),
            self._hooks,
            self._tenant_of,
        )
        contexts = self._inbound.contexts
        self._terms = Terms(self._config, contexts, self._limits, self._authenticator)
        return Reception(self._common, self._terms, self._bound)

    def _make_renewal(self) -> Renewal | None:
        """None: the supervisor changes nothing of us while we live."""
        if self._leash.orders is None:
            return None
        running = Running(
            config=self._config,
            inbound=self._inbound,
            terms=self._terms,
            common=self._common,
            reception=self._reception,
            intake=self._intake,
            pickup=self._pickup,
            pressure=self._watchman.pressure,
            shards=self._shards,
            resolver=self._resolver,
            reshaper=self._reshaper,
            refresher=self._refresher,
            count_tls=self._meter.count_tls,
        )
        return Renewal(self._leash.orders, running, self._fail)

    # Recurring.

    def _flush(self, loop: asyncio.AbstractEventLoop) -> None:
        loop.call_later(_FLUSH_INTERVAL_S, self._flush, loop)  # first: it goes on whatever happens
        self._leash.hearts.beat(self._index)
        self._journal.flush()

    def _on_control(self) -> None:
        """Orders of the supervisor; its end is ours, but a clean one."""
        orders = os.read(self._leash.control_fd, 4096)
        if not orders:
            self._stopping.set()
            asyncio.get_running_loop().remove_reader(self._leash.control_fd)
            return
        for position in range(0, len(orders), 2):
            order, index = orders[position : position + 1], orders[position + 1]
            if order == ADOPT:
                self._reception.adopt(index)
            elif order == DROP:
                self._reception.drop(index)
            else:
                self._watchman.drain(order == SHUT)
                self._gauges.drain(order == SHUT)
                if self._pickup is not None:
                    self._pickup.shut(order == SHUT)

    def _fail(self, reason: str, code: int = EXIT_SPOOL_FAILED) -> None:
        """End; if it is because the spool cannot be trusted, a new worker recovers from the log."""
        if self._exit_code == EXIT_OK:
            self._exit_code = code
            self._journal.emit(Notice("master", reason, Severity.FATAL))
            sys.stderr.write(f"fastmta: worker {self._index}: {reason}\n")
        self._stopping.set()


def shard_numbers(root: Path, index: int, workers: int) -> list[int]:
    """Shards of worker `index`: its own, and index + workers, index + 2 workers ... on disk."""
    found = {
        int(path.name.removeprefix("shard-"))
        for path in root.glob("shard-*")
        if path.name.removeprefix("shard-").isdigit()
    }
    return [index, *sorted(each for each in found if each % workers == index and each != index)]
