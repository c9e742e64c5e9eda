"""Every kind of waiting can be named, with its cause and its end."""

import pytest

from fastmta.budget.rate import Rate
from fastmta.budget.shape import Shape
from fastmta.message import OutcomeKind
from fastmta.route import RouteProblem
from fastmta.scheduler import Options, SiteOptions, Waiting
from tests.support.scheduler_world import DEFERRED, REFUSED, World, answer, fail_site

HOP = b"smtp:x.example"


def reason(world: World, id: bytes) -> Waiting:
    (one,) = world.scheduler.explain.message(id)
    return one.waiting


def test_attempt_and_window() -> None:
    world = World()
    messages = [world.send(b"a@x.example") for _ in range(6)]
    assert reason(world, messages[0].id) is Waiting.ATTEMPT
    assert reason(world, messages[5].id) is Waiting.WINDOW
    (site,) = world.scheduler.explain.sites()
    assert (site.name, site.facts["in_flight"], site.facts["window"]) == ("x.example", 5, 5)
    assert site.facts["waiting"] == 1


def test_site_pause_has_its_end_and_its_cause_then_the_probe() -> None:
    world = World()
    world.receivers.behaviours["x.example"] = fail_site(REFUSED)
    message = world.send(b"a@x.example")
    second = world.send(b"a@x.example")
    world.run(1)
    (one,) = world.scheduler.explain.message(message.id)
    assert (one.waiting, one.cause) == (Waiting.SITE_PAUSE, REFUSED)
    assert world.agenda.now_s + 5 < one.until_s <= world.agenda.now_s + 10
    world.receivers.latency_s["x.example"] = 50.0
    world.run(20)
    reasons = {reason(world, message.id), reason(world, second.id)}
    assert reasons == {Waiting.ATTEMPT, Waiting.PROBE}


def test_slot() -> None:
    world = World(Options(connections=1))
    world.send(b"a@x.example")
    message = world.send(b"a@y.example")
    assert reason(world, message.id) is Waiting.SLOT


def test_rate() -> None:
    world = World(Options(site=SiteOptions(rate_per_s=0.01)))
    world.send(b"a@x.example")
    message = world.send(b"a@x.example")
    (one,) = world.scheduler.explain.message(message.id)
    assert one.waiting is Waiting.RATE
    assert one.until_s == pytest.approx(world.agenda.now_s + 100, abs=0.1)


@pytest.mark.parametrize("by", ["site", "tenant"])
def test_the_next_try_of_a_message_counts_what_goes_before_it(by: str) -> None:
    shape = Shape(name="slow", rate=Rate(1, 10.0), **{by: ("*",)})
    world = World(Options(shapes=(shape,)))
    messages = [world.send(b"a@x.example", client="10.0.0.1") for _ in range(30)]
    world.run(0.5)
    said = {}
    for number in (1, 2, 10, 29):
        (one,) = world.scheduler.explain.message(messages[number].id)
        assert one.waiting is Waiting.RATE
        assert number == 1 or f"about {number - 1} go before it" in one.detail
        said[messages[number].id] = one.until_s
    world.run(400.0)
    for at_s, id, _ in world.receivers.log:
        if id in said:
            assert at_s == pytest.approx(said[id], abs=1.0)


def test_a_list_says_when_mail_is_due_that_waits_in_the_spool_alone() -> None:
    world = World()
    world.receivers.behaviours["x.example"] = answer(DEFERRED)
    message = world.send(b"a@x.example")
    world.send(b"a@y.example")
    world.run(5.0)
    first, second = world.scheduler.explain.paths("", 10)
    assert (first.label, first.waiting, first.why.waiting) == ("x.example", 0, Waiting.DUE)
    left_s = (message.states[0].due_at_ns - world.agenda.wall_ns()) / 10**9
    assert first.why.until_s == pytest.approx(world.agenda.now_s + left_s)
    assert second.why.waiting is Waiting.NOTHING


def test_look_up_then_its_pause() -> None:
    world = World()
    world.resolve_s = 1.0
    world.problems[HOP] = RouteProblem(OutcomeKind.DEFERRED, "4.4.3", "no answer")
    message = world.send(b"a@x.example")
    assert reason(world, message.id) is Waiting.LOOKUP
    world.run(2)
    (one,) = world.scheduler.explain.message(message.id)
    assert one.waiting is Waiting.LOOKUP_PAUSE
    assert one.cause is not None
    assert one.cause.text == "no answer"


def test_due_time_and_backlog() -> None:
    world = World(Options(ram_messages=50, site=SiteOptions(connections=5)))
    world.receivers.behaviours["x.example"] = answer(DEFERRED)
    message = world.send(b"a@x.example")
    world.run(1)
    assert world.scheduler.explain.message(message.id) == []
    assert world.scheduler.explain.next_hop(HOP)[-1].waiting is Waiting.DUE
    world.receivers.latency_s["x.example"] = 50.0
    for _ in range(200):
        world.send(b"a@x.example")
    assert [one.waiting for one in world.scheduler.explain.next_hop(HOP)] == [
        Waiting.WINDOW,
        Waiting.WINDOW,
    ]


def test_stop() -> None:
    world = World()
    messages = [world.send(b"a@x.example") for _ in range(6)]
    world.scheduler.drain(lambda: None)
    assert reason(world, messages[5].id) is Waiting.STOP


def test_nothing_and_unknown() -> None:
    world = World()
    world.send(b"a@x.example")
    world.run(1)
    assert [one.waiting for one in world.scheduler.explain.next_hop(HOP)] == [Waiting.NOTHING]
    assert world.scheduler.explain.next_hop(b"smtp:never.example") == []
    assert world.scheduler.explain.message(b"0" * 16) == []


def test_expiry() -> None:
    world = World()
    world.receivers.behaviours["x.example"] = fail_site(REFUSED)
    message = world.send(b"a@x.example", age_s=5 * 86_400 - 100)
    world.run(60)
    world.spool.record_s = 1_000.0
    world.run(100)
    assert reason(world, message.id) is Waiting.EXPIRY
