"""Where mail stands, for lists; and what a flush wakes."""

from __future__ import annotations

from fastmta.budget.shape import Shape
from fastmta.event import Notice
from fastmta.message import Message, RecipientStatus
from fastmta.message.situation import Trouble
from fastmta.scheduler.operation import Answer, Kind, Order
from tests.support.scheduler_world import DEFERRED, REFUSED, World, answer, fail_site

HOP = b"smtp:x.example"


def closed() -> tuple[World, list[Message]]:
    """A site that refuses every connection; its pause has begun."""
    world = World()
    world.receivers.behaviours["x.example"] = fail_site(REFUSED)
    messages = [world.send(b"b@x.example") for _ in range(8)]
    world.run(1.0)
    return world, messages


def attempts(world: World) -> int:
    return len(world.receivers.log)


def flush(world: World, message: Message) -> Answer:
    told: list[Answer] = []
    world.scheduler.operate(Order(Kind.FLUSH), [message.id], lambda _, answer: told.append(answer))
    world.run(1.0)
    (found,) = told
    return found


def test_mail_of_a_site_in_trouble_is_not_active_and_has_its_reason() -> None:
    world, messages = closed()
    standing = world.scheduler.standing
    situation = standing.situation
    assert list(situation.suspended) == [HOP]
    assert situation.suspended[HOP].text.startswith("delivery temporarily suspended: ")
    assert "refused" in situation.suspended[HOP].text.lower()
    assert situation.suspended[HOP].status == REFUSED.status
    assert not situation.active
    assert messages
    assert standing.hops_of("X.example") == [HOP]
    assert standing.hops_of("nowhere.example") == []


def test_mail_that_an_operator_paused_is_not_active_and_has_its_reason() -> None:
    for shape in (
        Shape(name="pause site:x.example", site=("x.example",), is_paused=True, note="set by me"),
        Shape(name="pause domain:x.example", domain=("x.example",), is_paused=True),
        Shape(name="pause tenant", tenant=("*",), is_paused=True),
    ):
        world = World()
        world.scheduler.shape([shape])
        messages = [world.send(b"b@x.example") for _ in range(3)]
        other = world.send(b"b@y.example")
        world.run(0.01)
        situation = world.scheduler.standing.situation
        assert not situation.active & {message.id for message in messages}
        if shape.tenant:  # its mail has no next hop of its own: only what is in memory is known
            assert not situation.suspended
            continue
        assert other.id in situation.active
        assert shape.name in situation.suspended[HOP].text
        assert shape.note in situation.suspended[HOP].text
        world.scheduler.shape([])
        world.run(0.01)
        assert {message.id for message in messages} <= world.scheduler.standing.situation.active


def test_what_was_suspended_before_is_so_until_it_is_tried() -> None:
    world = World()
    trouble = Trouble.of("connect to x: refused", "4.4.1")
    world.scheduler.standing.recall({HOP: trouble, b"smtp:never.example": trouble})
    assert len(world.scheduler.standing.situation.suspended) == 2
    world.send(b"b@x.example")
    world.run(5.0)
    assert list(world.scheduler.standing.situation.suspended) == [b"smtp:never.example"]


def test_a_pause_is_ended_for_all_or_for_some() -> None:
    world, _ = closed()
    before = attempts(world)
    assert world.scheduler.standing.wake([b"smtp:other.example"]) == 0
    world.run(0.5)
    assert attempts(world) == before
    assert world.scheduler.standing.wake([HOP]) == 1
    world.run(0.5)
    assert attempts(world) == before + 1  # the probe, alone
    world.receivers.behaviours.clear()
    assert world.scheduler.standing.wake() == 1
    world.run(5.0)
    assert world.scheduler.standing.wake() == 0
    assert not world.scheduler.standing.situation
    assert attempts(world) >= before + 8


def test_a_flush_makes_deferred_mail_due_and_changes_nothing_else() -> None:
    world = World()
    world.receivers.behaviours["x.example"] = answer(DEFERRED)
    message = world.send(b"a@x.example")
    world.run(1.0)
    before = attempts(world)
    assert flush(world, message) is Answer.DONE
    assert attempts(world) == before + 1
    assert world.state(message) is RecipientStatus.DEFERRED
    assert not [one for one in world.seen(Notice) if one.program == "postsuper"]
    world.receivers.behaviours.clear()
    assert flush(world, message) is Answer.DONE
    assert flush(world, message) is Answer.UNKNOWN  # it has been delivered
