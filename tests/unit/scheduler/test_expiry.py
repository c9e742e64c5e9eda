"""Giving up: whatever the mail waits for, but never an attempt that is under way."""

import pytest

from fastmta.event import BounceQueued, MessageExpired, MessageRemoved, Notice
from fastmta.message import OutcomeKind, RecipientState, RecipientStatus
from fastmta.route import RouteProblem
from fastmta.scheduler import Options, RetryPolicy
from tests.support.scheduler_world import DEFERRED, NS, REFUSED, World, answer, fail_site

DAY_S = 86_400.0
EXPIRED, DELIVERED = RecipientStatus.EXPIRED, RecipientStatus.DELIVERED


def test_mail_deferred_for_five_days_goes_back() -> None:
    world = World()
    world.receivers.behaviours["x.example"] = answer(DEFERRED)
    message = world.send(b"a@x.example")
    world.run(5 * DAY_S - 10)
    assert world.seen(MessageExpired) == []
    world.run(5_000)
    assert world.state(message) is EXPIRED
    assert len(world.seen(BounceQueued)) == 1
    assert [event.queue_id for event in world.seen(MessageRemoved)].count(message.id) == 1


def test_expiry_does_not_wait_for_the_next_attempt() -> None:
    options = Options(retry=RetryPolicy(first_s=9 * DAY_S, max_s=9 * DAY_S))
    world = World(options)
    world.receivers.behaviours["x.example"] = answer(DEFERRED)
    message = world.send(b"a@x.example")
    world.run(5 * DAY_S + 60)
    assert world.state(message) is EXPIRED
    assert world.receivers.attempts["x.example"] == 1


def test_mail_in_ram_behind_a_dead_site_expires() -> None:
    world = World()
    world.receivers.behaviours["x.example"] = fail_site(REFUSED)
    messages = [world.send(b"a@x.example") for _ in range(30)]
    world.run(5 * DAY_S + 120)
    assert {world.state(message) for message in messages} == {EXPIRED}
    assert world.scheduler.counts.ram_jobs == 0


def test_mail_that_cannot_be_looked_up_expires() -> None:
    world = World()
    world.problems[b"smtp:x.example"] = RouteProblem(OutcomeKind.DEFERRED, "4.4.3", "no answer")
    message = world.send(b"a@x.example")
    world.run(5 * DAY_S + 120)
    assert world.state(message) is EXPIRED


def test_an_attempt_under_way_is_left_to_its_end() -> None:
    world = World()
    world.receivers.latency_s["x.example"] = 1_000.0
    message = world.send(b"a@x.example", age_s=5 * DAY_S - 100)
    world.run(900)
    assert world.state(message) is RecipientStatus.QUEUED
    world.run(200)
    assert world.state(message) is DELIVERED
    assert world.seen(MessageExpired) == []


def test_expired_bounces_are_dropped_with_a_line() -> None:
    world = World(Options(retry=RetryPolicy(bounce_lifetime_s=1_000)))
    world.spool.lifetime_ns = 1_000 * NS
    world.receivers.behaviours["x.example"] = answer(DEFERRED)
    message = world.send(b"a@x.example", reverse_path=b"")
    world.run(1_500)
    assert world.state(message) is EXPIRED
    assert world.seen(BounceQueued) == []
    assert any("dropped" in notice.text for notice in world.seen(Notice))


def test_overdue_mail_gets_one_attempt_after_a_start() -> None:
    world = World()
    good = world.store(b"a@good.example", age_s=6 * DAY_S)
    bad = world.store(b"a@bad.example", age_s=6 * DAY_S, due_in_s=3_000)
    world.receivers.behaviours["bad.example"] = answer(DEFERRED)
    world.restart()
    world.run(120)
    assert (world.state(good), world.state(bad)) == (DELIVERED, EXPIRED)
    assert world.receivers.attempts["good.example"] == 1
    assert world.receivers.attempts["bad.example"] == 1


def test_overdue_mail_waits_a_while_for_a_site_that_is_down_at_the_start() -> None:
    world = World()
    message = world.store(b"a@x.example", age_s=6 * DAY_S)
    hopeless = world.store(b"a@gone.example", age_s=6 * DAY_S)
    world.receivers.behaviours["x.example"] = fail_site(REFUSED)
    world.receivers.behaviours["gone.example"] = fail_site(REFUSED)
    world.restart()
    world.run(500)
    assert world.seen(MessageExpired) == []
    del world.receivers.behaviours["x.example"]
    world.run(350)
    assert world.state(message) is DELIVERED
    world.run(200)
    assert world.state(hopeless) is EXPIRED


@pytest.mark.parametrize("step_s", [0.0, 30 * DAY_S])
def test_nothing_expires_for_an_hour_after_the_clock_was_set(step_s: float) -> None:
    world = World()
    world.receivers.behaviours["dead.example"] = fail_site(REFUSED)
    world.receivers.behaviours["full.example"] = answer(DEFERRED)
    dead = world.send(b"a@dead.example", age_s=5 * DAY_S - 100)
    full = world.send(b"a@full.example", age_s=5 * DAY_S - 100)
    good = world.send(b"a@late.example")
    world.receivers.behaviours["late.example"] = fail_site(REFUSED)
    world.run(50)
    world.agenda.wall_offset_ns += int(step_s * NS)
    world.agenda.stepped_at_s = world.agenda.now_s
    world.run(3_500)
    assert world.seen(MessageExpired) == []
    assert world.receivers.attempts["full.example"] > 2, "it is tried as ever"
    del world.receivers.behaviours["late.example"]
    world.run(400)
    assert world.state(good) is DELIVERED
    world.run(5_000)
    assert {world.state(dead), world.state(full)} == {EXPIRED}


def test_held_recipients_do_not_expire() -> None:
    world = World()
    message = world.store(b"a@x.example", b"b@x.example", due_in_s=9 * DAY_S)
    message.states[0] = RecipientState(0, RecipientStatus.HELD)
    world.restart()
    world.run(5 * DAY_S + 120)
    assert world.state(message, 0) is RecipientStatus.HELD
    assert world.state(message, 1) is EXPIRED


def test_thousands_expire_in_a_row() -> None:
    retry = RetryPolicy(first_s=9 * DAY_S, max_s=9 * DAY_S)
    world = World(Options(retry=retry, sweep_interval_s=3_600.0))
    world.receivers.behaviours["x.example"] = answer(DEFERRED)
    for _ in range(2_000):
        world.send(b"a@x.example")
    world.run(5 * DAY_S + 3_700)
    assert len(world.seen(MessageExpired)) == 2_000
    assert world.scheduler.counts.ram_jobs == 0


@pytest.mark.parametrize("busy", [250, 450])
def test_those_in_front_that_cannot_go_do_not_block_the_rest(busy: int) -> None:
    world = World()
    for number in range(busy):
        world.receivers.latency_s[f"s{number}.example"] = 10 * DAY_S
        world.send(b"a@s%d.example" % number, age_s=5 * DAY_S - 50)
    world.receivers.behaviours["x.example"] = answer(DEFERRED)
    message = world.send(b"a@x.example", age_s=5 * DAY_S - 60)
    world.run(200)
    assert world.state(message) is EXPIRED
