"""A relay that is dead for hours: real spool, scheduler and reports, over a restart."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from pathlib import Path

from fastmta.dsn import Bouncer, NotifyOptions
from fastmta.event import BounceQueued, Event
from fastmta.message import ClientIdentity, Envelope, Message, Outcome, OutcomeKind, Scope
from fastmta.message.attempt import AttemptResult, Job
from fastmta.message.report import DELAY, POSTMASTER_DELAY
from fastmta.route import RouteProblem, Site, Target
from fastmta.scheduler import Options, Ports, Scheduler
from fastmta.spool import Spool, SpoolOptions
from tests.support.report_checker import read_report

HOUR_NS = 3_600 * 1_000_000_000
DEAD = Outcome(OutcomeKind.DEFERRED, "4.4.1", "connect to relay: Connection refused", Scope.HOST)
OPTIONS = Options(delay_s=4 * 3_600.0, sweep_interval_s=0.1)
NOTIFY = NotifyOptions(postmaster=b"postmaster@mail.example", classes=frozenset({"delay"}))


class Clock:
    """The true time."""

    stepped_at_s = float("-inf")

    def monotonic_s(self) -> float:
        return time.monotonic()

    def wall_ns(self) -> int:
        return time.time_ns()


class Life:
    """One life of a shard whose mail goes nowhere but to home.example."""

    def __init__(self, root: Path) -> None:
        self.events: list[Event] = []
        self.delivered: list[Message] = []
        self.spool = Spool.open(str(root), SpoolOptions(), hop_of, self.events.append)
        loop = self.loop = asyncio.get_running_loop()
        clock = Clock()
        ports = Ports(
            backlog=self.spool,
            record=self.spool,
            deliver=self,
            notify=Bouncer(
                "mail.example",
                self.spool.new_id,
                time.time_ns,
                time.time_ns,
                self.spool.contents.head,
                NOTIFY,
            ),
            resolve=self,
            clock=clock,
            timers=loop,
            next_hop=hop_of,
            random=random.random,
            emit=self.events.append,
            on_halt=self.fail,
            doubt=self.spool.doubt,
        )
        self.scheduler = Scheduler(ports, OPTIONS)
        self.spool.attach(loop)
        self.scheduler.start()

    def fail(self, reason: str) -> None:
        raise AssertionError(reason)

    def resolve(self, next_hop: bytes, done: Callable[[bytes, Site | RouteProblem], None]) -> None:
        name = next_hop.decode()
        done(next_hop, Site(next_hop, name, (Target(name, "192.0.2.1", 25),), None))

    def start(self, job: Job, site: Site, done: Callable[[Job, AttemptResult], None]) -> None:
        outcome = DEAD
        if job.next_hop == b"smtp:home.example":
            outcome = Outcome(OutcomeKind.DELIVERED, "2.0.0", "250 Ok", remote="home[::1]:25")
            self.delivered.append(job.message)
        trouble = outcome if outcome is DEAD else None
        result = AttemptResult([outcome] * len(job.indices), trouble)
        self.loop.call_soon(done, job, result)

    async def send(self, age_ns: int, count: int) -> list[bytes]:
        """Messages that arrived so long ago, durable and active."""
        stored = self.loop.create_future()
        envelope = Envelope(
            b"sender@home.example", (b"a@dead.example", b"b@dead.example"), ClientIdentity()
        )
        ids = []
        for _ in range(count):
            message = Message(
                self.spool.new_id(),
                envelope,
                b"Subject: x\r\n\r\ntext\r\n",
                time.time_ns() - age_ns,
            )
            ids.append(message.id)
            self.spool.accept(message, lambda one, _: self._stored(one, ids, stored))
        await stored
        return ids

    def _stored(self, message: Message, ids: list[bytes], stored: asyncio.Future[None]) -> None:
        self.scheduler.accepted(message)
        if message.id == ids[-1]:
            stored.set_result(None)

    async def until(self, is_so: Callable[[], bool]) -> None:
        async with asyncio.timeout(20):
            while not is_so():
                await asyncio.sleep(0.02)

    def told(self, kind: str) -> list[bytes]:
        queued = [event for event in self.events if isinstance(event, BounceQueued)]
        return sorted(event.queue_id for event in queued if event.kind == kind)

    async def end(self) -> None:
        idle = asyncio.Event()
        self.scheduler.drain(idle.set)
        await asyncio.wait_for(idle.wait(), 10)
        await self.spool.close()


def hop_of(forward_path: bytes, _: Envelope) -> bytes:
    domain = forward_path.partition(b"@")[2]
    return b"smtp:" + (b"home.example" if domain == b"mail.example" else domain)


def test_dead_for_five_hours_each_sender_is_told_once_over_a_restart(tmp_path: Path) -> None:
    async def run() -> None:
        first = Life(tmp_path)
        late = await first.send(5 * HOUR_NS, 40)
        await first.send(3 * HOUR_NS, 5)
        await first.until(lambda: len(first.told(DELAY)) == 40 and len(first.delivered) == 80)
        await first.until(lambda: first.spool.live_count <= 45)  # marks come after the deliveries
        assert first.told(DELAY) == first.told(POSTMASTER_DELAY) == sorted(late)
        assert first.spool.live_count == 45
        await first.end()
        for message in first.delivered:
            assert message.content is not None
            report = read_report(message.content)
            assert [group["action"] for group in report.recipients] == ["delayed", "delayed"]
            assert report.recipients[0]["status"] == "4.4.1"
            is_copy = message.envelope.forward_paths == (b"postmaster@mail.example",)
            assert (message.envelope.dsn is not None) is is_copy
        second = Life(tmp_path)
        later = await second.send(5 * HOUR_NS, 1)
        await second.until(lambda: len(second.told(DELAY)) == 1)
        await asyncio.sleep(0.5)
        assert second.told(DELAY) == later
        assert second.spool.live_count == 46
        await second.end()

    asyncio.run(run())
