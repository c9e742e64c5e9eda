"""Next hops without a site: looked up once, delayed, or failed."""

from fastmta.event import BounceQueued, RecipientTried
from fastmta.message import OutcomeKind, RecipientStatus
from fastmta.route import RouteProblem
from tests.support.scheduler_world import World

NO_ANSWER = RouteProblem(OutcomeKind.DEFERRED, "4.4.3", "Host not found, try again")
NO_DOMAIN = RouteProblem(OutcomeKind.FAILED, "5.4.4", "Host or domain name not found")
HOP = b"smtp:x.example"


def test_mail_that_comes_during_a_look_up_waits_for_that_one() -> None:
    world = World()
    world.resolve_s = 1.0
    for _ in range(30):
        world.send(b"a@x.example")
    assert world.receivers.attempts.total() == 0
    world.run(5)
    assert world.lookups[HOP] == 1
    assert len(world.spool.final) == 30


def test_no_such_domain_fails_its_mail_with_a_bounce() -> None:
    world = World()
    world.problems[HOP] = NO_DOMAIN
    message = world.send(b"a@x.example")
    world.run(1)
    assert world.state(message) is RecipientStatus.FAILED
    tried = world.seen(RecipientTried)[0]
    assert (tried.kind, tried.status, tried.remote) == ("bounced", "5.4.4", "none")
    assert len(world.seen(BounceQueued)) == 1


def test_no_such_domain_fails_the_backlog_too() -> None:
    world = World()
    world.problems[HOP] = NO_DOMAIN
    for _ in range(700):
        world.store(b"a@x.example")
    world.restart()
    world.run(30)
    assert len(world.seen(BounceQueued)) == 700
    assert world.spool.rows == {}
    assert world.scheduler.counts.ram_jobs == 0


def test_dns_trouble_bounces_nothing_and_burns_no_attempts() -> None:
    world = World()
    world.problems[HOP] = NO_ANSWER
    message = world.send(b"a@x.example")
    world.run(3_000)
    assert world.spool.records == 0
    tried = world.seen(RecipientTried)[0]
    assert (tried.kind, tried.status) == ("deferred", "4.4.3")
    world.problems.clear()
    world.run(301)
    assert world.state(message) is RecipientStatus.DELIVERED
    assert message.states[0].attempts == 1


def test_dns_trouble_is_asked_about_with_growing_pauses() -> None:
    world = World()
    world.problems[HOP] = NO_ANSWER
    world.send(b"a@x.example")
    world.run(10_000)
    assert 30 < world.lookups[HOP] < 45


def test_a_hop_that_cannot_be_looked_up_keeps_little_in_ram() -> None:
    world = World()
    world.problems[HOP] = NO_ANSWER
    for _ in range(3_000):
        world.send(b"a@x.example")
    world.run(1)
    assert world.scheduler.counts.ram_jobs <= 20
    world.problems.clear()
    world.run(60)
    assert len(world.spool.final) == 3_000


def test_a_site_serves_on_while_it_cannot_be_looked_up_again() -> None:
    world = World()
    world.ttl_s = 5.0
    world.send(b"a@x.example")
    world.run(1)
    world.problems[HOP] = NO_ANSWER
    for _ in range(20):
        world.run(10)
        world.send(b"a@x.example")
    world.run(1)
    assert len(world.spool.final) == 21


def test_a_domain_that_vanishes_fails_what_still_waits() -> None:
    world = World()
    world.ttl_s = 0.5
    world.receivers.latency_s["x.example"] = 1.0
    messages = [world.send(b"a@x.example") for _ in range(50)]
    world.run(0.6)
    world.problems[HOP] = NO_DOMAIN
    world.run(10)
    states = [world.state(message) for message in messages]
    assert states.count(RecipientStatus.DELIVERED) + states.count(RecipientStatus.FAILED) == 50
    assert states.count(RecipientStatus.FAILED) >= 40


def test_answers_after_the_stop_change_nothing() -> None:
    world = World()
    world.resolve_s = 1.0
    world.problems[HOP] = NO_DOMAIN
    message = world.send(b"a@x.example")
    rested: list[bool] = []
    world.scheduler.drain(lambda: rested.append(True))
    world.run(10)
    assert rested == [True]
    assert world.spool.records == 0
    assert world.state(message) is RecipientStatus.QUEUED


def test_a_domain_that_comes_back_during_a_read_is_read_once_at_a_time() -> None:
    world = World()
    world.problems[HOP] = NO_DOMAIN
    for _ in range(700):
        world.store(b"a@x.example")
    world.restart()
    world.run(0.001)
    world.problems.clear()
    world.run(30)
    assert world.spool.rows == {}
    assert len(world.spool.final) == len(world.accepted)
