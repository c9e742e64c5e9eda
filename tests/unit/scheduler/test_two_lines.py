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
    assert of_tenant == pytest.approx(5 * 60, rel=0.02)
