"""How many jobs at once, over which path, and what a bad site does to others."""

import msgspec
import pytest

from fastmta.event import Notice
from fastmta.message import Outcome, OutcomeKind, RecipientStatus, Scope
from fastmta.message.attempt import AttemptResult, Job
from fastmta.message.category import Category
from fastmta.route import Site
from fastmta.scheduler import Options, SiteOptions
from tests.support.scheduler_world import DELIVERED, LOST, REFUSED, World, fail_site


def test_the_window_starts_at_five_and_grows_to_the_limit() -> None:
    world = World()
    for _ in range(20):
        world.send(b"a@x.example")
    assert world.scheduler.counts.in_flight == 5
    for _ in range(1_000):
        world.send(b"a@x.example")
    world.run(60)
    assert world.receivers.most["x.example"] == 20
    assert len(world.spool.final) == 1_020


def test_domains_of_one_site_share_its_window() -> None:
    world = World(Options(site=SiteOptions(connections=6)))
    for name in (b"a", b"b", b"c"):
        world.site_of[b"smtp:%b.example" % name] = "mx.provider.example"
    for number in range(300):
        world.send(b"r@%b.example" % (b"a", b"b", b"c")[number % 3])
    world.run(10)
    assert world.receivers.most == {"mx.provider.example": 6}
    assert len(world.spool.final) == 300


def test_all_sites_together_never_have_more_than_the_worker_may() -> None:
    world = World(Options(connections=12))
    for number in range(400):
        world.send(b"r@s%d.example" % (number % 20))
    world.run(20)
    assert world.receivers.most_together == 12
    assert len(world.spool.final) == 400


def test_sites_that_wait_for_a_connection_take_turns() -> None:
    world = World(Options(connections=2))
    for site in (b"a", b"b", b"c", b"d"):
        for _ in range(20):
            world.send(b"r@%b.example" % site)
    world.run(0.2)
    counts = [world.receivers.attempts[f"{site}.example"] for site in "abcd"]
    assert sum(counts) >= 40
    assert min(counts) >= 8


def test_a_dead_site_does_not_delay_another() -> None:
    world = World()
    world.receivers.behaviours["dead.example"] = fail_site(REFUSED)
    world.receivers.latency_s["dead.example"] = 30.0
    for _ in range(500):
        world.send(b"a@dead.example")
    message = world.send(b"b@good.example")
    world.run(0.1)
    assert world.state(message) is RecipientStatus.DELIVERED


def test_a_dead_site_costs_an_attempt_per_pause_not_per_message() -> None:
    world = World()
    world.receivers.behaviours["x.example"] = fail_site(REFUSED)
    for _ in range(1_000):
        world.send(b"a@x.example")
    world.run(10_000)
    probes = 6 + 10_000 / 300
    assert world.receivers.attempts["x.example"] < probes + 15
    assert world.spool.records == 0
    assert world.scheduler.counts.ram_jobs <= 20
    assert world.scheduler.counts.paths_closed == 1


def test_a_site_that_is_back_gets_one_then_two_then_four_at_once() -> None:
    world = World(Options(site=SiteOptions(window_start=8)))
    world.receivers.behaviours["x.example"] = fail_site(REFUSED)
    for _ in range(100):
        world.send(b"a@x.example")
    world.run(9)
    assert world.receivers.in_flight["x.example"] == 0
    world.receivers.behaviours.clear()
    world.receivers.latency_s["x.example"] = 1.0
    world.run(1.5)
    flights = []
    for _ in range(5):
        flights.append(world.receivers.in_flight["x.example"])
        world.run(1.0)
    assert flights == [1, 2, 4, 8, 9]


def test_ten_thousand_messages_for_a_dead_site_cost_its_probes() -> None:
    world = World()
    world.receivers.behaviours["x.example"] = fail_site(REFUSED)
    world.send(b"a@x.example")
    world.run(1)
    attempts = world.receivers.attempts["x.example"]
    for _ in range(10_000):
        world.send(b"a@x.example")
    assert world.receivers.attempts["x.example"] == attempts
    steps = world.run(3_000)
    probes = world.receivers.attempts["x.example"] - attempts
    assert 10 <= probes <= 17
    assert world.spool.fetches[b"smtp:x.example"] <= 2 * probes, "a window per pause at most"
    assert world.spool.records == 0
    assert world.lookups[b"smtp:x.example"] == 1
    assert steps < 20 * probes + 3_000 / world.options.sweep_interval_s * 3
    assert world.scheduler.counts.ram_jobs <= 20


def test_a_site_that_throttles_us_is_not_asked_by_every_connection_of_every_window() -> None:
    world = World(Options(site=SiteOptions(window_start=20)))
    text = "421 4.7.28 too much mail from your address"
    throttled = Outcome(OutcomeKind.DEFERRED, "4.7.28", text, Scope.SITE, "mx[192.0.2.1]:25", text)
    throttled = msgspec.structs.replace(throttled, category=Category.SOFT_RATE)
    world.receivers.latency_s["x.example"] = 0.2
    world.receivers.behaviours["x.example"] = fail_site(throttled)
    messages = [world.send(b"a@x.example") for _ in range(200)]
    world.run(9.0)
    assert world.receivers.attempts["x.example"] == 20, "those that were under way already"
    world.run(600.0)
    assert world.receivers.attempts["x.example"] <= 20 + 7, "a probe for each pause, which doubles"
    assert all(message.attempts_of(0) == 0 for message in messages)
    world.receivers.behaviours.clear()
    world.run(400.0)
    assert len(world.spool.final) == 200


def test_a_relay_that_restarts_holds_mail_for_seconds() -> None:
    world = World()
    world.send(b"a@relay.example")
    world.run(1)
    world.receivers.behaviours["relay.example"] = fail_site(REFUSED)
    for _ in range(50):
        world.send(b"a@relay.example")
    world.run(2)
    world.receivers.behaviours.clear()
    world.run(12)
    assert len(world.spool.final) == 51


def test_closing_and_reopening_are_told_once_each() -> None:
    world = World()
    world.receivers.behaviours["x.example"] = fail_site(REFUSED)
    world.send(b"a@x.example")
    world.run(100)
    world.receivers.behaviours.clear()
    world.run(300)
    texts = [notice.text for notice in world.seen(Notice)]
    assert texts == [
        "site x.example: no delivery for 10 s: Connection refused",
        "site x.example: delivery resumed",
    ]


def test_a_receiver_with_a_connection_cap_is_not_given_up() -> None:
    world = World()
    cap = 7

    def capped(job: Job, site: Site) -> AttemptResult:
        over = world.receivers.in_flight["x.example"] + 1 > cap
        return AttemptResult([LOST], LOST) if over else AttemptResult([DELIVERED])

    world.receivers.behaviours["x.example"] = capped
    for _ in range(2_000):
        world.send(b"a@x.example")
    world.run(60)
    assert len(world.spool.final) == 2_000
    assert world.scheduler.counts.paths_closed == 0


def test_fresh_mail_and_backlog_take_turns() -> None:
    world = World(Options(site=SiteOptions(connections=1)))
    old = {world.store(b"o@x.example").id for _ in range(40)}
    world.restart()
    world.run(0.05)
    for _ in range(40):
        world.send(b"f@x.example")
    world.run(0.4)
    kinds = [id in old for _, id, _ in world.receivers.log[5:35]]
    assert 12 <= sum(kinds) <= 18


def test_first_in_first_out_among_fresh_mail() -> None:
    world = World(Options(site=SiteOptions(connections=1)))
    sent = [world.send(b"a@x.example").id for _ in range(30)]
    world.run(5)
    assert [id for _, id, _ in world.receivers.log] == sent


def test_a_rate_spaces_the_jobs_of_a_site() -> None:
    world = World(Options(site=SiteOptions(rate_per_s=10, rate_burst=5)))
    for _ in range(100):
        world.send(b"a@x.example")
    world.run(5)
    assert world.receivers.attempts["x.example"] == pytest.approx(55, abs=1)
    world.run(10)
    assert len(world.spool.final) == 100


def test_an_expired_site_is_looked_up_again_while_mail_flows() -> None:
    world = World()
    world.ttl_s = 10.0
    world.resolve_s = 0.5
    for _ in range(100):
        world.send(b"a@x.example")
        world.run(1)
    assert world.lookups[b"smtp:x.example"] == pytest.approx(10, abs=1)
    assert len(world.spool.final) == 100
    gaps = [event.delays_s[1] for event in world.events if hasattr(event, "delays_s")]
    assert sum(gap > 0.01 for gap in gaps) == 1, "only the first waits for the look-up"


def test_mail_follows_its_domain_to_a_new_site() -> None:
    world = World(Options(site=SiteOptions(connections=2)))
    world.ttl_s = 1.0
    world.site_of[b"smtp:x.example"] = "old.example"
    for _ in range(400):
        world.send(b"a@x.example")
    world.run(0.5)
    world.site_of[b"smtp:x.example"] = "new.example"
    world.run(30)
    assert len(world.spool.final) == 400
    assert world.receivers.attempts["new.example"] > 150
    assert world.receivers.most["new.example"] == 2


def test_forgotten_when_idle() -> None:
    world = World()
    world.ttl_s = 20.0
    for number in range(50):
        world.send(b"a@s%d.example" % number)
    world.run(60)
    assert (world.scheduler.counts.next_hops, world.scheduler.counts.paths) == (0, 50)
    world.run(1_000)
    assert world.scheduler.counts.paths == 0
