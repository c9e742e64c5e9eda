"""Senders hear once that their mail is late: whatever it waits for, and over restarts."""

from __future__ import annotations

import pytest

from fastmta.event import BounceQueued
from fastmta.message import Outcome, OutcomeKind, RecipientState, RecipientStatus
from fastmta.message.report import DELAY, POSTMASTER_DELAY
from fastmta.route import RouteProblem
from fastmta.scheduler import Options
from fastmta.scheduler.operation import Kind, Order
from tests.support.scheduler_world import (
    DEFERRED,
    NS,
    REFUSED,
    Behaviour,
    World,
    answer,
    fail_site,
)

HOUR_S = 3_600.0
LATE = Options(delay_s=4 * HOUR_S)


def warned(world: World) -> list[bytes]:
    """Messages whose senders were told, once for each report."""
    return [event.queue_id for event in world.seen(BounceQueued) if event.kind == DELAY]


def world_of(behaviour: Behaviour | None = None) -> World:
    world = World(LATE)
    world.receivers.behaviours["x.example"] = behaviour or answer(DEFERRED)
    return world


def test_deferred_for_four_hours_is_told_once() -> None:
    world = world_of()
    message = world.send(b"a@x.example", b"b@x.example")
    world.run(4 * HOUR_S - 60)
    assert warned(world) == []
    world.run(120)
    assert warned(world) == [message.id]
    ((_, outcomes),) = world.delayed
    assert [(index, one.kind, one.text) for index, one in outcomes] == [
        (0, OutcomeKind.DEFERRED, "mailbox full"),
        (1, OutcomeKind.DEFERRED, "mailbox full"),
    ]
    world.run(4 * 24 * HOUR_S)
    assert warned(world) == [message.id]
    assert world.receivers.attempts["x.example"] > 20, "it is tried as ever"


@pytest.mark.parametrize("count", [1, 60])
def test_dead_site_that_burns_no_attempts_is_told_too(count: int) -> None:
    world = world_of(fail_site(REFUSED))
    messages = [world.send(b"a@x.example") for _ in range(count)]
    world.run(4 * HOUR_S + 120)
    assert sorted(warned(world)) == sorted(message.id for message in messages)
    ((index, outcome),) = world.delayed[0][1]
    assert (index, outcome.status, outcome.text) == (0, "4.4.1", "Connection refused")
    world.run(HOUR_S)
    assert len(warned(world)) == count
    world.receivers.behaviours.clear()
    world.run(HOUR_S)
    assert {world.state(message) for message in messages} == {RecipientStatus.DELIVERED}


def test_mail_that_cannot_be_looked_up_is_told_too() -> None:
    world = World(LATE)
    problem = RouteProblem(OutcomeKind.DEFERRED, "4.4.3", "no answer")
    world.problems[b"smtp:x.example"] = problem
    message = world.send(b"a@x.example")
    world.run(4 * HOUR_S + 120)
    assert warned(world) == [message.id]
    assert world.delayed[0][1][0][1].status == "4.4.3"


@pytest.mark.parametrize("behaviour", [None, fail_site(REFUSED)])
def test_restart_tells_nobody_twice(behaviour: Behaviour | None) -> None:
    world = world_of(behaviour)
    message = world.send(b"a@x.example", b"b@x.example")
    world.run(5 * HOUR_S)
    assert warned(world) == [message.id]
    for _ in range(3):
        world.restart()
        world.run(2 * HOUR_S)
    assert warned(world) == [message.id]
    stored = (world.spool.rows | world.spool.held)[message.id].states
    assert any(state.is_warned for state in stored.values())


def test_it_is_told_after_a_restart_if_nobody_told_before() -> None:
    world = world_of()
    messages = [world.store(b"a@x.example", age_s=10 * HOUR_S, due_in_s=1e5) for _ in range(450)]
    world.spool.page = 100
    world.restart()
    world.run(60)
    assert sorted(warned(world)) == [message.id for message in messages]


def test_mark_and_warning_are_one_record() -> None:
    world = world_of()
    message = world.send(b"a@x.example")
    world.run(4 * HOUR_S - 60)
    world.spool.error = None
    world.spool.record_s = 1e6
    world.run(300)
    assert world.delayed != []
    world.restart()  # as if killed before the record was durable
    world.spool.record_s = 0.001
    world.delayed.clear()
    world.run(60)
    assert [id for id, _ in world.delayed] == [message.id]
    assert warned(world) == [message.id]


def test_delivered_in_time_is_not_told() -> None:
    world = world_of()
    world.send(b"a@x.example")
    world.run(3 * HOUR_S)
    world.receivers.behaviours.clear()
    world.run(10 * HOUR_S)
    assert world.delayed == []


def test_attempt_under_way_is_left_alone_and_looked_at_again() -> None:
    world = world_of()
    world.receivers.latency_s["x.example"] = 2 * HOUR_S
    message = world.send(b"a@x.example", age_s=4 * HOUR_S - 30)
    world.run(HOUR_S)
    assert world.delayed == []
    world.run(2 * HOUR_S)
    assert warned(world) == [message.id]


def test_message_that_the_second_recipient_waits_for_is_told_once() -> None:
    world = world_of()
    world.receivers.behaviours["y.example"] = fail_site(REFUSED)
    message = world.send(b"a@x.example", b"b@y.example", b"c@z.example")
    world.run(5 * HOUR_S)
    assert warned(world) == [message.id]
    assert [index for index, _ in world.delayed[0][1]] == [0, 1]
    del world.receivers.behaviours["x.example"]  # the marked one is delivered: it stays told
    world.run(5 * HOUR_S)
    assert world.state(message, 0) is RecipientStatus.DELIVERED
    world.restart()
    world.run(5 * HOUR_S)
    assert warned(world) == [message.id]


def test_who_wants_no_word_is_looked_at_once() -> None:
    world = world_of()
    world.wants_reports = False
    messages = [world.send(b"a@x.example", reverse_path=path) for path in (b"", b"b@home.example")]
    world.run(5 * HOUR_S)
    assert warned(world) == []
    assert len(world.delayed) == 2
    world.restart()
    world.run(24 * HOUR_S)
    assert len(world.delayed) == 2
    assert {world.state(message) for message in messages} == {RecipientStatus.DEFERRED}


def test_held_mail_is_not_late_until_it_is_released() -> None:
    world = world_of(fail_site(REFUSED))
    message = world.store(b"a@x.example", age_s=10 * HOUR_S)
    message.states[0] = RecipientState(0, RecipientStatus.HELD)
    world.restart()
    world.run(HOUR_S)
    assert world.delayed == []
    world.scheduler.operate(Order(Kind.RELEASE), [message.id], lambda id, one: None)
    world.run(120)
    assert warned(world) == [message.id]


def test_hold_and_release_keep_that_it_was_told() -> None:
    world = world_of()
    message = world.send(b"a@x.example")
    world.run(5 * HOUR_S)
    for kind in (Kind.HOLD, Kind.RELEASE):
        world.scheduler.operate(Order(kind), [message.id], lambda id, one: None)
        world.run(120)
    world.run(2 * HOUR_S)
    assert warned(world) == [message.id]


def test_nothing_is_told_for_an_hour_after_the_clock_was_set() -> None:
    world = world_of()
    message = world.send(b"a@x.example")
    world.run(60)
    world.agenda.wall_offset_ns += int(9 * HOUR_S) * NS
    world.agenda.stepped_at_s = world.agenda.now_s
    world.run(HOUR_S - 60)
    assert warned(world) == []
    world.run(180)
    assert warned(world) == [message.id]


def test_clock_that_goes_back_hides_nobody() -> None:
    world = world_of()
    old = world.send(b"a@x.example")
    world.run(5 * HOUR_S)
    world.agenda.wall_offset_ns -= int(3 * HOUR_S) * NS
    world.agenda.stepped_at_s = world.agenda.now_s
    new = world.send(b"a@x.example")
    world.run(5 * HOUR_S)
    assert warned(world) == [old.id, new.id]


def test_pause_of_everything_is_waited_for() -> None:
    world = world_of()
    message = world.send(b"a@x.example")
    world.scheduler.pause("the disk")
    world.run(6 * HOUR_S)
    assert world.delayed == []
    world.scheduler.resume()
    world.run(60)
    assert warned(world) == [message.id]


def test_postmaster_gets_a_copy_even_if_the_sender_wants_none() -> None:
    world = world_of()
    world.wants_reports, world.wants_copies = False, True
    message = world.send(b"a@x.example")
    world.run(5 * HOUR_S)
    kinds = [(event.queue_id, event.kind) for event in world.seen(BounceQueued)]
    assert kinds == [(message.id, POSTMASTER_DELAY)]


def test_without_a_delay_nothing_is_ever_looked_for() -> None:
    world = World()
    world.receivers.behaviours["x.example"] = answer(DEFERRED)
    world.send(b"a@x.example")
    world.run(2 * 24 * HOUR_S)
    assert world.spool.scans == 0
    assert world.delayed == []


def test_what_was_told_is_not_read_again() -> None:
    """After the first, each sweep costs one page of rows however long the backlog is."""
    world = world_of()
    for _ in range(300):
        world.store(b"a@x.example", age_s=10 * HOUR_S, due_in_s=1e6)
    world.spool.page = 50
    world.restart()
    world.run(60)
    assert len(warned(world)) == 300
    before = world.spool.scans
    world.run(600)
    assert world.spool.scans - before <= 600 / 30 * 2


@pytest.mark.parametrize(
    ("text", "status"),
    [
        ("host mx said: 450 4.2.2 mailbox full", "4.2.2"),
        ("connect to mx[4.2.2.1]:25: timed out", "4.0.0"),
        ("host mx said: 450 4.2.2222 x", "4.0.0"),
        ("said: 550 5.1.1 no, then 451 4.7.1 later", "4.7.1"),
        ("", "4.0.0"),
    ],
)
def test_status_of_a_delay_is_that_of_the_last_attempt(text: str, status: str) -> None:
    world = world_of(answer(Outcome(OutcomeKind.DEFERRED, "4.9.9", text)))
    world.send(b"a@x.example")
    world.run(5 * HOUR_S)
    ((_, outcome),) = world.delayed[0][1]
    assert outcome.status == status
    assert outcome.text
