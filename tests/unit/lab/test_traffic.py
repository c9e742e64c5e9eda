"""The parts of the scheduler's benches that can be wrong without anybody noticing."""

import dns.message
import pytest

from fastmta.budget.rate import read_rate
from fastmta.lab.bench.backlog.build import domain_of
from fastmta.lab.bench.backlog.nameserver import answer
from fastmta.lab.bench.table import at_least, at_most
from fastmta.lab.bench.traffic import sites
from fastmta.lab.bench.traffic.client import Sent
from fastmta.lab.bench.traffic.flow import excess, flow_of
from fastmta.lab.bench.traffic.nameserver import Numbered
from fastmta.lab.bench.traffic.place import address_of, domains_below, site_of
from fastmta.lab.bench.traffic.rates import weigh
from fastmta.lab.bench.traffic.receivers import Arrival, Town
from fastmta.lab.bench.traffic.waiting import by_number, waiting_of
from fastmta.lab.loopback import LabError

FIRST = "127.30.0.1"


def ask(zone: Numbered, name: str, rdtype: str) -> str:
    question = dns.message.make_query(name, rdtype, use_edns=0)
    return dns.message.from_wire(answer(question.to_wire(), zone)).answer[0][0].to_text()


def test_a_domain_leads_to_the_address_of_its_site() -> None:
    zone = Numbered(FIRST, domains=10_000, sites=3_000)
    host = ask(zone, domain_of(9_999), "MX").split()[1]
    assert host == "mx.site.2999.test."
    assert ask(zone, host, "A") == address_of(FIRST, 2_999) == "127.30.11.250"
    assert ask(zone, "D00000.Test", "MX") == "10 mx.site.0.test."
    assert ask(zone, "nobody.example", "MX") == "10 mx.site.0.test."
    assert ask(zone, "mx.nobody.example", "A") == FIRST


def test_every_site_has_an_address_of_its_own() -> None:
    assert len({address_of(FIRST, site) for site in range(20_000)}) == 20_000


@pytest.mark.parametrize(("domains", "count"), [(100, 30), (10_000, 3_000), (7, 7), (10, 3)])
def test_the_first_domains_have_the_living_sites(domains: int, count: int) -> None:
    found = [site_of(domain, domains, count) for domain in range(domains)]
    assert sorted(set(found)) == list(range(count))
    for site in range(count + 1):
        assert domains_below(site, domains, count) == sum(each < site for each in found)


def test_connections_that_always_work_are_at_the_optimum() -> None:
    town = Town(sites=2, delays_ms=(50, 200))
    slow = [Arrival(0.4 * n, 0.4 * n + 0.2, 1, n) for n in range(100)]
    fast = [Arrival(0.1 * n, 0.1 * n + 0.05, 0, n) for n in range(400)]
    flow = flow_of(slow + fast, town, connections=2)
    assert flow.share == pytest.approx(1.0)
    assert flow.steady_share == pytest.approx(1.0, rel=0.02)
    assert flow.rate == pytest.approx(12.5)
    assert flow.optimum == pytest.approx(12.5, rel=0.02)
    half = flow_of(slow, Town(sites=2, delays_ms=(50, 200)), connections=2)
    assert half.share == pytest.approx(0.5)


def test_excess_is_what_no_bucket_would_have_let_through() -> None:
    kept = [0.0] * 10 + [0.01 * n for n in range(1, 200)]
    assert excess(kept, 100.0, 10) == pytest.approx(0.0, abs=1e-6)
    assert excess([*kept, 1.99], 100.0, 10) == pytest.approx(1.0, abs=1e-6)
    assert excess([5.0] * 12, 100.0, 10) == 2.0
    after_a_pause = [0.0, *[10.0] * 10, 10.005]
    assert excess(after_a_pause, 100.0, 10) == pytest.approx(0.5)


def test_a_rate_is_weighed_once_its_burst_is_used_up() -> None:
    rate = read_rate("100/s, burst 10")
    kept = weigh("100/s, burst 10", rate, [0.0] * 10 + [0.01 * n for n in range(1, 1000)])
    assert kept.per_s == pytest.approx(100.0)
    assert kept.error == pytest.approx(0.0, abs=1e-9)
    fast = weigh("", rate, [0.0098 * n for n in range(1000)])
    assert fast.error == pytest.approx(0.0204, abs=1e-3)
    assert fast.excess > 5


def test_waits_count_from_the_reply_to_the_receiver() -> None:
    town = Town(sites=2, delays_ms=(0, 50))
    sent = [Sent(n, 1.0, 1.010) for n in range(100)]
    there = [Arrival(1.005 if n else 1.260, 1.310, 1, n) for n in range(100)]
    waiting = waiting_of(sent, by_number(there), town)
    assert waiting.start_p50_ms == 0.0  # it was on its way before the client knew
    assert waiting.start_max_ms == pytest.approx(250.0)
    assert waiting.end_p99_ms == pytest.approx(350.0)
    assert waiting.others_per_s == 0.0
    beside = [*there, Arrival(1.1, 1.2, 0, 1_000), Arrival(1.1, 9.9, 0, 1_001)]
    assert waiting_of(sent, by_number(beside), town).others_per_s == pytest.approx(1 / 0.31)
    with pytest.raises(LabError, match="1 of 100"):
        waiting_of(sent, by_number(there[1:]), town)


def test_the_median_decides() -> None:
    assert at_least("", [0.8, 0.95, 0.91], 0.9)[3] == "met"
    assert at_least("", [0.8, 0.95, 0.89], 0.9)[3] == "MISSED"
    assert at_most("", [1.0, 3.0, 2.5], 2.0)[2:] == ("2.500 (1.000..3.000)", "MISSED")
    assert at_most("", [], 2.0)[3] == "not measured"


def test_the_third_that_dies_is_left_out_of_what_is_awaited() -> None:
    chosen = sites.parse(["--domains", "100", "--sites", "30", "--each", "3", "--optimum", "100"])
    asked = sites.loads(chosen)
    assert asked[sites.ALL].connections == 25
    assert asked[sites.ALL].living == 100
    beside, alone = asked[sites.BESIDE], asked[sites.ALONE]
    assert beside.town.dead_from == 20
    assert (beside.queued, beside.living) == (100, 67)
    assert (alone.queued, alone.living, alone.town.dead_from) == (67, 67, None)
