"""Small scenarios by chance: nobody starves, sums add up, and no limit is ever exceeded.

Receivers of every kind, tenants of every priority, shapes on any pair of selectors that an operator
sets and takes back, kills. At the end all receivers are kind for long enough.
"""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fastmta.budget.rate import Rate
from fastmta.lab.simulate import World, build_report
from fastmta.lab.simulate.scenario import (
    Backlog,
    Receiver,
    Scenario,
    Scheduling,
    Sender,
    Shaping,
    Traffic,
)
from tests.support.long import LongRun

NAMES = ("a", "b", "c")
TENANTS = ("x", "y", "z")
END_S = 100.0  # of all trouble and of all traffic
DRAIN_S = 20_000.0

receivers = st.builds(
    Receiver,
    sites=st.integers(1, 3),
    domains=st.integers(1, 3),
    connect_s=st.sampled_from((0.0, 0.05, 1.0)),
    reply_s=st.sampled_from((0.0, 0.1, 2.0)),
    tarpit_s=st.sampled_from((0.0, 0.5)),
    connections=st.sampled_from((0, 0, 1, 4)),
    messages_per_connection=st.sampled_from((0, 1, 5)),
    rate_per_s=st.sampled_from((0.0, 0.0, 5.0)),
    over_rate=st.sampled_from(("421", "450")),
    greylist_s=st.sampled_from((0.0, 0.0, 60.0)),
    deferred=st.sampled_from((0.0, 0.2)),
    failed=st.sampled_from((0.0, 0.1)),
    lost=st.sampled_from((0.0, 0.05)),
    dead=st.sampled_from(("no", "refused", "timeout")),
    outages=st.sampled_from((((1.0, 50.0),), ((20.0, 30.0), (40.0, END_S)))),
    provider=st.sampled_from(("", "big")),
    dns_s=st.sampled_from((0.0, 0.01, 5.0)),
    dns_failures=st.sampled_from((0.0, 0.0, 0.2)),
)
places = st.lists(st.sampled_from(NAMES), min_size=1, max_size=3, unique=True).map(tuple)
traffic = st.builds(
    Traffic,
    to=places,
    spread=st.sampled_from(("even", "zipf")),
    rate_per_s=st.sampled_from((0.3, 3.0)),
    burst=st.sampled_from((1, 1, 20)),
    recipients=st.sampled_from((1, 1, 3)),
)
backlogs = st.builds(
    Backlog,
    to=places,
    tenant=st.sampled_from(TENANTS),
    count=st.integers(1, 60),
    attempts=st.integers(0, 2),
    due=st.sampled_from(("overdue", "soon")),
    recipients=st.sampled_from((1, 2)),
)
patterns = st.sampled_from(((), (), ("*",)))
shapes = st.builds(
    Shaping,
    site=patterns,
    domain=patterns,
    provider=st.sampled_from(((), ("*",), ("big",))),
    tenant=st.sampled_from(((), ("*",), ("x",))),
    source=st.just(("*",)),
    rate=st.sampled_from((None, Rate(1, 1.0, 1), Rate(60, 60.0, 5), Rate(20, 1.0, 2))),
    connections=st.sampled_from((0, 1, 3)),
    paused=st.sampled_from((False, False, False, True)),
    from_s=st.sampled_from((0.0, 10.0)),
    until_s=st.sampled_from((25.0, END_S)),
)
scenarios = st.builds(
    Scenario,
    seed=st.integers(0, 1_000),
    duration_s=st.just(END_S),
    drain_s=st.just(DRAIN_S),
    restarts=st.sampled_from(((), (), (15.0, 60.0))),
    dns_ttl_s=st.sampled_from((0.0, 30.0)),
    scheduler=st.builds(
        Scheduling,
        connections=st.sampled_from((2, 10, 500)),
        site_connections=st.sampled_from((1, 5)),
        window_start=st.sampled_from((1, 5)),
        site_rate_per_s=st.sampled_from((0.0, 0.0, 4.0)),
        ram_messages=st.sampled_from((10, 50, 4_000)),
        recipients=st.sampled_from((1, 50)),
        max_s=st.just(600.0),  # else bad luck eight times in a row lasts longer than the test
    ),
    receiver=st.fixed_dictionaries(dict.fromkeys(NAMES, receivers)),
    traffic=st.dictionaries(st.sampled_from(TENANTS), traffic, min_size=1),
    backlog=st.dictionaries(st.just("old"), backlogs),
    tenant=st.just(dict.fromkeys(TENANTS, Sender())).flatmap(
        lambda each: st.fixed_dictionaries(
            {
                name: st.builds(
                    Sender,
                    weight=st.sampled_from((1, 5)),
                    priority=st.sampled_from(("high", "normal", "bulk")),
                )
                for name in each
            }
        )
    ),
    shape=st.dictionaries(st.sampled_from(("s", "t")), shapes),
)


def check(scenario: Scenario) -> int:
    world = World(scenario)
    world.run()
    report = build_report(world)
    assert report["limits_exceeded"] == {}
    for one in (report, *report["receivers"].values(), *report["tenants"].values()):
        ends = one["delivered"] + one["failed"] + one["expired"] + one["queued"]
        assert one["accepted"] == ends
    assert report["queued"] == 0, "somebody starves"
    assert report["expired"] == 0
    assert world.network.in_flight == 0
    assert world.scheduler.counts.in_flight == world.scheduler.counts.ram_jobs == 0
    return int(report["attempts"])


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(scenarios)
def test_nobody_starves_and_no_limit_is_exceeded(scenario: Scenario) -> None:
    check(scenario)


@pytest.mark.long
def test_many_scenarios(long_run: LongRun) -> None:
    for seed in long_run.seeds():
        attempts = 0

        @settings(
            max_examples=100,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow],
            database=None,
        )
        @given(scenarios)
        def run(scenario: Scenario) -> None:
            nonlocal attempts
            attempts += check(scenario)

        run()
        long_run.record(seed, attempts=attempts)
