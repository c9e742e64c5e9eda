"""Where mail stands, for lists; and what a flush wakes."""

from __future__ import annotations

from fastmta.event import Notice
from fastmta.message import Message, RecipientStatus
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
    assert "refused" in standing.trouble(HOP).lower()
    assert standing.trouble(b"smtp:other.example") == ""
    assert not any(standing.is_active(message.id) for message in messages)
    assert not standing.is_active(b"0" * 16)
    assert standing.hops_of("X.example") == [HOP]
    assert standing.hops_of("nowhere.example") == []


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
    assert world.scheduler.standing.trouble(HOP) == ""
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
