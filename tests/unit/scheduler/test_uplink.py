"""Nothing is given up because we ourselves are cut off, and nothing is kept for ever for that."""

import pytest

from fastmta.event import MessageExpired, Notice
from fastmta.message import Outcome, OutcomeKind, RecipientStatus, Scope
from fastmta.route import RouteProblem, Site, Target
from fastmta.route.way import Way
from fastmta.scheduler import Options, SiteOptions
from tests.support.scheduler_world import DEFERRED, LOST, REFUSED, World, answer, fail_site

DAY_S = 86_400.0
NO_ANSWER = RouteProblem(OutcomeKind.DEFERRED, "4.4.3", "Host not found, try again")
NO_ROUTE = Outcome(OutcomeKind.DEFERRED, "4.4.1", "Network is unreachable", Scope.HOST)
DOMAINS = (b"a", b"b", b"c", b"d")
EXPIRED, DELIVERED = RecipientStatus.EXPIRED, RecipientStatus.DELIVERED
QUIET = Options(sweep_interval_s=300.0, site=SiteOptions(backoff_max_s=3_600.0))


def cut(world: World, is_dns_down: bool, outcome: Outcome = NO_ROUTE) -> None:
    """Nobody can be reached any more."""
    for domain in DOMAINS:
        if is_dns_down:
            world.problems[b"smtp:%b.example" % domain] = NO_ANSWER
        else:
            world.receivers.behaviours[f"{domain.decode()}.example"] = fail_site(outcome)


def mend(world: World) -> None:
    world.problems.clear()
    world.receivers.behaviours.clear()


def warnings(world: World) -> list[str]:
    return [one.text for one in world.seen(Notice) if "expire" in one.text or "expiry" in one.text]


@pytest.mark.parametrize("is_dns_down", [False, True])
def test_a_cut_uplink_bounces_nothing(is_dns_down: bool) -> None:
    world = World(QUIET)
    cut(world, is_dns_down)
    messages = [world.send(b"r@%b.example" % domain) for domain in DOMAINS for _ in range(30)]
    world.run(6.5 * DAY_S)
    assert world.seen(MessageExpired) == []
    assert warnings(world) == [
        "4 destinations were tried in vain, and none was reached: "
        "expiry is put off, for 2 days at most"
    ]
    mend(world)
    world.run(2 * 3_600)
    assert {world.state(message) for message in messages} == {DELIVERED}
    assert world.reported == []
    assert len(warnings(world)) == 2


@pytest.mark.parametrize("is_dns_down", [False, True])
def test_explanations_say_so(is_dns_down: bool) -> None:
    world = World(QUIET)
    cut(world, is_dns_down)
    for domain in DOMAINS:
        world.send(b"r@%b.example" % domain)
    world.run(3 * 3_600)
    said = [one.detail for one in world.scheduler.explain.next_hop(b"smtp:a.example")]
    assert any("expiry is put off" in detail for detail in said), said
    mend(world)
    world.run(3 * 3_600)
    world.receivers.behaviours["a.example"] = fail_site(NO_ROUTE)
    world.send(b"r@a.example")
    world.run(10)
    said = [one.detail for one in world.scheduler.explain.next_hop(b"smtp:a.example")]
    assert not any("expiry is put off" in detail for detail in said), said


@pytest.mark.parametrize("is_dns_down", [False, True])
def test_nothing_is_kept_for_ever(is_dns_down: bool) -> None:
    world = World(QUIET)
    cut(world, is_dns_down)
    messages = [world.send(b"r@%b.example" % domain) for domain in DOMAINS for _ in range(30)]
    world.run(7 * DAY_S + 2 * 300)
    assert {world.state(message) for message in messages} == {EXPIRED}


def test_a_restart_within_a_cut_bounces_nothing() -> None:
    world = World(QUIET)
    messages = [world.store(b"r@%b.example" % domain, age_s=6 * DAY_S) for domain in DOMAINS]
    cut(world, is_dns_down=False)
    world.restart()
    world.run(DAY_S / 2)
    assert world.seen(MessageExpired) == []
    mend(world)
    world.run(2 * 3_600)
    assert {world.state(message) for message in messages} == {DELIVERED}


def test_what_became_overdue_in_a_cut_gets_an_attempt_first_though_it_is_not_due() -> None:
    world = World(QUIET)
    cut(world, is_dns_down=False)
    for domain in DOMAINS:
        world.send(b"r@%b.example" % domain)
    good = world.store(b"s@e.example", age_s=5 * DAY_S - 3_600, due_in_s=20 * DAY_S)
    bad = world.store(b"s@f.example", age_s=5 * DAY_S - 3_600, due_in_s=20 * DAY_S)
    world.receivers.behaviours["f.example"] = answer(DEFERRED)
    world.run(DAY_S)
    assert world.receivers.attempts["e.example"] == 0
    world.receivers.behaviours = {"f.example": answer(DEFERRED)}
    world.run(2 * 3_600)
    assert (world.state(good), world.state(bad)) == (DELIVERED, EXPIRED)
    assert world.receivers.attempts["f.example"] == 1


def test_who_stays_dead_expires_when_others_are_reached_again() -> None:
    world = World(QUIET)
    cut(world, is_dns_down=False)
    dead, good = (world.send(b"r@%b.example" % domain) for domain in (b"a", b"b"))
    world.send(b"r@c.example")
    world.run(6 * DAY_S)
    del world.receivers.behaviours["b.example"]
    world.run(2 * 3_600 + world.options.overdue_grace_s)
    assert (world.state(good), world.state(dead)) == (DELIVERED, EXPIRED)


@pytest.mark.parametrize("outcome", [LOST, DEFERRED])
def test_one_destination_that_answers_is_enough_for_lifetimes_to_count(outcome: Outcome) -> None:
    world = World(QUIET)
    cut(world, is_dns_down=False)
    behaviour = answer(outcome) if outcome is DEFERRED else fail_site(outcome)
    world.receivers.behaviours["up.example"] = behaviour
    messages = [world.send(b"r@%b.example" % domain) for domain in DOMAINS]
    for hour in range(5 * 24):
        if hour < 4 or outcome is LOST:
            world.send(b"r@up.example")
        world.run(3_600)
    world.run(900)
    assert {world.state(message) for message in messages} == {EXPIRED}
    assert warnings(world) == []


def test_two_dead_destinations_are_dead_and_no_cut() -> None:
    world = World(QUIET)
    cut(world, is_dns_down=False)
    messages = [world.send(b"r@%b.example" % domain) for domain in DOMAINS[:2]]
    world.run(5 * DAY_S + 900)
    assert {world.state(message) for message in messages} == {EXPIRED}


def local_site(world: World, *labels: str) -> None:
    """Those are servers of this host."""
    site = world.site
    way = Way(transport="lmtp")

    def changed(next_hop: bytes) -> Site:
        found = site(next_hop)
        if found.label not in labels:
            return found
        target = Target(found.label, "/run/lmtp", 0)
        return Site(found.key, found.label, (target,), None, way)

    world.site = changed  # type: ignore[method-assign]  # of this world alone


def test_a_local_server_that_takes_mail_says_nothing_about_the_network() -> None:
    world = World(QUIET)
    local_site(world, "lmtp:up.example")
    world.site_of[b"smtp:up.example"] = "lmtp:up.example"
    cut(world, is_dns_down=False)
    for domain in DOMAINS:
        world.send(b"r@%b.example" % domain)
    for _ in range(5 * 24 + 12):
        world.send(b"r@up.example")
        world.run(3_600)
    assert world.receivers.attempts["lmtp:up.example"] > 100
    assert world.seen(MessageExpired) == []


def test_local_servers_that_are_down_are_no_cut() -> None:
    world = World(QUIET)
    local_site(world, *(f"{domain.decode()}.example" for domain in DOMAINS))
    cut(world, is_dns_down=False, outcome=REFUSED)
    messages = [world.send(b"r@%b.example" % domain) for domain in DOMAINS]
    world.run(5 * DAY_S + 900)
    assert {world.state(message) for message in messages} == {EXPIRED}


def test_nothing_is_said_while_nothing_would_expire() -> None:
    world = World(QUIET)
    cut(world, is_dns_down=False)
    for domain in DOMAINS:
        world.send(b"r@%b.example" % domain)
    world.run(4 * DAY_S)
    assert warnings(world) == []
