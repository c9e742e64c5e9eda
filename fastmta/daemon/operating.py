"""Where orders of an operator come in: over a worker's socket, or, without a server, offline."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import uvloop

import fastmta
from fastmta.config import Config
from fastmta.control import Desk, Request, Server, Station
from fastmta.control.access import Access
from fastmta.control.place import shards_on_disk
from fastmta.control.station import Result, Tell, Ticket
from fastmta.control.window import Window
from fastmta.dsn import Bouncer
from fastmta.event import Event, Notice, Severity
from fastmta.message.attempt import Job
from fastmta.route import Site
from fastmta.scheduler import Ports, Scheduler
from fastmta.spool import Spool, SpoolError

from .clock import ClockFile, QueueClock
from .descriptor import Division
from .mail_log import journal_of_command
from .routing import offline_table
from .settings import notify_options, scheduler_options, spool_options
from .shard import Shard


def control_directory(config: Config) -> str:
    """Where the workers' control sockets are."""
    return config.control.directory or config.spool.directory


def open_control(
    config: Config,
    index: int,
    shards: Sequence[Shard],
    world: tuple[QueueClock, asyncio.AbstractEventLoop, Callable[[Event], None]],
    asked: tuple[Callable[[], int], Callable[[], Result]],
) -> Server:
    """Serve the control socket of worker `index`; one that cannot be made is a line in the log.

    `asked` takes up the overrides of the file, and tells how the worker is.
    """
    clock, loop, emit = world
    reshape, tell = asked
    stations = [Station(shard.number, shard.spool, shard.scheduler) for shard in shards]
    hello: Result = {
        "fastmta": fastmta.__version__,
        "worker": index,
        "shards": [station.number for station in stations],
        "pid": os.getpid(),
        "supervisor": os.getppid(),
    }
    access = Access(config.control.users, config.control.readers)
    server = Server(Desk(stations, clock, reshape, tell, emit), hello, loop, emit, access)
    directory = control_directory(config)
    try:
        server.start(directory, index)
        if config.control.mailq_users == "all":
            server.beside = Window(server.desk, hello, loop, emit)
            server.beside.start(directory, index)
    except OSError as error:
        text = f"no control socket in {directory}: {error.strerror}"
        emit(Notice("master", text, Severity.ERROR))
    return server


OfflineError = SpoolError


class _Nobody:
    """Delivers nothing and looks nothing up: the scheduler was stopped before it began."""

    def start(self, job: Job, site: Site, done: Callable[..., None]) -> None:
        raise AssertionError("a stopped scheduler starts nothing")

    def close_idle(self, site: Site, done: Callable[..., None]) -> None:
        raise AssertionError("a stopped scheduler has no connections")

    def resolve(self, next_hop: bytes, done: Callable[..., None]) -> None:
        raise AssertionError("a stopped scheduler looks nothing up")


class Offline:
    """The shards of a server that does not run, opened for orders. A context manager."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._root = Path(config.spool.directory)
        self._runner = asyncio.Runner(loop_factory=uvloop.new_event_loop)
        self._stations: list[Station] = []
        self._failure = ""
        self._clock = QueueClock()

    def __enter__(self) -> Offline:
        """Open. Raises SpoolError: a shard is in use, or cannot be opened."""
        self._become_owner()
        config, numbers = self._config, shards_on_disk(str(self._root))
        if numbers:
            ClockFile(str(self._root / f"shard-{numbers[0]:02d}")).resume(self._clock)
        self._journal = journal_of_command(config)
        try:
            for number in numbers:
                self._stations.append(self._open(number))
        except BaseException:
            self._close()
            raise
        self._desk = Desk(self._stations, self._clock, emit=self._journal.emit)
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    @property
    def shards(self) -> list[int]:
        """Their numbers."""
        return [station.number for station in self._stations]

    def ask(self, request: Request, tell: Tell) -> dict[str, Any]:
        """The result of a request, durable. Raises Refusal, SpoolError."""
        result = self._runner.run(self._desk.answer(Ticket(request, tell)))
        self._journal.flush()
        if self._failure:
            raise SpoolError(self._failure)
        return result

    def _open(self, number: int) -> Station:
        config, clock = self._config, self._clock
        emit, loop = self._journal.emit, self._runner.get_loop()
        routes = offline_table(config)
        options = spool_options(config, number, routes.fingerprint)
        spool = Spool.open(str(self._root), options, routes.next_hop, emit)
        nobody = _Nobody()
        bouncer = Bouncer(
            config.hostname,
            spool.new_id,
            clock.true_wall_ns,
            clock.wall_ns,
            spool.contents.head,
            notify_options(config),
        )
        ports = Ports(
            backlog=spool,
            record=spool,
            deliver=nobody,
            notify=bouncer,
            resolve=nobody,
            clock=clock,
            timers=loop,
            next_hop=routes.next_hop,
            random=random.random,
            emit=emit,
            on_halt=self._halted,
        )
        scheduler = Scheduler(ports, scheduler_options(config, 1, Division(1, 1, 1)))
        spool.attach(loop)
        scheduler.drain(_nothing)
        scheduler.start()
        scheduler.standing.recall(spool.read_suspended(is_last=False))
        return Station(number, spool, scheduler)

    def _halted(self, reason: str) -> None:
        self._failure = reason

    def _become_owner(self) -> None:
        """What we make must be the server's: root becomes the owner of the spool."""
        try:
            owner = os.stat(self._root)
        except OSError as error:
            raise SpoolError(f"{self._root}: {error.strerror}") from error
        if os.geteuid() == 0 and owner.st_uid:
            os.setgroups([owner.st_gid])
            os.setegid(owner.st_gid)
            os.seteuid(owner.st_uid)
        elif os.geteuid() != owner.st_uid:
            raise SpoolError(f"{self._root} belongs to user {owner.st_uid}: be that user, or root")

    def _close(self) -> None:
        async def close() -> None:
            for station in self._stations:
                await station.spool.close()

        self._runner.run(close())
        self._runner.close()
        self._journal.close()


def _nothing() -> None:
    """Nothing is under way when a scheduler is stopped before it begins."""
