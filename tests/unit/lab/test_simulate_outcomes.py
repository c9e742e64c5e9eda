"""What the scheduler makes of scenarios: the promises of docs/scheduling.md, in simulated time."""

from __future__ import annotations

import pytest

from fastmta.lab.simulate import World, build_report, parse_scenario, scenario_text
from fastmta.lab.simulate.report import Report


def simulate(text: str, *overrides: str) -> Report:
    """The report of a run in which everything is accounted for and no limit is exceeded."""
    world = World(parse_scenario(text, "scenario.toml", overrides))
    world.run()
    report = build_report(world)
    for one in (report, *report["receivers"].values(), *report["tenants"].values()):
        ends = one["delivered"] + one["failed"] + one["expired"] + one["queued"]
        assert one["accepted"] == ends
    assert sum(len(one.delays_s) for one in world.tallies.kinds) >= report["delivered"]
    waiting = sum(one.pending for one in world.spool.messages.values())
    assert waiting == report["queued"]
    assert report["limits_exceeded"] == {}
    return report


SLOW_SITE = """\
duration_s = 60
drain_s = 0
[receiver.healthy]
sites = 50
reply_s = 0.1
[receiver.slow]
reply_s = 30
[backlog.flood]
to = "slow"
count = {count}
attempts = 0
[traffic.app]
to = ["healthy", "slow"]
weights = [90, 10]
rate_per_s = 50
"""


@pytest.mark.parametrize(
    "count", [20_000, pytest.param(100_000, marks=pytest.mark.long, id="long")]
)
def test_a_slow_site_with_a_long_queue_delays_nobody_else(count: int) -> None:
    report = simulate(SLOW_SITE.format(count=count))
    assert report["receivers"]["slow"]["queued"] > count
    assert report["receivers"]["slow"]["delivered"] > 0
    healthy = report["receivers"]["healthy"]
    assert healthy["wait_s"]["p99"] < 0.1
    assert healthy["delivered"] > 0.99 * healthy["accepted"]


DEAD_THIRD = """\
duration_s = 120
drain_s = 0
[scheduler]
connections = 40
[receiver.alive]
sites = 60
reply_s = 0.1
[receiver.dead]
sites = 30
reply_s = 0.1
[traffic.app]
to = "alive"
rate_per_s = 60
[traffic.other]
to = "dead"
rate_per_s = 30
"""


@pytest.mark.parametrize("how", ["refused", "timeout"])
def test_a_dead_third_takes_nothing_from_the_rest(how: str) -> None:
    alive = simulate(DEAD_THIRD)["receivers"]["alive"]
    dead = f"receiver.dead.dead={how}"
    beside = simulate(DEAD_THIRD, dead, "receiver.dead.outages=30-999")["receivers"]["alive"]
    assert beside["accepted"] == alive["accepted"]
    assert beside["per_s"] > 0.95 * alive["per_s"]


SATURATED = """\
duration_s = 120
drain_s = 0
[scheduler]
connections = 20
[receiver.alive]
sites = 100
reply_s = 0.2
[receiver.dead]
sites = 50
dead = "HOW"
[backlog.alive]
to = "alive"
count = 12_000
attempts = 0
[backlog.dead]
to = "dead"
count = COUNT
attempts = 0
"""


@pytest.mark.parametrize("how", ["refused", "timeout"])
def test_a_dead_third_takes_nothing_when_every_connection_is_needed(how: str) -> None:
    text = SATURATED.replace("HOW", how)
    alone = simulate(text.replace("COUNT", "1"))["receivers"]["alive"]
    beside = simulate(text.replace("COUNT", "2_000"))["receivers"]["alive"]
    assert beside["per_s"] > 0.95 * alone["per_s"]


def test_a_site_that_comes_back_gets_its_mail() -> None:
    report = simulate(
        DEAD_THIRD, "receiver.dead.dead=refused", "receiver.dead.outages=20-60", "drain_s=900"
    )
    assert report["queued"] == 0
    assert report["delivered"] == report["accepted"]
    assert report["pauses"] == report["resumptions"] > 0
    assert report["receivers"]["dead"]["deferrals"]["soft.connection"] < 30 * 12


CAPPED = """\
duration_s = 60
drain_s = 600
[receiver.provider]
sites = 3
domains = 2
provider = "strict"
connections = 4
rate_per_s = 5
rate_burst = 6
[shape.theirs]
site = "*"
connections = 4
rate = "5/s, burst 3"
[traffic.app]
to = "provider"
rate_per_s = 20
"""


def test_below_the_limits_of_a_receiver_it_has_no_reason_to_complain() -> None:
    report = simulate(CAPPED)
    assert report["receivers"]["provider"]["deferrals"] == {}
    assert report["receivers"]["provider"]["open_most"] <= 4
    assert report["delivered"] == report["accepted"] > 1_000


def test_without_limits_of_ours_the_receiver_complains_and_gets_its_mail_in_the_end() -> None:
    text = CAPPED[: CAPPED.index("[shape")] + CAPPED[CAPPED.index("[traffic") :]
    report = simulate(text, "scheduler.site_connections=20")
    assert report["receivers"]["provider"]["deferrals"]["soft.rate"] > 50
    assert report["delivered"] == report["accepted"]


@pytest.mark.parametrize(("rate", "per_s"), [("600/min", 10.0), ("7/s, burst 20", 7.0)])
def test_rates_are_exact(rate: str, per_s: float) -> None:
    text = """\
        duration_s = 300
        drain_s = 0
        [receiver.all]
        sites = 20
        [backlog.old]
        to = "all"
        count = 4000
        [shape.all]
        source = "default"
        rate = "RATE"
    """.replace("RATE", rate)
    report = simulate(text)
    assert report["attempts"] == pytest.approx(300 * per_s, rel=0.01)


def test_old_mail_moves_though_new_mail_alone_would_fill_the_rate() -> None:
    text = """\
        duration_s = 120
        drain_s = 0
        [receiver.one]
        [shape.all]
        site = "*"
        rate = "20/s"
        [backlog.old]
        to = "one"
        count = 3000
        [traffic.new]
        to = "one"
        rate_per_s = 25
    """
    tenants = simulate(text)["tenants"]
    assert tenants["old"]["delivered"] > 0.25 * 20 * 120
    assert tenants["new"]["delivered"] > 0.25 * 20 * 120


LOUD = """\
duration_s = 120
drain_s = 300
[receiver.provider]
domains = 4
reply_s = 0.1
[tenant.loud]
[tenant.quiet]
[traffic.loud]
to = "provider"
rate_per_s = 152
burst = 1520
[traffic.quiet]
to = "provider"
rate_per_s = 8
"""


def test_a_tenant_that_sends_95_percent_does_not_delay_another() -> None:
    text = LOUD[: LOUD.index("[tenant.loud]")] + LOUD[LOUD.index("[traffic.quiet]") :]
    alone = simulate(text)["tenants"]["quiet"]
    report = simulate(LOUD)["tenants"]
    assert report["loud"]["wait_s"]["p50"] > 1.0, "the site is busy"
    assert report["quiet"]["accepted"] == alone["accepted"]
    assert report["quiet"]["delay_s"]["p99"] <= 2 * alone["delay_s"]["p99"]


def test_an_operator_limits_one_tenant_at_one_domain() -> None:
    text = """\
        duration_s = 60
        drain_s = 300
        [receiver.one]
        domains = 2
        [shape.both]
        tenant = "y"
        domain = "d1.one.example"
        rate = "1/s"
        from_s = 10
        [traffic.x]
        to = "one"
        rate_per_s = 20
        [traffic.y]
        to = "one"
        rate_per_s = 20
    """
    simulate(text)


WEIGHTS = """\
duration_s = 60
drain_s = 0
[receiver.one]
reply_s = 0.4
[tenant.light]
[tenant.heavy]
weight = 3
"""


def ratio(text: str) -> float:
    tenants = simulate(WEIGHTS + text)["tenants"]
    heavy, light = tenants["heavy"]["delivered"], tenants["light"]["delivered"]
    return float(heavy / light)


def test_weights_divide_a_destination() -> None:
    text = '[traffic.light]\nto = "one"\nrate_per_s = 50\n'
    assert ratio(text + text.replace("light", "heavy")) == pytest.approx(3.0, rel=0.1)


def test_weights_divide_a_destination_among_old_mail() -> None:
    text = '[backlog.light]\nto = "one"\ncount = 4000\n'
    assert ratio(text + text.replace("light", "heavy")) == pytest.approx(3.0, rel=0.1)


def test_urgent_mail_goes_first_and_bulk_mail_is_not_starved() -> None:
    text = """\
        duration_s = 60
        drain_s = 0
        [receiver.one]
        reply_s = 0.4
        [tenant.urgent]
        priority = "high"
        [tenant.news]
        priority = "bulk"
        [traffic.urgent]
        to = "one"
        rate_per_s = 65
        [traffic.news]
        to = "one"
        rate_per_s = 25
    """
    tenants = simulate(text)["tenants"]
    urgent, news = tenants["urgent"]["wait_s"]["p50"], tenants["news"]["wait_s"]["p50"]
    assert urgent < news
    assert tenants["news"]["delivered"] > 60  # of 50 a second, all of which urgent mail would take


def test_greylisted_mail_arrives_with_its_second_attempt() -> None:
    text = """\
        duration_s = 60
        drain_s = 1200
        [receiver.wary]
        greylist_s = 240
        [traffic.app]
        to = "wary"
        rate_per_s = 5
    """
    report = simulate(text)
    assert report["delivered"] == report["accepted"]
    assert report["attempts"] == 2 * report["accepted"]
    assert 270 < report["receivers"]["wary"]["delay_s"]["max"] < 335


def test_mail_that_nobody_takes_expires() -> None:
    text = """\
        duration_s = 60
        drain_s = 4000
        [scheduler]
        lifetime_s = 1800
        [receiver.full]
        deferred = 1.0
        [receiver.gone]
        dead = "timeout"
        [traffic.app]
        to = ["full", "gone"]
        rate_per_s = 5
    """
    report = simulate(text)
    assert report["expired"] == report["accepted"] > 200
    assert report["receivers"]["gone"]["attempts"] < 40
    assert report["receivers"]["full"]["attempts"] < 5 * report["receivers"]["full"]["accepted"]


def test_a_profile_gives_a_tenant_a_shorter_life() -> None:
    text = """\
        duration_s = 60
        drain_s = 1200
        [receiver.full]
        deferred = 1.0
        [profile.codes]
        first_s = 20
        max_s = 60
        lifetime_s = 300
        [tenant.codes]
        profile = "codes"
        [traffic.codes]
        to = "full"
        rate_per_s = 2
        [traffic.news]
        to = "full"
        rate_per_s = 2
    """
    tenants = simulate(text)["tenants"]
    assert tenants["codes"]["expired"] == tenants["codes"]["accepted"] > 60
    assert tenants["news"]["queued"] == tenants["news"]["accepted"]
    assert tenants["codes"]["attempts"] > 2 * tenants["news"]["attempts"]


def test_a_start_and_restarts_with_overdue_mail_deliver_everything() -> None:
    text = """\
        duration_s = 60
        drain_s = 600
        restarts = [5, 20.5]
        [scheduler]
        connections = 60
        [receiver.many]
        sites = 300
        reply_s = 0.2
        [backlog.overdue]
        to = "many"
        count = 4000
        attempts = 3
        [traffic.app]
        to = "many"
        rate_per_s = 30
        recipients = 2
    """
    report = simulate(text)
    assert report["delivered"] == report["accepted"]
    again = report["attempts"] - report["accepted"]
    assert 0 <= again <= 2 * 60 + 100, "what was under way at a kill, at most, is tried again"


@pytest.mark.long
@pytest.mark.parametrize("name", ["dead-third", "provider-limits", "loud-tenant", "restart"])
def test_shipped_scenarios_in_full(name: str) -> None:
    report = simulate(scenario_text(name))
    assert report["delivered"] > 0.9 * report["accepted"]


@pytest.mark.long
def test_a_million() -> None:
    report = simulate(scenario_text("million"))
    assert report["accepted"] == 1_000_000
    assert report["queued"] == 0
