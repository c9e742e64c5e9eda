"""Mail that is durable and may not start yet: nothing of it moves before `begin`."""

from __future__ import annotations

import pytest

from fastmta.event import MessageActive, RecipientTried
from fastmta.message import ClientIdentity, Envelope, Message, RecipientStatus
from fastmta.scheduler.operation import Answer, Kind, Order
from tests.support.scheduler_world import World

PATHS = (b"a@one.example", b"b@two.example")


def reserved(world: World, *paths: bytes) -> Message:
    envelope = Envelope(b"me@home.example", paths, ClientIdentity())
    message = Message(b"reserved00000001", envelope, b"x", world.agenda.wall_ns())
    world.scheduler.reserve(message)
    world.spool.accept(message)
    return message


@pytest.mark.parametrize("paths", [PATHS[:1], PATHS])
def test_nothing_starts_before_it_begins(paths: tuple[bytes, ...]) -> None:
    world = World()
    message = reserved(world, *paths)
    hop = world.scheduler._table.hop(world.hop_of(paths[0], message.envelope))
    world.scheduler._lifecycle.fetched(message, hop, world.agenda.wall_ns())  # it has rows by now
    world.run(100.0)
    assert world.seen(MessageActive) == world.seen(RecipientTried) == []
    world.scheduler.begin(message)
    world.run(10.0)
    assert len(world.seen(MessageActive)) == 1
    assert [event.kind for event in world.seen(RecipientTried)] == ["sent"] * len(paths)
    assert world.spool.final[message.id] is message


def test_an_operator_waits_until_it_begins() -> None:
    world = World()
    message = reserved(world, *PATHS)
    answers: list[Answer] = []
    order = Order(Kind.DELETE)
    world.scheduler.operate(order, [message.id], lambda _, answer: answers.append(answer))
    world.run(1.0)
    assert answers == []
    world.scheduler.pause("so that nothing is quicker")
    world.scheduler.begin(message)
    world.run(1.0)
    assert answers == [Answer.DONE]
    assert world.state(message) is RecipientStatus.DELETED


def test_what_did_not_become_durable_is_forgotten() -> None:
    world = World()
    envelope = Envelope(b"", PATHS, ClientIdentity())
    message = Message(b"reserved00000002", envelope, b"x", world.agenda.wall_ns())
    world.scheduler.reserve(message)
    world.scheduler.forget(message)
    world.run(10.0)
    assert world.scheduler.counts.ram_jobs == 0
    world.scheduler.reserve(message)  # under the same id, again
