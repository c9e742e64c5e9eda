"""Ways: which one a next hop has, what its site's key covers, fallbacks, TLS by domain and host."""

from __future__ import annotations

import itertools

import pytest
from msgspec.structs import replace

from fastmta.message import OutcomeKind
from fastmta.route import RecordType, Resolver, ResolverOptions, RouteProblem, Site
from fastmta.route.hop import parse_destination
from fastmta.route.order import order_targets
from fastmta.route.site import Target
from fastmta.route.way import TlsLevel, TlsPolicy, Way
from fastmta.route.ways import Fallback, TlsRule, Ways
from tests.unit.route.test_resolver import NOW_S, Zone, keep_order

SES = Way(
    name="ses",
    tls=TlsPolicy(TlsLevel.SECURE),
    credentials="relays.ses",
    sources=("192.0.2.99",),
    provider="ses",
)
BULK = Way(name="bulk", hostname="bulk.example")
RELAY = Way(credentials="relay", tls=TlsPolicy(TlsLevel.VERIFY))
WAYS = Ways(relay=RELAY, named={"ses": SES, "bulk": BULK})
ENCRYPT, VERIFY, SECURE = TlsLevel.ENCRYPT, TlsLevel.VERIFY, TlsLevel.SECURE


def resolve(zone: Zone, hop: bytes, ways: Ways = WAYS) -> Site | RouteProblem:
    results: list[Site | RouteProblem] = []
    resolver = Resolver(zone, lambda: NOW_S, keep_order, ResolverOptions(), ways)
    resolver.resolve(hop, lambda _, result: results.append(result))
    (result,) = results
    return result


def site_of(zone: Zone, hop: bytes, ways: Ways = WAYS) -> Site:
    site = resolve(zone, hop, ways)
    assert isinstance(site, Site), site
    return site


@pytest.fixture
def zone() -> Zone:
    zone = Zone()
    zone.mx("example.com", (10, "a.mx.example"), (20, "b.mx.example"))
    zone.mx("other.example", (10, "a.mx.example"), (20, "b.mx.example"))
    for number, name in enumerate(("a.mx.example", "b.mx.example", "r.example"), 1):
        zone.host(name, f"198.51.100.{number}")
    return zone


def test_what_dns_leads_to_is_filtered_and_what_the_operator_named_is_not(zone: Zone) -> None:
    assert not site_of(zone, b"smtp:example.com").way.is_unfiltered
    assert not site_of(zone, b"smtp:[127.0.0.1]").way.is_unfiltered  # user@[127.0.0.1]
    assert not site_of(zone, b"smtp:example.com#bulk").way.is_unfiltered
    for hop in (b"smtp:[r.example]:25", b"smtp:example.com:25", b"smtp:[127.0.0.1]:25#-",
                b"smtp:[r.example]:587#ses", b"lmtp:unix:/run/x#-"):  # fmt: skip
        assert site_of(zone, hop).way.is_unfiltered, hop


def test_only_mail_of_the_default_relay_has_its_credentials(zone: Zone) -> None:
    assert site_of(zone, b"smtp:[r.example]:25").way.credentials == "relay"
    assert site_of(zone, b"smtp:[r.example]:25#/me@x.y").way.credentials == "relay/me@x.y"
    assert site_of(zone, b"smtp:[r.example]:587#ses").way.credentials == "relays.ses"
    assert site_of(zone, b"smtp:[r.example]:587#ses/@x.y").way.credentials == "relays.ses/@x.y"
    for hop in (b"smtp:example.com", b"smtp:[r.example]:25#-", b"smtp:example.com#bulk"):
        assert site_of(zone, hop).way.credentials == ""


def test_a_sites_key_covers_its_fallbacks(zone: Zone) -> None:
    """Or mail of one would go to the fallback of the other, or with less TLS than is required."""
    zone.host("f.example", "198.51.100.9")
    fallback = Fallback((parse_destination("[f.example]:25"),), Way(is_unfiltered=True))
    other = replace(fallback, way=BULK)
    ways = Ways(fallbacks={"": (fallback,)})
    same = [site_of(zone, b"smtp:" + name, ways) for name in (b"example.com", b"other.example")]
    assert same[0].key == same[1].key != site_of(zone, b"smtp:example.com").key
    assert same[0].key != site_of(zone, b"smtp:example.com", Ways(fallbacks={"": (other,)})).key
    assert same[0].key == site_of(zone, b"smtp:example.com", ways).key
    relay, plain = (site_of(zone, b"smtp:[r.example]:25" + way, ways) for way in (b"", b"#-"))
    assert relay.way == plain.way
    assert (len(relay.targets), len(plain.targets)) == (2, 1)
    assert relay.key != plain.key
    proved = Ways(mx=Way(tls=TlsPolicy(TlsLevel.FINGERPRINT)), fallbacks={"": (fallback,)})
    first, second = (site_of(zone, b"smtp:example.com" + way, proved)
                     for way in (b"", b"#!requiretls"))  # fmt: skip
    assert first.way == second.way
    assert first.targets[-1].way != second.targets[-1].way
    assert first.key != second.key


def test_a_fallback_that_cannot_be_found_now_changes_no_key(zone: Zone) -> None:
    fallback = Fallback((parse_destination("[f.example]:25"),), Way(is_unfiltered=True))
    ways = Ways(fallbacks={"": (fallback,)})
    without = site_of(zone, b"smtp:example.com", ways)
    zone.host("f.example", "198.51.100.9")
    found = site_of(zone, b"smtp:example.com", ways)
    assert (len(without.targets), len(found.targets)) == (2, 3)
    assert without.key == found.key


def test_sites_of_different_ways_have_different_keys(zone: Zone) -> None:
    hops = [b"smtp:example.com", b"smtp:example.com#bulk", b"smtp:example.com#!requiretls",
            b"smtp:other.example#!requiretls", b"smtp:[r.example]:25", b"smtp:[r.example]:25#-",
            b"smtp:[r.example]:25#ses", b"smtp:[r.example]:25#ses/a@b.c",
            b"smtp:[r.example]:25#ses/a@b.d", b"smtp:[r.example]:25#-!requiretls",
            b"lmtp:[r.example]:25#-"]  # fmt: skip
    keys = [site_of(zone, hop).key for hop in hops]
    for (one, key), (two, other) in itertools.combinations(enumerate(keys), 2):
        assert key != other, (hops[one], hops[two])
    assert site_of(zone, b"smtp:example.com").key == site_of(zone, b"smtp:other.example").key
    lists = [b"smtp:[r.example]:25,[a.mx.example]:25" + way for way in (b"", b"#ses", b"#-")]
    assert len({site_of(zone, hop).key for hop in lists}) == 3


def test_secure_names_are_those_that_the_operator_or_the_sender_wrote(zone: Zone) -> None:
    ways = Ways(mx=Way(tls=TlsPolicy(SECURE)), relay=RELAY, named={"ses": SES})
    one = site_of(zone, b"smtp:example.com", ways)
    assert one.way.tls.names == ("example.com", ".example.com")
    # One session must not serve both: what was proved is one domain only.
    assert one.key != site_of(zone, b"smtp:other.example", ways).key
    assert site_of(zone, b"smtp:[r.example]:587#ses").way.tls.names == ("r.example",)
    assert site_of(zone, b"smtp:[r.example]:25").way.tls.names == ()
    listed = site_of(zone, b"smtp:[r.example]:587,example.com:587#ses", ways)
    assert listed.way.tls.names == ("r.example", "example.com", ".example.com")
    own = Ways(named={"ses": replace(SES, tls=TlsPolicy(SECURE, names=("x.y",)))})
    assert site_of(zone, b"smtp:[r.example]:587#ses", own).way.tls.names == ("x.y",)


@pytest.mark.parametrize("level", TlsLevel)
def test_mail_that_needs_tls_is_never_sent_with_less(zone: Zone, level: TlsLevel) -> None:
    tls = TlsPolicy(level, fingerprints=("00" * 32,))
    relay = replace(RELAY, tls=tls)
    ways = Ways(
        mx=Way(tls=tls),
        relay=relay,
        fallbacks={"": (Fallback((parse_destination("[r.example]:25"),), relay),)},
    )
    for hop in (b"smtp:example.com#!requiretls", b"smtp:[r.example]:25#!requiretls"):
        site = site_of(zone, hop, ways)
        found = [site.way, *(target.way for target in site.targets if target.way is not None)]
        assert len(found) == 2
        expected = TlsLevel.FINGERPRINT if level is TlsLevel.FINGERPRINT else SECURE
        assert [way.tls.level for way in found if way is not None] == [expected] * 2
    plain = site_of(zone, b"smtp:example.com", ways)
    assert plain.way.tls.level is level


@pytest.mark.parametrize(
    ("hop", "level", "is_implicit", "expected"),
    [
        (b"smtp:[r.example]:465#ses", SECURE, True, SECURE),
        (b"smtp:[r.example]:465#-", TlsLevel.MAY, True, ENCRYPT),
        (b"smtp:[r.example]:587#-", TlsLevel.MAY, False, TlsLevel.MAY),
        (b"lmtp:unix:/run/x#-", TlsLevel.MAY, False, TlsLevel.NONE),
        (b"lmtp:unix:/run/x#-!requiretls", TlsLevel.MAY, False, TlsLevel.NONE),
    ],
)
def test_port_and_socket_decide(
    zone: Zone, hop: bytes, level: TlsLevel, is_implicit: bool, expected: TlsLevel
) -> None:
    site = site_of(zone, hop)
    assert (site.way.tls.is_implicit, site.way.tls.level) == (is_implicit, expected)


def test_no_domain_gets_implicit_tls(zone: Zone) -> None:
    zone.host("x.example", "198.51.100.9")
    site = resolve(zone, b"smtp:x.example")
    assert isinstance(site, Site)
    assert not site.way.tls.is_implicit


def test_unix_socket(zone: Zone) -> None:
    site = site_of(zone, b"lmtp:unix:/run/lmtp.sock#-")
    assert site.targets == (Target("/run/lmtp.sock", "/run/lmtp.sock", 0),)
    assert (site.label, site.way.transport) == ("/run/lmtp.sock", "lmtp")
    assert site.expires_at_s is None
    assert zone.asked == []


def test_lmtp_over_tcp(zone: Zone) -> None:
    site = site_of(zone, b"lmtp:[r.example]:24#-")
    assert [(t.address, t.port) for t in site.targets] == [("198.51.100.3", 24)]
    assert site.way.transport == "lmtp"


@pytest.mark.parametrize(
    ("hop", "transport", "argument"),
    [
        (b"discard:", "discard", ""),
        (b"hold:", "hold", ""),
        (b"error:5.1.1 no such user", "error", "5.1.1 no such user"),
        (b"file:/var/out", "file", "/var/out"),
    ],
)
def test_transports_without_a_peer_need_no_look_up(
    zone: Zone, hop: bytes, transport: str, argument: str
) -> None:
    site = site_of(zone, hop)
    assert (site.way.transport, site.way.argument) == (transport, argument)
    assert site.targets == ()
    assert site.expires_at_s is None
    assert site.label == hop.decode()
    assert zone.asked == []


def test_a_relay_that_the_configuration_lost_delays(zone: Zone) -> None:
    problem = resolve(zone, b"smtp:[r.example]:25#gone")
    assert isinstance(problem, RouteProblem)
    assert (problem.kind, problem.status) == (OutcomeKind.DEFERRED, "4.3.5")
    assert "gone" in problem.text


def fallbacks(*hosts: str, way: Way = SES) -> Ways:
    return Ways(
        relay=RELAY,
        named={"ses": SES},
        fallbacks={"": tuple(Fallback((parse_destination(host),), way) for host in hosts)},
    )


def test_fallbacks_come_last_with_their_own_way(zone: Zone) -> None:
    ways = fallbacks("[r.example]:465", "[198.51.100.77]:587")
    for hop in (b"smtp:example.com", b"smtp:[a.mx.example]:25"):
        site = site_of(zone, hop, ways)
        own = [target for target in site.targets if target.way is None]
        others = site.targets[len(own) :]
        assert own
        assert [target.address for target in others] == ["198.51.100.3", "198.51.100.77"]
        assert [target.port for target in others] == [465, 587]
        first, second = (target.way for target in others)
        assert first is not None
        assert second is not None
        assert first.credentials == second.credentials == "relays.ses"
        assert first.tls.is_implicit
        assert first.tls.names == ("r.example",)
        assert not second.tls.is_implicit
    assert len(site_of(zone, b"smtp:[a.mx.example]:25#ses", ways).targets) == 1


def test_an_attempt_comes_to_the_fallback_however_many_hosts_there_are(zone: Zone) -> None:
    zone.mx("many.example", *((n, f"mx{n}.example") for n in range(12)))
    for n in range(12):
        zone.host(f"mx{n}.example", f"203.0.113.{n}")
    site = site_of(zone, b"smtp:many.example", fallbacks("[r.example]:587"))
    assert [target.way is None for target in site.targets] == [True] * 4 + [False]
    assert len(site_of(zone, b"smtp:many.example").targets) == 12
    few = Resolver(
        zone,
        lambda: NOW_S,
        keep_order,
        ResolverOptions(attempt_targets=1),
        fallbacks("[r.example]:587"),
    )
    results: list[Site | RouteProblem] = []
    few.resolve(b"smtp:many.example", lambda _, result: results.append(result))
    assert isinstance(results[0], Site)
    assert len(results[0].targets) == 2


@pytest.mark.parametrize(
    "hop", [b"smtp:gone.example", b"smtp:broken.example", b"smtp:[gone.example]:25"]
)
def test_fallback_alone_when_the_destination_cannot_be_found(zone: Zone, hop: bytes) -> None:
    zone.fail("broken.example", RecordType.MX)
    assert isinstance(resolve(zone, hop), RouteProblem)
    site = site_of(zone, hop, fallbacks("[r.example]:587"))
    assert [target.address for target in site.targets] == ["198.51.100.3"]
    assert site.targets[0].way is not None
    assert site.expires_at_s is not None
    assert site.expires_at_s <= NOW_S + 600
    assert site.key != site_of(zone, b"smtp:[r.example]:587#ses").key


def test_fallback_does_not_undo_what_dns_says_plainly(zone: Zone) -> None:
    zone.mx("null.example", (0, ""))
    ways = fallbacks("[r.example]:587")
    problem = resolve(zone, b"smtp:null.example", ways)
    assert isinstance(problem, RouteProblem)
    assert problem.status == "5.1.10"
    assert isinstance(resolve(zone, b"smtp:", ways), RouteProblem)


def test_fallback_that_cannot_be_found_is_no_hindrance(zone: Zone) -> None:
    ways = fallbacks("[gone.example]:587", "[r.example]:587")
    site = site_of(zone, b"smtp:example.com", ways)
    assert [target.address for target in site.targets][-1] == "198.51.100.3"
    gone = fallbacks("[gone.example]:587")
    assert all(target.way is None for target in site_of(zone, b"smtp:example.com", gone).targets)
    problem = resolve(zone, b"smtp:gone.example", gone)
    assert isinstance(problem, RouteProblem)
    assert "gone.example type=MX" in problem.text


def test_answers_of_fallbacks_may_come_first_or_last(zone: Zone) -> None:
    zone.held = []
    results: list[Site | RouteProblem] = []
    resolver = Resolver(zone, lambda: NOW_S, keep_order, None, fallbacks("[r.example]:587"))
    resolver.resolve(b"smtp:example.com", lambda _, result: results.append(result))
    while zone.held:
        assert not results
        done, answer = zone.held.pop()
        done(answer)
    assert isinstance(results[0], Site)
    assert [target.way is None for target in results[0].targets] == [True, True, False]


RULES = (
    TlsRule(TlsPolicy(SECURE), ("example.com", ".sub.example")),
    TlsRule(TlsPolicy(VERIFY), hosts=("a.mx.example",)),
    TlsRule(TlsPolicy(TlsLevel.NONE), hosts=(".legacy.example",)),
)


def test_first_tls_rule_that_holds_decides(zone: Zone) -> None:
    ways = Ways(tls_rules=RULES, relay=RELAY)
    zone.mx("x.sub.example", (10, "a.mx.example"))
    zone.mx("sub.example", (10, "r.example"))
    zone.mx("old.example", (10, "m.legacy.example"))
    zone.mx("mixed.example", (10, "m.legacy.example"), (20, "r.example"))
    zone.host("m.legacy.example", "198.51.100.9")
    levels = {
        b"smtp:example.com": SECURE,
        b"smtp:x.sub.example": SECURE,
        b"smtp:sub.example": TlsLevel.MAY,
        b"smtp:other.example": VERIFY,  # one of its two hosts is in a rule that asks for more
        b"smtp:old.example": TlsLevel.NONE,
        b"smtp:mixed.example": TlsLevel.MAY,  # a rule that asks for less must hold for all
        b"smtp:[a.mx.example]:25": VERIFY,  # the relay's own
    }
    for hop, level in levels.items():
        assert site_of(zone, hop, ways).way.tls.level is level, hop
    assert site_of(zone, b"smtp:old.example#!requiretls", ways).way.tls.level is SECURE


@pytest.mark.parametrize(
    ("family", "expected"),
    [
        ("4", ["198.51.100.1", "198.51.100.2", "2001:db8::1", "2001:db8::2"]),
        ("6", ["2001:db8::1", "2001:db8::2", "198.51.100.1", "198.51.100.2"]),
        ("4only", ["198.51.100.1", "198.51.100.2"]),
        ("6only", ["2001:db8::1", "2001:db8::2"]),
        ("", ["198.51.100.1", "2001:db8::1", "198.51.100.2", "2001:db8::2"]),
    ],
)
def test_family(family: str, expected: list[str]) -> None:
    zone = Zone()
    zone.host("r.example", "198.51.100.1", "198.51.100.2", "2001:db8::1", "2001:db8::2")
    ways = Ways(mx=Way(family=family), plain=Way(family=family))
    for hop in (b"smtp:r.example", b"smtp:[r.example]:25#-"):
        site = site_of(zone, hop, ways)
        assert [target.address for target in site.targets] == expected
    if family == "4only":
        assert {rdtype for _, rdtype in zone.asked} == {RecordType.A, RecordType.MX}


def test_both_families_are_in_one_attempt_though_one_is_preferred() -> None:
    ranked = [(0, Target("h", f"2001:db8::{n}", 25)) for n in range(1, 8)]
    ranked += [(0, Target("h", "198.51.100.1", 25))]
    ordered = order_targets(ranked, keep_order, family="6")
    assert "198.51.100.1" in [target.address for target in ordered[:5]]
