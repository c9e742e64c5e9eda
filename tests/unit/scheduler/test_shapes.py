"""Shapes of an operator: nothing exceeds them, nothing starves, and they change while all runs."""

from __future__ import annotations

from collections import Counter
from ipaddress import ip_network
from itertools import groupby, pairwise

import pytest

from fastmta.budget.rate import Rate
from fastmta.budget.shape import Shape
from fastmta.message import AttemptResult, Job
from fastmta.route import Site
from fastmta.scheduler import Options, Waiting
from fastmta.scheduler.tenant import Tenant, TenantRule, Tenants
from tests.support.scheduler_world import DELIVERED, World


def starts(world: World, *sites: str) -> list[float]:
    return [at_s for at_s, _, label in world.receivers.log if label in sites]


def send(world: World, domain: str, count: int, client: str = "10.0.0.1") -> None:
    for number in range(count):
        world.send(b"u%d@%s" % (number, domain.encode()), client=client)


def test_a_rate_of_a_site_is_exact_while_others_run_free() -> None:
    shape = Shape(name="slow", site=("a.example",), rate=Rate(10, 1.0, 3))
    world = World(Options(shapes=(shape,)))
    send(world, "a.example", 900)
    send(world, "b.example", 900)
    world.run(60.0)
    times = starts(world, "a.example")
    assert len(times) == pytest.approx(600 + 3, rel=0.01)
    for first, last in ((0, 3), (10, 14), (100, 500)):
        assert last - first <= 3 + (times[last] - times[first]) * 10 + 1e-6
    assert len(starts(world, "b.example")) == 900


def test_waiting_for_a_rate_costs_no_look_per_message() -> None:
    shape = Shape(name="slow", site=("a.example",), rate=Rate(1, 60.0))
    world = World(Options(shapes=(shape,), ram_messages=100))
    send(world, "a.example", 10_000)
    world.run(1.0)
    fetches = world.spool.fetches.total()
    steps = world.run(600.0)
    assert len(starts(world, "a.example")) == 11
    assert world.spool.fetches.total() - fetches <= 2 * 11
    assert steps < 400  # sweeps and marks with them


def test_a_cap_of_a_provider_holds_over_its_sites_and_starves_none() -> None:
    shape = Shape(name="cap", provider=("big",), connections=3)
    world = World(Options(shapes=(shape,)))
    sites = ["a.example", "b.example", "c.example"]
    world.provider_of.update(dict.fromkeys(sites, "big"))
    for site in sites:
        world.receivers.latency_s[site] = 0.2
    send(world, "a.example", 300)
    send(world, "b.example", 300)
    world.run(5.0)
    send(world, "c.example", 5)
    world.run(20.0)
    assert world.receivers.open_most(sites) == 3
    assert len(starts(world, "c.example")) == 5
    counts = Counter({site: len(starts(world, site)) for site in sites})
    assert min(counts["a.example"], counts["b.example"]) > 100


def test_a_tenant_that_must_wait_does_not_stand_in_the_way() -> None:
    shape = Shape(name="t", tenant=("10.0.0.1",), rate=Rate(1, 10.0))
    world = World(Options(shapes=(shape,)))
    send(world, "a.example", 50)
    send(world, "a.example", 50, client="10.0.0.2")
    world.run(5.0)
    by_client = Counter(world.client_of(id) for _, id, _ in world.receivers.log)
    assert by_client == {"10.0.0.1": 1, "10.0.0.2": 50}
    world.run(100.0)
    by_client = Counter(world.client_of(id) for _, id, _ in world.receivers.log)
    assert by_client["10.0.0.1"] == 11


def test_a_pair_has_a_counter_for_each_combination() -> None:
    shape = Shape(name="pair", tenant=("*",), site=("*",), connections=2)
    world = World(Options(shapes=(shape,)))
    for site in ("a.example", "b.example"):
        world.receivers.latency_s[site] = 1.0
        for client in ("10.0.0.1", "10.0.0.2"):
            send(world, site, 10, client=client)
    world.run(0.5)
    found = Counter((label, world.client_of(id)) for _, id, label in world.receivers.log)
    assert set(found.values()) == {2}
    assert len(found) == 4
    world.run(20.0)
    assert len(world.spool.final) == 40


def test_a_limit_of_a_site_takes_the_place_of_the_default() -> None:
    wide = Shape(name="wide", site=("a.example",), connections=40)
    narrow = Shape(name="narrow", site=("b.example",), connections=1)
    world = World(Options(shapes=(wide, narrow)))
    for site in ("a.example", "b.example", "c.example"):
        world.receivers.latency_s[site] = 0.5
        send(world, site, 1200)
    world.run(600.0)
    assert (world.receivers.most["a.example"], world.receivers.most["b.example"]) == (40, 1)
    assert world.receivers.most["c.example"] == 20


def test_a_pause_holds_until_it_is_taken_away_and_explains_itself() -> None:
    world = World()
    world.receivers.latency_s["a.example"] = 1.0
    send(world, "a.example", 20)
    world.run(0.5)
    pause = Shape(name="pause", site=("a.example",), is_paused=True, note="by ann")
    world.scheduler.shape([pause])
    world.run(10.0)
    started = len(starts(world, "a.example"))
    assert started <= 6
    send(world, "b.example", 1)
    world.run(1.0)
    assert starts(world, "b.example")
    (found,) = world.scheduler.explain.next_hop(b"smtp:a.example")
    assert found.waiting is Waiting.PAUSED
    assert "pause" in found.detail
    world.run(3600.0)
    assert len(starts(world, "a.example")) == started
    world.scheduler.shape([])
    world.run(60.0)
    assert len(world.spool.final) == 21


def test_a_pause_of_a_domain_leaves_the_others_of_its_site_alone() -> None:
    world = World()
    world.site_of[b"smtp:x.example"] = world.site_of[b"smtp:y.example"] = "mx.example"
    world.scheduler.shape([Shape(name="pause", domain=("x.example",), is_paused=True)])
    send(world, "x.example", 30)
    send(world, "y.example", 30)
    world.run(10.0)
    assert len(world.spool.final) == 30
    world.scheduler.shape([])
    world.run(60.0)
    assert len(world.spool.final) == 60


@pytest.mark.parametrize("ram", [4000, 40])
def test_a_changed_rate_takes_effect_at_once(ram: int) -> None:
    world = World(Options(ram_messages=ram))
    slow = Shape(name="limit", site=("a.example",), rate=Rate(1, 3600.0))
    world.scheduler.shape([slow])
    send(world, "a.example", 200)
    world.run(100.0)
    assert len(starts(world, "a.example")) == 1
    world.scheduler.shape([Shape(name="limit", site=("a.example",), rate=Rate(20, 1.0, 2))])
    world.run(30.0)
    assert len(world.spool.final) == 200
    gaps = [after - before for before, after in pairwise(starts(world, "a.example")[1:])]
    assert sum(gap < 0.049 for gap in gaps) <= 2


def test_one_tenant_floods_and_another_hardly_waits() -> None:
    world = World(Options(ram_messages=200))
    world.receivers.latency_s["a.example"] = 0.1
    waited: list[float] = []

    def take(job: Job, site: Site) -> AttemptResult:
        if world.client_of(job.message.id) == "10.0.0.2":
            waited.append(job.started_at_s - job.entered_at_s)
        return AttemptResult([DELIVERED] * len(job.indices))

    world.receivers.behaviours["a.example"] = take
    send(world, "a.example", 5_000)
    for _ in range(20):
        world.run(0.5)
        send(world, "a.example", 1, client="10.0.0.2")
    world.run(2.0)
    assert len(waited) == 20
    assert max(waited) < 0.2


def test_the_backlog_of_a_tenant_that_waits_does_not_stand_in_the_way() -> None:
    shape = Shape(name="t", tenant=("slow",), rate=Rate(1, 60.0))
    rules = [
        TenantRule(Tenant(name), clients=(ip_network(address),))
        for name, address in (("slow", "10.0.0.1"), ("other", "10.0.0.2"))
    ]
    world = World(Options(shapes=(shape,), ram_messages=100), Tenants(*rules))
    for number in range(3000):
        world.store(b"u%d@a.example" % number, client="10.0.0.1")
    for number in range(500):
        world.store(b"v%d@a.example" % number, client="10.0.0.2")
    world.scheduler.take_up()
    world.run(61.0)
    by_client = Counter(world.client_of(id) for _, id, _ in world.receivers.log)
    assert by_client == {"10.0.0.1": 2, "10.0.0.2": 500}
    reads = world.spool.fetches[b"smtp:a.example for slow"]
    world.run(600.0)
    assert world.spool.fetches[b"smtp:a.example for slow"] - reads <= 2


def test_tenants_take_turns_in_the_backlog() -> None:
    rules = [
        TenantRule(Tenant(name), clients=(ip_network(address),))
        for name, address in (("one", "10.0.0.1"), ("two", "10.0.0.2"))
    ]
    world = World(Options(ram_messages=400), Tenants(*rules))
    world.receivers.latency_s["a.example"] = 0.1
    for number in range(5000):
        world.store(b"u%d@a.example" % number, client="10.0.0.1")
    for number in range(500):
        world.store(b"v%d@a.example" % number, client="10.0.0.2")
    world.scheduler.take_up()
    world.run(12.0)
    by_client = Counter(world.client_of(id) for _, id, _ in world.receivers.log)
    assert by_client["10.0.0.2"] == 500


def test_who_always_has_work_gives_its_place_at_the_end_of_its_turn() -> None:
    shape = Shape(name="cap", provider=("big",), connections=1)
    world = World(Options(shapes=(shape,)))
    world.provider_of.update({"a.example": "big", "b.example": "big"})
    send(world, "a.example", 300)
    send(world, "b.example", 300)
    world.run(5.0)
    order = [label for _, _, label in world.receivers.log]
    runs = [len(list(run)) for _, run in groupby(order)]
    assert max(runs[:-1]) <= 12
    assert len(runs) > 20


def test_a_lane_that_may_not_start_keeps_no_part_of_what_it_needs() -> None:
    shapes = (
        Shape(name="all", tenant=("*",), connections=2),
        Shape(name="each", tenant=("*",), domain=("*",), connections=1),
    )
    world = World(Options(shapes=shapes))
    for site in ("a.example", "b.example"):
        send(world, site, 50)
    world.run(30.0)
    assert len(world.spool.final) == 100
    assert (world.receivers.most["a.example"], world.receivers.most["b.example"]) == (1, 1)
    assert world.receivers.most_together == 2


def test_a_cap_that_goes_and_comes_back_while_connections_are_closed() -> None:
    cap = Shape(name="cap", provider=("big",), connections=1)
    world = World(Options(shapes=(cap,)))
    world.provider_of.update({"a.example": "big", "b.example": "big"})
    world.send(b"u@a.example")
    world.run(1.0)
    world.send(b"u@b.example")  # a's connection, which idles, is being closed
    world.scheduler.shape([Shape(name="cap", provider=("none",), connections=1)])
    world.scheduler.shape([])
    for number in range(5):
        world.send(b"v%d@a.example" % number)
        world.send(b"v%d@b.example" % number)
    world.run(30.0)
    assert len(world.spool.final) == 12


def test_who_is_alone_at_its_cap_keeps_its_connections() -> None:
    cap = Shape(name="cap", provider=("big",), connections=2)
    world = World(Options(shapes=(cap,)))
    world.provider_of["a.example"] = "big"
    send(world, "a.example", 500)
    world.run(30.0)
    assert len(world.spool.final) == 500
    assert world.receivers.closings <= 2, "when there is nothing left to start"


def test_idle_connections_from_before_a_cap_are_closed() -> None:
    world = World()
    world.provider_of.update({"a.example": "big", "b.example": "big"})
    send(world, "a.example", 30)
    world.run(5.0)
    assert world.receivers.open["a.example"] > 3
    world.scheduler.shape([Shape(name="cap", provider=("big",), connections=3)])
    world.run(1.0)
    world.receivers.latency_s["b.example"] = 1.0
    send(world, "b.example", 30)
    world.run(0.5)
    assert world.receivers.open.total() == 3


def test_what_is_under_way_counts_for_a_cap_that_is_new() -> None:
    world = World()
    world.provider_of.update({"a.example": "big", "b.example": "big"})
    for site in ("a.example", "b.example"):
        world.receivers.latency_s[site] = 2.0
        send(world, site, 40)
    world.run(1.0)
    assert world.receivers.in_flight.total() == 10
    world.scheduler.shape([Shape(name="cap", provider=("big",), connections=3)])
    log = world.receivers.log
    world.run(0.9)
    assert len(log) == 10, "nothing starts while there are more than three"
    since_s = world.agenda.now_s + 0.2
    for _ in range(600):
        world.run(0.1)
        assert world.agenda.now_s < since_s or world.receivers.in_flight.total() <= 3
    assert world.receivers.closings < 60
    labels = Counter(label for at_s, _, label in log if at_s > since_s)
    assert min(labels.values()) > 20, "both have their turns"
    assert len(log) > 80 * 0.9
    world.run(20.0)
    assert len(world.spool.final) == 80


def test_mail_of_a_domain_that_several_tenants_wait_for_fills_no_ram_and_says_why() -> None:
    shapes = (
        Shape(name="slow", domain=("a.example",), rate=Rate(20, 60.0, 2)),
        Shape(name="other", tenant=("10.9.9.9",), rate=Rate(60, 60.0)),
    )
    world = World(Options(shapes=shapes, ram_messages=500))
    for client in ("10.0.0.1", "10.0.0.2"):
        send(world, "a.example", 4_000, client)
    world.run(30.0)
    assert world.scheduler.counts.ram_jobs <= 2 * 500 + 100
    (why,) = world.scheduler.explain.message(next(iter(world.spool.held)))
    assert why.waiting is Waiting.RATE
    for answer in world.scheduler.explain.domain("a.example"):
        assert answer.waiting is Waiting.RATE
    assert all("\0" not in child.name for one in world.scheduler.explain.sites()
               for child in one.children)  # fmt: skip
