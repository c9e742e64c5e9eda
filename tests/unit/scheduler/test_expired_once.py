"""Whatever mail waits for, it expires once, with one report, and is not delivered after that."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from fastmta.budget.rate import Rate
from fastmta.budget.shape import Shape
from fastmta.event import BounceQueued, MessageExpired
from fastmta.message import Message, OutcomeKind, RecipientStatus
from fastmta.route import RouteProblem
from fastmta.scheduler import Options, RetryPolicy, SiteOptions, Waiting
from tests.support.scheduler_world import DEFERRED, REFUSED, World, answer, fail_site

LIFETIME_S = 3_600.0
NO_ANSWER = RouteProblem(OutcomeKind.DEFERRED, "4.4.3", "Host not found, try again")
Case = Callable[[], tuple[World, Message, Callable[[], None]]]


def world_of(**options: object) -> World:
    retry = RetryPolicy(lifetime_s=LIFETIME_S, first_s=3 * LIFETIME_S, max_s=3 * LIFETIME_S)
    world = World(Options(retry=retry, **options))  # type: ignore[arg-type]  # it checks
    world.spool.lifetime_ns = int(LIFETIME_S * 1e9)
    return world


def parked_on_a_rate() -> tuple[World, Message, Callable[[], None]]:
    world = world_of(shapes=(Shape(name="slow", site=("x.example",), rate=Rate(1, 7_200.0)),))
    world.send(b"first@x.example")
    return world, world.send(b"a@x.example"), lambda: world.scheduler.shape(())


def parked_on_a_rate_in_the_backlog() -> tuple[World, Message, Callable[[], None]]:
    world = world_of(
        shapes=(Shape(name="slow", site=("x.example",), rate=Rate(1, 7_200.0)),),
        ram_messages=4,
    )
    for _ in range(100):
        world.send(b"first@x.example")
    return world, world.send(b"a@x.example"), lambda: world.scheduler.shape(())


def paused_by_an_operator() -> tuple[World, Message, Callable[[], None]]:
    world = world_of(shapes=(Shape(name="stop", site=("x.example",), is_paused=True),))
    return world, world.send(b"a@x.example"), lambda: world.scheduler.shape(())


def behind_a_dead_site() -> tuple[World, Message, Callable[[], None]]:
    world = world_of()
    world.receivers.behaviours["x.example"] = fail_site(REFUSED)
    return world, world.send(b"a@x.example"), world.receivers.behaviours.clear


def without_a_look_up() -> tuple[World, Message, Callable[[], None]]:
    world = world_of()
    world.problems[b"smtp:x.example"] = NO_ANSWER
    return world, world.send(b"a@x.example"), world.problems.clear


def in_a_full_window() -> tuple[World, Message, Callable[[], None]]:
    world = world_of(site=SiteOptions(connections=1))
    world.receivers.latency_s["x.example"] = 2 * LIFETIME_S
    world.send(b"first@x.example")
    return world, world.send(b"a@x.example"), world.receivers.latency_s.clear


def without_a_slot() -> tuple[World, Message, Callable[[], None]]:
    world = world_of(connections=1)
    world.send(b"one@slow.example")  # it is there, so that its slot is not lent to others
    world.run(1)
    world.receivers.latency_s["slow.example"] = 2 * LIFETIME_S
    world.send(b"first@slow.example")
    return world, world.send(b"a@x.example"), world.receivers.latency_s.clear


def until_it_is_due() -> tuple[World, Message, Callable[[], None]]:
    world = world_of()
    world.receivers.behaviours["x.example"] = answer(DEFERRED)
    return world, world.send(b"a@x.example"), world.receivers.behaviours.clear


@pytest.mark.parametrize(
    ("case", "waiting"),
    [
        (parked_on_a_rate, Waiting.RATE),
        (parked_on_a_rate_in_the_backlog, None),
        (paused_by_an_operator, None),
        (behind_a_dead_site, Waiting.SITE_PAUSE),
        (without_a_look_up, Waiting.LOOKUP_PAUSE),
        (in_a_full_window, Waiting.WINDOW),
        (without_a_slot, Waiting.SLOT),
        (until_it_is_due, None),
    ],
)
def test_expired_once(case: Case, waiting: Waiting | None) -> None:
    world, message, mend = case()
    world.run(60.0)
    if waiting is not None:
        assert [one.waiting for one in world.scheduler.explain.message(message.id)] == [waiting]
    world.run(LIFETIME_S)
    assert world.state(message) is RecipientStatus.EXPIRED
    tried = [id for _, id, _ in world.receivers.log].count(message.id)
    mend()
    world.run(4 * LIFETIME_S)
    assert [event.queue_id for event in world.seen(MessageExpired)].count(message.id) == 1
    assert [id for id, _ in world.reported].count(message.id) == 1
    assert [event.queue_id for event in world.seen(BounceQueued)].count(message.id) == 1
    assert [id for _, id, _ in world.receivers.log].count(message.id) == tried
    assert world.spool.held == {}
