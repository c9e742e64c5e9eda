"""One worker: an event loop, a listener for each [listen.x], and the shards it owns."""

from __future__ import annotations

import asyncio
import gc
import os
import random
import resource
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import uvloop

from fastmta.config import Config
from fastmta.delivery.dns import ClientNames, DnsClient, DnsOptions, read_local_hosts
from fastmta.dsn import Digest
from fastmta.event import Notice, Severity
from fastmta.journal import Journal, Origin, Writer
from fastmta.listener import Listener
from fastmta.route import DnsCache, Resolver, ResolverOptions
from fastmta.session import ContentRoom, Ports
from fastmta.spool import SpoolError

from .clients import Refresher, make_authenticator, make_hooks, make_limits
from .clock import ClockFile, QueueClock
from .descriptor import Division, divide
from .inbound import Inbound
from .intake import Intake
from .leases import Leases
from .local import LocalNames, LocalPolicy, LocalQuota
from .memory import Memory
from .names import TrustedNames
from .notices import Notices
from .operating import open_control
from .outbound import courier_ports
from .pressure import Pressure
from .probe import LagMeter, Probe
from .reshaping import Reshaper
from .routing import route_table, ways
from .settings import (
    census,
    listener_settings,
    own_hosts,
    pressure_limits,
    relay_policy,
    session_settings,
    share,
)
from .shaping import known_providers
from .shard import Shard, Surroundings
from .sockets import BadStart, Bound
from .supervisor import ADOPT, EXIT_BAD_START, EXIT_OK, EXIT_SPOOL_FAILED, Leash
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
        for signo in (signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(signo, self._stopping.set)
        config = self._config
        writer = Writer(config.journal.file)
        self._digest = Digest(config.notify.classes)
        self._journal = Journal(
            writer,
            time.time,
            Origin(config.hostname, config.journal.syslog_name, os.getpid()),
            self._digest.heed,
        )
        loop.add_signal_handler(signal.SIGUSR1, self._journal.reopen)
        try:
            await self._serve(loop)
        except SpoolError as error:
            self._fail(f"spool: {error}")
        except BadStart as error:  # what the trial could not find, or what is wrong since then
            self._fail(str(error), EXIT_BAD_START)
        finally:
            self._journal.close()
        return self._exit_code

    async def _serve(self, loop: asyncio.AbstractEventLoop) -> None:
        dns = DnsClient(
            [(server.address, server.port) for server in self._config.dns.servers],
            DnsOptions(timeout_s=self._config.dns.timeout_s, tries=self._config.dns.tries),
        )
        cache = DnsCache(dns, time.monotonic)
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
        self._watchman = self._make_watchman(loop)
        self._room = ContentRoom(share(self._config.limits.content_octets, self._workers))
        self._intake = Intake(
            self._shards[0].spool,
            self._shards[0].scheduler.accepted,
            self._watchman.pressure,
            self._room,
            message_octets_max=config.limits.message_octets,
            large_octets=config.spool.big_octets,
        )
        self._reshaper = Reshaper(
            config.spool.directory, self._shards, self._clock.true_wall_ns, loop, emit
        )
        self._reshaper.start()
        for shard in self._shards:
            shard.start()
        self._notices = Notices(self._digest, self._shards[0], loop)
        self._listeners = self._make_listeners(loop, cache)
        if self._authenticator is not None:
            self._authenticator.start()
        for listener, each in zip(self._listeners, self._bound, strict=True):
            await listener.start([each.sockets[self._index]])
        self._control = open_control(
            config, self._index, self._shards, self._clock, loop, emit, self._reshaper
        )
        self._reshaper.start()  # what was ordered before anybody could have told us
        self._refresher = Refresher(
            config, self._inbound, self._limits, loop, emit, is_telling_tls=self._index == 0
        )
        self._flush(loop)
        self._watchman.start(self._listeners)
        loop.add_reader(self._leash.control_fd, self._on_control)
        gc.collect()
        gc.freeze()
        gc.set_threshold(*_GC_THRESHOLDS)
        os.write(self._leash.ready_fd, bytes((self._index,)))
        await self._stopping.wait()
        await self._stop()
        await dns.close()

    async def _stop(self) -> None:
        """Stop accepting, finish what is in flight, make it durable."""
        loop = asyncio.get_running_loop()
        loop.remove_reader(self._leash.control_fd)
        await self._control.close()
        self._reshaper.close()
        for each in self._bound:  # our copies of the others' sockets would keep those listening
            for index, listening in enumerate(each.sockets):
                if index != self._index:
                    listening.close()
        # Both at once: a client that idles in a transaction must not use up the time of deliveries.
        deadline_s = self._config.workers.stop_deadline_s
        await asyncio.gather(
            *(listener.stop(deadline_s) for listener in self._listeners),
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
        resolver = Resolver(
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
            courier_ports(config, own, self._journal.emit, loop),
            loop,
            self._fail,
            self._descriptors,
            None if self._leases is None else self._leases.meters,
        )
        root = Path(config.spool.directory)
        return [
            Shard(root, number, around)
            for number in shard_numbers(root, self._index, self._workers)
        ]

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
        return Watchman(
            Pressure(pressure_limits(config)),
            Probe(
                config.spool.directory,
                [shard.spool for shard in self._shards],
                memory,
                LagMeter(loop),
            ),
            self._shards,
            loop,
            self._journal.emit,
            self._fail,
            (self._clock, self._clock_file),
        )

    def _make_listeners(self, loop: asyncio.AbstractEventLoop, cache: DnsCache) -> list[Listener]:
        config = self._config
        policy = relay_policy(config)
        names = TrustedNames(policy, ClientNames(cache))
        clients = census(config, self._workers, self._descriptors, self._limits)
        listeners = []
        for each in self._bound:
            listen = config.listen[each.name]
            ports = Ports(
                session_settings(config, listen),
                LocalPolicy(policy) if each.is_local else policy,
                self._intake,
                self._clock,
                self._journal.emit,
                self._room,
                self._authenticator,
                LocalQuota(self._limits) if each.is_local else self._limits,
                None if self._hooks is None else self._hooks.begin,
            )
            settings = listener_settings(config, listen, self._descriptors, each.is_local)
            tls = self._inbound.contexts.get(each.name)
            known = LocalNames(names) if each.is_local else names
            listeners.append(Listener(ports, settings, known, clients, loop, tls))
        return listeners

    # Recurring.

    def _flush(self, loop: asyncio.AbstractEventLoop) -> None:
        loop.call_later(_FLUSH_INTERVAL_S, self._flush, loop)  # first: it goes on whatever happens
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
            for listener, each in zip(self._listeners, self._bound, strict=True):
                if order == ADOPT:
                    listener.adopt(each.sockets[index])
                else:
                    listener.drop(each.sockets[index])

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
