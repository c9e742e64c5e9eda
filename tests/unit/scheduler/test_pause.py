"""A pause of everything: nothing starts, what is under way ends, then all goes on."""

import pytest

from fastmta.event import MessageExpired
from fastmta.message import OutcomeKind, RecipientStatus
from fastmta.route import RouteProblem
from fastmta.scheduler import Options, Waiting
from tests.support.scheduler_world import NS, World, hop_of

WHY = "the spool is not healthy"


def test_nothing_starts_and_what_is_under_way_is_recorded() -> None:
    world = World()
    messages = [world.send(b"a@x.example") for _ in range(8)]
    world.scheduler.pause(WHY)
    world.run(100)
    assert world.receivers.attempts.total() == 5
    assert [world.state(message) for message in messages[:5]] == [RecipientStatus.DELIVERED] * 5
    (one,) = world.scheduler.explain.message(messages[5].id)
    assert (one.waiting, one.detail.partition(";")[0]) == (Waiting.PAUSE, WHY)
    world.scheduler.resume()
    world.run(1)
    assert len(world.spool.final) == 8
    assert world.receivers.attempts.total() == 8


def test_new_mail_due_mail_and_the_backlog_wait() -> None:
    world = World(Options(ram_messages=4))
    world.scheduler.pause(WHY)
    sent = [world.send(b"a@x.example") for _ in range(60)]
    due = world.store(b"a@y.example", due_in_s=10)
    world.restart()  # the backlog of another start, paused at once
    world.scheduler.pause(WHY)
    world.run(1_000)
    assert world.receivers.attempts.total() == 0
    (one, *_) = world.scheduler.explain.next_hop(hop_of(b"a@y.example", due.envelope))
    assert one.waiting is Waiting.PAUSE
    world.scheduler.resume()
    world.run(10)
    assert {message.id for message in (*sent, due)} == set(world.spool.final)


def test_many_sites_are_taken_up_in_turns() -> None:
    world = World()
    for number in range(200):
        world.send(b"a@x%d.example" % number)
    world.run(1)
    world.scheduler.pause(WHY)
    for number in range(200):
        world.send(b"a@x%d.example" % number)
    world.scheduler.resume()
    assert world.receivers.attempts.total() == 250
    world.run(1)
    assert len(world.spool.final) == 400


@pytest.mark.parametrize("kind", [OutcomeKind.FAILED, OutcomeKind.DEFERRED])
def test_a_look_up_that_fails_in_a_pause_gives_nobody_up(kind: OutcomeKind) -> None:
    world = World()
    world.resolve_s = 1.0
    world.problems[b"smtp:x.example"] = RouteProblem(kind, "5.4.4", "no")
    message = world.send(b"a@x.example")
    world.scheduler.pause(WHY)
    world.run(100)
    assert world.spool.records == 0
    del world.problems[b"smtp:x.example"]
    world.scheduler.resume()
    world.run(10)
    assert world.state(message) is RecipientStatus.DELIVERED


def test_nothing_expires_in_a_pause_and_overdue_mail_gets_its_attempt() -> None:
    world = World()
    message = world.send(b"a@x.example", age_s=world.spool.lifetime_ns / NS - 100)
    world.run(0.001)
    world.scheduler.pause(WHY)
    late = world.store(b"a@y.example", age_s=world.spool.lifetime_ns / NS - 100)
    world.run(1_000)
    assert not world.seen(MessageExpired)
    world.scheduler.resume()
    world.run(100)
    assert not world.seen(MessageExpired)
    assert {message.id, late.id} == set(world.spool.final)


def test_a_stop_ends_a_pause_and_no_resume_ends_a_stop() -> None:
    world = World()
    message = world.send(b"a@x.example")
    second = world.send(b"a@y.example", age_s=0.0)
    world.run(1)
    world.scheduler.pause(WHY)
    third = world.send(b"a@x.example")
    rested: list[bool] = []
    world.scheduler.drain(lambda: rested.append(True))
    assert rested == [True]
    world.scheduler.resume()
    world.run(100)
    assert {message.id, second.id} == set(world.spool.final)
    assert world.state(third) is RecipientStatus.QUEUED
