"""Next hops to sites and problems, with answers from a table."""

from __future__ import annotations

from typing import Any

import pytest

from fastmta.message import OutcomeKind
from fastmta.route import (
    Answer,
    AnswerKind,
    OwnHosts,
    RecordType,
    Resolver,
    ResolverOptions,
    RouteProblem,
    Site,
)
from fastmta.route.answer import Done, failed
from fastmta.route.site import site_key

NOW_S = 1_000.0
FOUND, NO_DATA, NO_NAME = AnswerKind.FOUND, AnswerKind.NO_DATA, AnswerKind.NO_NAME
NAME_ERROR = "Host or domain name not found. Name service error for "


class Zone:
    """Answers from a table, at once, or later in whatever order the test likes."""

    def __init__(self) -> None:
        self.answers: dict[tuple[str, RecordType], Answer] = {}
        self.asked: list[tuple[str, RecordType]] = []
        self.held: list[tuple[Done, Answer]] | None = None

    def query(self, name: str, rdtype: RecordType, done: Done) -> None:
        self.asked.append((name, rdtype))
        answer = self.answers.get((name, rdtype))
        if answer is None:
            known = any(other == name for other, _ in self.answers)
            answer = Answer(NO_DATA if known else NO_NAME, NOW_S + 600)
        if self.held is None:
            done(answer)
        else:
            self.held.append((done, answer))

    def mx(self, name: str, *exchanges: tuple[int, str], ttl_s: float = 600) -> None:
        self.answers[name, RecordType.MX] = Answer(
            FOUND, NOW_S + ttl_s, exchanges=tuple(sorted(exchanges))
        )

    def host(self, name: str, *addresses: str, ttl_s: float = 600) -> None:
        for rdtype in (RecordType.A, RecordType.AAAA):
            values = tuple(a for a in addresses if (":" in a) is (rdtype is RecordType.AAAA))
            if values:
                self.answers[name, rdtype] = Answer(FOUND, NOW_S + ttl_s, values=values)

    def fail(self, name: str, rdtype: RecordType) -> None:
        self.answers[name, rdtype] = failed(NOW_S, "SERVFAIL")

    def resolve(
        self, next_hop: bytes, options: ResolverOptions | None = None
    ) -> Site | RouteProblem:
        results: list[Site | RouteProblem] = []
        self.begin(next_hop, results, options)
        (result,) = results
        return result

    def begin(
        self,
        next_hop: bytes,
        results: list[Site | RouteProblem],
        options: ResolverOptions | None = None,
    ) -> None:
        def done(hop: bytes, result: Site | RouteProblem) -> None:
            assert hop == next_hop
            results.append(result)

        Resolver(self, lambda: NOW_S, keep_order, options).resolve(next_hop, done)


def keep_order(items: list[Any]) -> None:
    """A shuffle that does nothing."""


def addresses(result: Site | RouteProblem) -> list[str]:
    assert isinstance(result, Site), result
    return [target.address for target in result.targets]


@pytest.fixture
def zone() -> Zone:
    return Zone()


def test_exchanges_by_preference(zone: Zone) -> None:
    zone.mx("example.com", (20, "b.example"), (10, "a.example"))
    zone.host("a.example", "192.0.2.1", "2001:db8::1")
    zone.host("b.example", "192.0.2.2")
    site = zone.resolve(b"smtp:example.com")
    assert addresses(site) == ["192.0.2.1", "2001:db8::1", "192.0.2.2"]
    assert isinstance(site, Site)
    assert site.label == "(a|b).example"
    assert {target.port for target in site.targets} == {25}


def test_answers_may_come_in_any_order(zone: Zone) -> None:
    zone.mx("example.com", (10, "a.example"), (20, "b.example"))
    zone.host("a.example", "192.0.2.1")
    zone.host("b.example", "192.0.2.2")
    zone.held = []
    results: list[Site | RouteProblem] = []
    zone.begin(b"smtp:example.com", results)
    while zone.held:
        assert not results
        done, answer = zone.held.pop()
        done(answer)
    assert addresses(results[0]) == ["192.0.2.1", "192.0.2.2"]
    assert len(results) == 1


def test_domains_with_the_same_hosts_share_a_site(zone: Zone) -> None:
    zone.mx("one.example", (10, "a.example"), (20, "b.example"))
    zone.mx("two.example", (5, "b.example"), (5, "a.example"))
    zone.mx("three.example", (5, "b.example"))
    zone.host("a.example", "192.0.2.1")
    zone.host("b.example", "192.0.2.2")
    hops = (b"smtp:one.example", b"smtp:two.example", b"smtp:three.example")
    one, two, three = (zone.resolve(hop) for hop in hops)
    assert isinstance(one, Site)
    assert isinstance(two, Site)
    assert isinstance(three, Site)
    assert one.key == two.key == site_key([("a.example", 25), ("b.example", 25)])
    assert one.key != three.key


def test_key_does_not_depend_on_which_hosts_have_addresses_now(zone: Zone) -> None:
    zone.mx("example.com", (10, "a.example"), (20, "b.example"))
    zone.host("a.example", "192.0.2.1")
    zone.fail("b.example", RecordType.A)
    site = zone.resolve(b"smtp:example.com")
    assert addresses(site) == ["192.0.2.1"]
    assert isinstance(site, Site)
    assert site.key == site_key([("a.example", 25), ("b.example", 25)])
    assert site.expires_at_s == NOW_S + 30  # asks again soon for the one that failed


def test_domain_is_its_own_exchange_without_mx(zone: Zone) -> None:
    zone.host("example.com", "192.0.2.1", "2001:db8::1")
    assert addresses(zone.resolve(b"smtp:example.com")) == ["192.0.2.1", "2001:db8::1"]


def test_domain_with_mx_never_falls_back_to_its_own_address(zone: Zone) -> None:
    zone.mx("example.com", (10, "gone.example"))
    zone.host("example.com", "192.0.2.1")
    problem = zone.resolve(b"smtp:example.com")
    assert isinstance(problem, RouteProblem)
    assert (problem.kind, problem.status) == (OutcomeKind.FAILED, "5.4.4")
    assert problem.text == NAME_ERROR + "name=gone.example type=AAAA: Host not found"


def test_domain_without_any_record(zone: Zone) -> None:
    zone.answers["example.com", RecordType.PTR] = Answer(FOUND, NOW_S)
    assert zone.resolve(b"smtp:example.com") == RouteProblem(
        OutcomeKind.FAILED,
        "5.4.4",
        NAME_ERROR + "name=example.com type=AAAA: Host found but no data record of requested type",
    )


def test_null_exchange(zone: Zone) -> None:
    zone.mx("example.com", (0, ""))
    assert zone.resolve(b"smtp:example.com") == RouteProblem(
        OutcomeKind.FAILED, "5.1.10", "Domain example.com does not accept mail (nullMX)"
    )


def test_null_exchange_beside_others_is_ignored(zone: Zone) -> None:
    zone.mx("example.com", (0, ""), (10, "a.example"))
    zone.host("a.example", "192.0.2.1")
    assert addresses(zone.resolve(b"smtp:example.com")) == ["192.0.2.1"]


@pytest.mark.parametrize(
    ("kind", "expected", "status", "reason"),
    [
        (NO_NAME, OutcomeKind.FAILED, "5.4.4", "Host not found"),
        (AnswerKind.FAILED, OutcomeKind.DEFERRED, "4.4.3", "Host not found, try again"),
        (
            AnswerKind.INVALID,
            OutcomeKind.FAILED,
            "5.4.4",
            "Malformed or unexpected name server reply",
        ),
    ],
)
def test_problem_with_mx(
    zone: Zone, kind: AnswerKind, expected: OutcomeKind, status: str, reason: str
) -> None:
    zone.answers["example.com", RecordType.MX] = Answer(kind, NOW_S + 30)
    zone.host("example.com", "192.0.2.1")
    text = f"{NAME_ERROR}name=example.com type=MX: {reason}"
    assert zone.resolve(b"smtp:example.com") == RouteProblem(expected, status, text)


def test_failed_address_defers_though_others_do_not_exist(zone: Zone) -> None:
    zone.mx("example.com", (10, "a.example"), (20, "b.example"))
    zone.fail("b.example", RecordType.AAAA)
    assert zone.resolve(b"smtp:example.com") == RouteProblem(
        OutcomeKind.DEFERRED,
        "4.4.3",
        NAME_ERROR + "name=b.example type=AAAA: Host not found, try again",
    )


def test_at_most_twenty_hosts_are_looked_up(zone: Zone) -> None:
    zone.mx("example.com", *((n, f"mx{n}.example") for n in range(256)))
    for n in range(256):
        zone.host(f"mx{n}.example", f"192.0.2.{n}")
    site = zone.resolve(b"smtp:example.com")
    assert len(zone.asked) == 1 + 20 * 2
    assert addresses(site) == [f"192.0.2.{n}" for n in range(20)]


OWN = ResolverOptions(own=OwnHosts.of(["relay.example"], [("192.0.2.7", 25), ("192.0.2.7", 2525)]))
LOOP = RouteProblem(OutcomeKind.FAILED, "5.4.6", "mail for example.com loops back to myself")


@pytest.mark.parametrize("own_host", ["relay.example", "other-name.example"])
def test_own_host_and_all_that_are_not_better_are_dropped(zone: Zone, own_host: str) -> None:
    exchanges = ((10, "a.example"), (20, own_host), (20, "b.example"), (30, "c.example"))
    zone.mx("example.com", *exchanges)
    zone.host(own_host, "192.0.2.7")
    for number, name in enumerate(("a.example", "b.example", "c.example")):
        zone.host(name, f"192.0.2.{number + 1}")
    site = zone.resolve(b"smtp:example.com", OWN)
    assert addresses(site) == ["192.0.2.1"]
    assert isinstance(site, Site)
    assert site.label == "a.example"


@pytest.mark.parametrize("own_host", ["relay.example", "other-name.example"])
def test_best_host_is_ourselves(zone: Zone, own_host: str) -> None:
    zone.mx("example.com", (10, own_host), (20, "b.example"))
    zone.host(own_host, "192.0.2.7")
    zone.host("b.example", "192.0.2.1")
    assert zone.resolve(b"smtp:example.com", OWN) == LOOP


def test_domain_whose_address_is_ours(zone: Zone) -> None:
    zone.host("example.com", "192.0.2.7")
    assert zone.resolve(b"smtp:example.com", OWN) == LOOP


@pytest.mark.parametrize("own_host", ["relay.example", "other-name.example"])
def test_better_host_without_address_defers(zone: Zone, own_host: str) -> None:
    zone.mx("example.com", (10, "gone.example"), (20, own_host))
    zone.host(own_host, "192.0.2.7")
    assert zone.resolve(b"smtp:example.com", OWN) == RouteProblem(
        OutcomeKind.DEFERRED, "4.4.4", "unable to find primary relay for example.com"
    )


def test_own_address_at_another_port_is_not_ourselves(zone: Zone) -> None:
    assert addresses(zone.resolve(b"smtp:[192.0.2.7]:2526", OWN)) == ["192.0.2.7"]


def test_relay_that_is_our_own_listener(zone: Zone) -> None:
    assert zone.resolve(b"smtp:[192.0.2.7]:2525", OWN) == RouteProblem(
        OutcomeKind.DEFERRED, "4.3.5", "mail for 192.0.2.7 loops back to myself"
    )
    zone.host("mail.example", "192.0.2.7")
    problem = zone.resolve(b"smtp:[mail.example]:2525", OWN)
    assert isinstance(problem, RouteProblem)
    assert problem.status == "4.3.5"
    assert addresses(zone.resolve(b"smtp:[relay.example]:2526,[192.0.2.9]:25", OWN))


def test_address_needs_no_query_and_never_expires(zone: Zone) -> None:
    for hop in (b"smtp:[192.0.2.1]", b"smtp:[IPv6:2001:db8::1]:587"):
        site = zone.resolve(hop)
        assert isinstance(site, Site)
        assert site.expires_at_s is None
        assert site.targets[0].host == site.targets[0].address
    assert zone.asked == []


def test_bracketed_relay_is_looked_up_without_mx(zone: Zone) -> None:
    zone.mx("mail.example", (10, "other.example"))
    zone.host("mail.example", "192.0.2.1")
    site = zone.resolve(b"smtp:[mail.example]:587")
    assert isinstance(site, Site)
    assert [(t.host, t.address, t.port) for t in site.targets] == [
        ("mail.example", "192.0.2.1", 587)
    ]
    assert (("mail.example", RecordType.MX)) not in zone.asked


def test_relay_with_mx_keeps_its_port(zone: Zone) -> None:
    zone.mx("relay.example", (10, "a.example"))
    zone.host("a.example", "192.0.2.1")
    site = zone.resolve(b"smtp:relay.example:587")
    assert isinstance(site, Site)
    assert site.targets[0].port == 587
    assert site.label == "a.example:587"


def test_relays_are_tried_in_their_order(zone: Zone) -> None:
    zone.host("b.example", "192.0.2.2", "2001:db8::2")
    hop = b"smtp:[192.0.2.1]:25,[b.example]:26,[192.0.2.3]:25"
    site = zone.resolve(hop)
    assert addresses(site) == ["192.0.2.1", "192.0.2.2", "2001:db8::2", "192.0.2.3"]
    assert isinstance(site, Site)
    other = zone.resolve(b"smtp:[192.0.2.3]:25,[b.example]:26,[192.0.2.1]:25")
    assert isinstance(other, Site)
    assert site.key != other.key


@pytest.mark.parametrize(
    "hop",
    [
        b"smtp:[a.example]:25",
        b"smtp:[a.example]:25,[b.example]:25",
        b"smtp:example.com",
        b"lmtp:/s",
    ],
)
def test_whose_mail_it_is_makes_no_other_site(zone: Zone, hop: bytes) -> None:
    zone.mx("example.com", (10, "a.example"))
    zone.host("a.example", "192.0.2.1")
    zone.host("b.example", "192.0.2.2")
    assert zone.resolve(hop + b" for ann") == zone.resolve(hop)


def test_relay_that_does_not_resolve_leaves_the_others(zone: Zone) -> None:
    zone.fail("a.example", RecordType.A)
    assert addresses(zone.resolve(b"smtp:[a.example]:25,[192.0.2.3]:25")) == ["192.0.2.3"]
    both = zone.resolve(b"smtp:[gone.example]:25,[a.example]:25")
    assert isinstance(both, RouteProblem)
    assert both.kind is OutcomeKind.DEFERRED


@pytest.mark.parametrize("hop", [b"smtp:gone.example:25", b"smtp:[gone.example]:25"])
def test_relay_that_does_not_exist_bounces_nothing(zone: Zone, hop: bytes) -> None:
    problem = zone.resolve(hop)
    assert isinstance(problem, RouteProblem)
    assert (problem.kind, problem.status) == (OutcomeKind.DEFERRED, "4.3.5")
    assert problem.text.startswith(NAME_ERROR + "name=gone.example type=")


def test_relay_with_null_exchange_bounces_nothing(zone: Zone) -> None:
    zone.mx("relay.example", (0, ""))
    problem = zone.resolve(b"smtp:relay.example:25")
    assert isinstance(problem, RouteProblem)
    assert (problem.kind, problem.status) == (OutcomeKind.DEFERRED, "4.3.5")


def test_hosts_file_counts_for_relays_only(zone: Zone) -> None:
    options = ResolverOptions(local_hosts={"localhost": ("127.0.0.1", "::1")})
    assert addresses(zone.resolve(b"smtp:[localhost]:2526", options)) == ["127.0.0.1", "::1"]
    assert addresses(zone.resolve(b"smtp:localhost:2526", options)) == ["127.0.0.1", "::1"]
    assert isinstance(zone.resolve(b"smtp:localhost", options), RouteProblem)
    zone.fail("localhost", RecordType.MX)
    assert addresses(zone.resolve(b"smtp:localhost:2526", options)) == ["127.0.0.1", "::1"]


def test_family_that_the_host_lacks_is_not_asked_for(zone: Zone) -> None:
    zone.host("example.com", "192.0.2.1", "2001:db8::1")
    options = ResolverOptions(has_ipv6=False, local_hosts={"localhost": ("::1", "127.0.0.1")})
    assert addresses(zone.resolve(b"smtp:example.com", options)) == ["192.0.2.1"]
    assert addresses(zone.resolve(b"smtp:[localhost]:25", options)) == ["127.0.0.1"]
    assert ("example.com", RecordType.AAAA) not in zone.asked


@pytest.mark.parametrize(
    ("ttl_s", "expected_s"), [(0, 30), (29, 30), (31, 31), (3_601, 3_600), (86_400, 3_600)]
)
def test_site_ends_with_its_shortest_answer_within_bounds(
    zone: Zone, ttl_s: float, expected_s: float
) -> None:
    zone.mx("example.com", (10, "a.example"), ttl_s=90_000)
    zone.host("a.example", "192.0.2.1", "2001:db8::1", ttl_s=ttl_s)
    site = zone.resolve(b"smtp:example.com")
    assert isinstance(site, Site)
    assert site.expires_at_s == NOW_S + expected_s


def test_port_for_domains_is_an_option_for_tests(zone: Zone) -> None:
    zone.host("example.com", "192.0.2.1")
    site = zone.resolve(b"smtp:example.com", ResolverOptions(mx_port=2526))
    assert isinstance(site, Site)
    assert site.targets[0].port == 2526
    relay = zone.resolve(b"smtp:[192.0.2.1]:25", ResolverOptions(mx_port=2526))
    assert isinstance(relay, Site)
    assert relay.targets[0].port == 25


@pytest.mark.parametrize("next_hop", [b"smtp:", b"smtp:192.0.2.1", b"smtp:\xff", b"x"])
def test_next_hop_that_names_nothing(zone: Zone, next_hop: bytes) -> None:
    problem = zone.resolve(next_hop)
    assert isinstance(problem, RouteProblem)
    assert (problem.kind, problem.status) == (OutcomeKind.FAILED, "5.1.3")
    assert zone.asked == []
