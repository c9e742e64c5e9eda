"""Coming to rest."""

from fastmta.message import RecipientStatus
from tests.support.scheduler_world import FAILED, REFUSED, World, answer, fail_site


def test_drain_at_rest_is_done_at_once() -> None:
    world = World()
    rested: list[bool] = []
    assert world.scheduler.drain(lambda: rested.append(True)) == 0
    assert rested == [True]


def test_drain_finishes_what_is_under_way_and_its_marks() -> None:
    world = World()
    world.spool.record_s = 1.0
    for _ in range(20):
        world.send(b"a@x.example")
    rested: list[int] = []
    assert world.scheduler.drain(lambda: rested.append(len(world.spool.final))) == 5
    world.run(0.5)
    assert rested == []
    world.run(10)
    assert rested == [5]
    assert world.receivers.attempts.total() == 5


def test_trouble_ends_a_drain_too() -> None:
    world = World()
    world.receivers.behaviours["x.example"] = fail_site(REFUSED)
    world.send(b"a@x.example")
    rested: list[bool] = []
    world.scheduler.drain(lambda: rested.append(True))
    world.run(1)
    assert rested == [True]


def test_mail_accepted_while_draining_stays_in_the_spool() -> None:
    world = World()
    world.scheduler.drain(lambda: None)
    message = world.send(b"a@x.example")
    world.run(100)
    assert world.state(message) is RecipientStatus.QUEUED
    assert message.id in world.spool.rows


def test_a_bounce_made_while_draining_is_kept_for_the_next_start() -> None:
    world = World()
    world.receivers.behaviours["x.example"] = answer(FAILED)
    message = world.send(b"a@x.example")
    world.scheduler.drain(lambda: None)
    world.run(10)
    assert world.state(message) is RecipientStatus.FAILED
    assert len(world.spool.rows) == 1
    world.receivers.behaviours.clear()
    world.restart()
    world.run(10)
    assert world.spool.rows == {}
