"""Routes change while mail is everywhere: in queues, under way, being recorded, in the backlog."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from fastmta.message import Envelope, RecipientStatus
from fastmta.message.attempt import Job
from fastmta.scheduler import Options
from tests.support.scheduler_world import DEFERRED, World, answer, hop_of

DELIVERED = RecipientStatus.DELIVERED


class Movable(World):
    """Its routes can be changed; who was delivered to is counted."""

    def __init__(self, options: Options | None = None) -> None:
        self.moved: dict[bytes, bytes] = {}
        self.tries: Counter[tuple[bytes, int]] = Counter()
        self.together: set[tuple[bytes, int]] = set()
        super().__init__(options)
        self._start = self.receivers.start
        self.receivers.start = self._watched  # type: ignore[method-assign]  # a spy

    def hop_of(self, forward_path: bytes, envelope: Envelope) -> bytes:
        hop = hop_of(forward_path, envelope)
        return self.moved.get(hop, hop)

    def move(self, **domains: str) -> None:
        self.moved = {
            f"smtp:{name}.example".encode(): f"smtp:{to}.example".encode()
            for name, to in domains.items()
        }
        self.scheduler.renew(self.options, self.hop_of)
        self.scheduler.reroute()
        self.scheduler.take_up()  # as when the index is back

    def _watched(self, job: Job, site: object, done: object) -> None:
        for index in job.indices:
            key = job.message.id, index
            assert key not in self.together, "the same recipient is tried twice at a time"
            self.together.add(key)
            self.tries[key] += 1

        def ended(job: Job, result: object) -> None:
            self.together -= {(job.message.id, index) for index in job.indices}
            done(job, result)  # type: ignore[operator]  # whatever the scheduler gave

        self._start(job, site, ended)  # type: ignore[arg-type]  # as above


def test_what_waits_goes_elsewhere_and_what_is_under_way_ends_where_it_is() -> None:
    world = Movable()
    world.receivers.latency_s["old.example"] = 5.0
    sent = [world.send(b"a@old.example", b"b@other.example") for _ in range(40)]
    world.run(1)
    under_way = world.receivers.in_flight["old.example"]
    assert under_way
    world.move(old="new")
    world.run(4.5)
    assert world.receivers.attempts["old.example"] == under_way
    world.run(600)
    assert world.receivers.attempts["new.example"] == 40 - under_way
    assert all(world.state(one, index) is DELIVERED for one in sent for index in (0, 1))
    assert set(world.tries.values()) == {1}
    assert world.scheduler.counts.ram_jobs == 0


def test_two_next_hops_of_a_message_become_one() -> None:
    world = Movable()
    world.receivers.latency_s |= dict.fromkeys(("one.example", "two.example"), 2.0)
    sent = [world.send(b"a@one.example", b"b@two.example") for _ in range(30)]
    world.run(0.5)
    world.move(one="both", two="both")
    world.run(0.5)
    world.move(one="two")  # and again, before the first has come to rest
    world.run(600)
    assert all(world.state(one, index) is DELIVERED for one in sent for index in (0, 1))
    assert set(world.tries.values()) == {1}


def test_a_site_that_does_not_take_mail_is_left() -> None:
    world = Movable()
    world.receivers.behaviours["old.example"] = answer(DEFERRED)
    message = world.send(b"a@old.example")
    world.run(10)
    assert world.state(message) is RecipientStatus.DEFERRED
    world.move(old="new")
    world.run(400)
    assert world.state(message) is DELIVERED
    assert world.receivers.attempts["new.example"] == 1


@pytest.mark.parametrize("seed", range(6))
def test_routes_that_change_at_any_time_lose_and_repeat_nothing(seed: int) -> None:
    chance = random.Random(seed)
    world = Movable(Options(ram_messages=60, recipients_per_job=2))
    names = ["one", "two", "three", "four"]
    world.receivers.latency_s |= {f"{name}.example": 0.7 for name in names}
    for _ in range(60):
        for _ in range(chance.randrange(12)):
            count = chance.randrange(1, 5)
            paths = [f"r{at}@{chance.choice(names)}.example".encode() for at in range(count)]
            if chance.random() < 0.2:
                world.store(*paths)
                world.scheduler.take_up()
            else:
                world.send(*paths)
        if chance.random() < 0.3:
            world.move(**{name: chance.choice(names) for name in names})
        world.run(chance.random() * 1.5)
    world.scheduler.take_up()
    world.run(3_000)
    for message in world.accepted.values():
        for index in range(len(message.envelope.forward_paths)):
            assert world.state(message, index) is DELIVERED
            assert world.tries[message.id, index] == 1
    assert not world.spool.rows
    assert not world.spool.held
