"""Who stands in two lines gets through both in the end."""

from __future__ import annotations

from collections import Counter

import pytest

from fastmta.budget.rate import Rate
from fastmta.budget.shape import Shape
from fastmta.scheduler import Options, SiteOptions
from tests.support.scheduler_world import World

TENANT = Shape(name="t", tenant=("10.0.0.1",), rate=Rate(5, 1.0))
SITE = Shape(name="s", site=("a.example",), rate=Rate(5, 1.0))


@pytest.mark.parametrize(
    ("shapes", "site"),
    [((TENANT, SITE), SiteOptions()), ((TENANT,), SiteOptions(connections=1, window_start=1))],
    ids=["a rate of the site", "a full window"],
)
def test_a_tenant_starves_nowhere(shapes: tuple[Shape, ...], site: SiteOptions) -> None:
    world = World(Options(shapes=shapes, site=site))
    world.receivers.latency_s["a.example"] = 0.15
    for number in range(500):
        for client, domain in (("10.0.0.1", b"a"), ("10.0.0.2", b"a"), ("10.0.0.1", b"b")):
            world.send(b"u%d@%b.example" % (number, domain), client=client)
    world.run(60.0)
    found = Counter((world.client_of(id), label) for _, id, label in world.receivers.log)
    assert found["10.0.0.1", "a.example"] > 40
    assert found["10.0.0.2", "a.example"] > 60
    assert found["10.0.0.1", "b.example"] > 60
    of_tenant = found["10.0.0.1", "a.example"] + found["10.0.0.1", "b.example"]
    # With a burst of 1 the room of a unit that cannot be used at once runs over.
    assert 0.65 * 5 * 60 < of_tenant <= 5 * 60 + 1


LABELS = ("a.example", "b.example", "c.example", "d.example")


def two_rates(big: Rate, all_: Rate) -> Counter[str]:
    """Starts in five minutes; a and b are under two rates, one of which others use up as well."""
    shapes = (
        Shape(name="big", provider=("big",), rate=big),
        Shape(name="all", source=("default",), rate=all_),
    )
    world = World(Options(shapes=shapes))
    world.provider_of.update({"a.example": "big", "b.example": "big"})
    for number in range(1_500):
        for label in LABELS:
            world.send(b"u%d@%b" % (number, label.encode()))
    world.run(300.0)
    return Counter(label for _, _, label in world.receivers.log)


@pytest.mark.parametrize(
    ("big", "all_"),
    [
        (Rate(1, 1.0), Rate(1, 1.0)),
        (Rate(1, 2.0), Rate(3, 2.0)),
        (Rate(1, 10.0), Rate(2, 1.0)),
        (Rate(3, 1.0), Rate(1, 1.0)),
        (Rate(1, 1.0, 5), Rate(2, 1.0, 3)),
    ],
)
def test_who_needs_two_rates_gets_both_or_none(big: Rate, all_: Rate) -> None:
    found = two_rates(big, all_)
    capacity_of_big, capacity = (300 * one.count / one.period_s for one in (big, all_))
    of_big = found["a.example"] + found["b.example"]
    assert found.total() == pytest.approx(capacity + all_.burst, rel=0.02)
    assert of_big <= capacity_of_big + big.burst
    assert of_big >= 0.8 * min(capacity_of_big, capacity / 2), "and neither rate lies idle"
    assert min(found.values()) > 0
    assert abs(found["a.example"] - found["b.example"]) <= 3, "who came second has the same turns"
