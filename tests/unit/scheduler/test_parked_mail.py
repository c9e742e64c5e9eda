"""Mail that may not start for reasons of its own: it takes no RAM and no turn from others."""

from __future__ import annotations

from collections import Counter
from ipaddress import ip_network

import pytest

from fastmta.budget.rate import Rate
from fastmta.budget.shape import Shape
from fastmta.scheduler import Options
from fastmta.scheduler.tenant import Tenant, TenantRule, Tenants
from tests.support.scheduler_world import World

SLOW = Rate(1, 60.0)


def named(*names: str) -> Tenants:
    """The first one sends from 10.0.0.1, and so on."""
    rules = [
        TenantRule(Tenant(name), clients=(ip_network(f"10.0.0.{number}"),))
        for number, name in enumerate(names, 1)
    ]
    return Tenants(*rules)


@pytest.mark.parametrize("domain", [(), ("a.example",)])
def test_a_backlog_that_cannot_be_told_apart_stays_on_the_disk(domain: tuple[str, ...]) -> None:
    shape = Shape(name="slow", tenant=("*",), domain=domain, rate=SLOW)
    world = World(Options(ram_messages=100, shapes=(shape,)))
    for number in range(3000):
        world.store(b"u%d@a.example" % number, client="10.0.0.1")
    world.scheduler.take_up()
    world.run(30.0)
    assert world.scheduler.counts.ram_jobs <= 150
    world.run(600.0)
    assert len(world.receivers.log) == 11


def test_fresh_mail_of_a_paused_domain_leaves_the_guarantees_of_others() -> None:
    pause = Shape(name="pause", domain=("a.example",), is_paused=True)
    world = World(Options(ram_messages=100, shapes=(pause,)))
    for number in range(1000):
        world.send(b"u%d@a.example" % number)
    world.run(10.0)
    assert world.scheduler.counts.ram_jobs <= 110


def test_mail_behind_that_of_many_paused_tenants_is_read() -> None:
    names = [f"t{number}" for number in range(20)]
    shapes = tuple(Shape(name=name, tenant=(name,), is_paused=True) for name in names)
    world = World(Options(shapes=shapes), named(*names, "last"))
    for number in range(20 * 100):
        world.store(b"u%d@a.example" % number, client=f"10.0.0.{number % 20 + 1}")
    world.scheduler.take_up()
    world.run(20.0)
    for number in range(30):
        world.store(b"u%d@a.example" % number, client="10.0.0.21")
    world.scheduler.take_up()
    world.run(50.0)
    assert len(world.receivers.log) == 30


@pytest.mark.parametrize("ram", [1000, 100])
def test_a_backlog_gets_its_share_beside_a_flood_and_parked_mail(ram: int) -> None:
    pause = Shape(name="pause", tenant=("slow",), is_paused=True)
    world = World(Options(ram_messages=ram, shapes=(pause,)), named("slow", "busy", "third"))
    world.receivers.latency_s["a.example"] = 0.5
    for number in range(300):
        world.send(b"u%d@a.example" % number, client="10.0.0.1")
    world.run(1.0)
    for number in range(60):
        world.store(b"u%d@a.example" % number, client="10.0.0.3")
    world.scheduler.take_up()
    for _ in range(100):
        for number in range(20):
            world.send(b"u%d@a.example" % number, client="10.0.0.2")
        world.run(0.2)
    by_client = Counter(world.client_of(id) for _, id, _ in world.receivers.log)
    assert by_client["10.0.0.3"] == 60
    assert by_client["10.0.0.2"] > 300
