"""When something is tried next: what a drain waits for, and what status shows."""

from __future__ import annotations

from fastmta.budget.rate import Rate
from fastmta.budget.shape import Shape
from fastmta.scheduler.outlook import Outlook
from tests.support.scheduler_world import DEFERRED, REFUSED, World, answer, fail_site

NS = 10**9


def seconds_left(world: World) -> tuple[float | None, float | None]:
    """Until mail that is due, and any mail, may start; 0: now."""
    now_ns = world.agenda.wall_ns()
    due_ns, next_ns = world.scheduler.standing.outlook
    return tuple(  # type: ignore[return-value]  # two of them
        at_ns if at_ns is None or at_ns == 0 else (at_ns - now_ns) / NS
        for at_ns in (due_ns, next_ns)
    )


def test_without_mail_there_is_nothing_to_wait_for() -> None:
    assert World().scheduler.standing.outlook == Outlook(None, None)


def test_mail_of_a_site_in_trouble_waits_for_the_end_of_the_pause() -> None:
    world = World()
    world.receivers.behaviours["x.example"] = fail_site(REFUSED)
    for _ in range(8):
        world.send(b"b@x.example")
    world.run(1.0)
    due_s, next_s = seconds_left(world)
    assert due_s == next_s
    assert due_s is not None
    assert 8.0 < due_s < 12.0
    world.resolve_s = 10.0
    world.send(b"b@y.example")
    assert seconds_left(world)[0] == 0, "a site that is looked up may be there at any moment"


def test_deferred_mail_is_not_due_and_its_time_is_the_next() -> None:
    world = World()
    world.receivers.behaviours["x.example"] = answer(DEFERRED)
    world.send(b"a@x.example")
    world.run(1.0)
    due_s, next_s = seconds_left(world)
    assert due_s is None
    assert next_s is not None
    assert 260.0 < next_s < 340.0, "and not the next look at the backlog"


def test_what_waits_in_memory_for_a_rate_is_due_when_that_says() -> None:
    world = World()
    world.scheduler.shape([Shape(name="slow", site=("x.example",), rate=Rate(1, 40.0, 1))])
    for _ in range(3):
        world.send(b"a@x.example")
    world.run(1.0)
    due_s, next_s = seconds_left(world)
    assert due_s == next_s
    assert due_s is not None
    assert 30.0 < due_s < 40.0


def test_a_pause_without_an_end_is_waited_for_by_nobody() -> None:
    world = World()
    clock = world.agenda
    for until_ns in (0, clock.wall_ns() + 600 * NS):
        shape = Shape(name="p", site=("x.example",), is_paused=True, until_ns=until_ns)
        world.scheduler.shape([shape])
        world.send(b"a@x.example")
        world.run(1.0)
        due_s, next_s = seconds_left(world)
        assert due_s == next_s
        assert (due_s is None) is (until_ns == 0)
        assert due_s is None or 590.0 < due_s < 600.0
    world.scheduler.shape([Shape(name="p", domain=("x.example",), is_paused=True)])
    assert seconds_left(world) == (None, None)
    world.scheduler.pause("the spool is not healthy")
    world.scheduler.shape([])
    assert seconds_left(world) == (None, None)
    world.scheduler.resume()
    assert seconds_left(world)[0] == 0
