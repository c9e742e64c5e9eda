"""Domains that are set up in odd ways: where their mail goes, or why it cannot go."""

from fastmta.message import OutcomeKind
from fastmta.route import AnswerKind, RecordType, RouteProblem, Site
from fastmta.route.answer import Answer
from tests.unit.route.test_resolver import NOW_S, Zone, addresses


def test_host_with_ipv6_alone() -> None:
    zone = Zone()
    zone.mx("example.com", (10, "six.example"))
    zone.host("six.example", "2001:db8::1")
    site = zone.resolve(b"smtp:example.com")
    assert addresses(site) == ["2001:db8::1"]
    assert isinstance(site, Site)
    assert site.label == "six.example"


def test_lame_first_host_leaves_the_second() -> None:
    zone = Zone()
    zone.mx("example.com", (10, "lame.example"), (20, "good.example"))
    zone.fail("lame.example", RecordType.A)
    zone.fail("lame.example", RecordType.AAAA)
    zone.host("good.example", "192.0.2.2")
    site = zone.resolve(b"smtp:example.com")
    assert addresses(site) == ["192.0.2.2"]
    assert isinstance(site, Site)
    assert site.label == "(lame|good).example", "its name does not change with the weather"


def test_first_host_that_does_not_exist_leaves_the_second() -> None:
    zone = Zone()
    zone.mx("example.com", (10, "gone.example"), (20, "good.example"))
    zone.host("good.example", "192.0.2.2")
    assert addresses(zone.resolve(b"smtp:example.com")) == ["192.0.2.2"]


def test_exchange_that_is_an_address_alone_is_a_fault_of_the_domain() -> None:
    zone = Zone()
    zone.answers["example.com", RecordType.MX] = Answer(AnswerKind.INVALID, NOW_S + 600)
    zone.host("example.com", "192.0.2.1")
    problem = zone.resolve(b"smtp:example.com")
    assert isinstance(problem, RouteProblem)
    assert (problem.kind, problem.status) == (OutcomeKind.FAILED, "5.4.4")


def test_twenty_hosts_are_one_site() -> None:
    zone = Zone()
    names = [f"mx{number:02}.example" for number in range(20)]
    zone.mx("one.example", *((10, name) for name in names))
    zone.mx("two.example", *((number, name) for number, name in enumerate(reversed(names))))
    for number, name in enumerate(names):
        zone.host(name, f"192.0.2.{number + 1}")
    one, two = zone.resolve(b"smtp:one.example"), zone.resolve(b"smtp:two.example")
    assert isinstance(one, Site)
    assert isinstance(two, Site)
    assert one.key == two.key
    assert len(addresses(one)) == 20
