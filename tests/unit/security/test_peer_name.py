"""Which names in a certificate are good for whom."""

from __future__ import annotations

import pytest

from fastmta.security.certificate import TlsProblem
from fastmta.security.peer_name import PeerNames, make_names

DEFAULT = ("nexthop", "dot-nexthop")


def dns(*names: str) -> list[tuple[str, str]]:
    return [("DNS", name) for name in names]


@pytest.mark.parametrize(
    ("wanted", "shown", "is_good"),
    [
        ("mx.example.org", "mx.example.org", True),
        ("MX.Example.ORG.", "mx.EXAMPLE.org.", True),
        ("mx.example.org", "*.example.org", True),
        ("a.b.example.org", "*.example.org", False),
        ("example.org", "*.example.org", False),
        ("mx.example.org", "m*.example.org", False),
        ("mx.example.org", "*x.example.org", False),
        ("mx.example.org", "mx.*.org", False),
        ("mx.example.org", "*.*.org", False),
        ("example.org", "*.org", False),
        ("mx.example.org", "*", False),
        ("mx.example.org", "*.", False),
        ("mx.example.org", "", False),
        ("mx.example.org", ".example.org", False),
        ("mx.example.org", "mx.example.org\0.evil.example", False),
        ("mx.example.org", "mx.example.org ", False),
        ("mx.kelvin.org", "mx.\u212aelvin.org", False),
        ("bücher.example", "xn--bcher-kva.example", True),
        ("xn--bcher-kva.example", "xn--bcher-kva.example", True),
        ("bücher.example", "bücher.example", False),
        ("localhost", "localhost", True),
        (".example.org", "mx.example.org", True),
        (".example.org", "a.b.example.org", True),
        (".example.org", "*.example.org", True),
        (".example.org", "*.b.example.org", True),
        (".example.org", "example.org", False),
        (".example.org", "badexample.org", False),
        (".bücher.example", "mx.xn--bcher-kva.example", True),
        ("192.0.2.1", "192.0.2.1", False),  # as a DNS name
    ],
)
def test_one_name(wanted: str, shown: str, is_good: bool) -> None:
    names = make_names((wanted,), "host.invalid", ())
    assert names.has(dns(shown)) is is_good
    assert names.has(dns("other.example.net", shown)) is is_good
    assert not names.has([("email", shown), ("URI", shown)])


def test_no_names_are_good_for_nobody() -> None:
    assert not PeerNames().has(dns("mx.example.org", "*.example.org"))
    assert not make_names(DEFAULT, "mx.example.org", ()).has(dns("mx.example.org"))
    assert not make_names(("mx.example.org",), "", ()).has([])


@pytest.mark.parametrize(
    "wanted", ["192.0.2.1", "[192.0.2.1]", "2001:DB8::1", "[IPv6:2001:db8::1]"]
)
def test_addresses(wanted: str) -> None:
    names = make_names((wanted,), "", ())
    shown = "192.0.2.1" if "192" in wanted else "2001:DB8:0:0:0:0:0:1"
    assert names.has([("IP Address", shown)])
    assert not names.has([("IP Address", "192.0.2.2")])
    assert not names.has([("IP Address", "nonsense")])


def test_next_hops() -> None:
    names = make_names(DEFAULT, "mx.evil.example", ("[relay.example.org]", "example.com"))
    for good in ("relay.example.org", "a.relay.example.org", "example.com", "mx.example.com"):
        assert names.has(dns(good))
    for bad in ("mx.evil.example", "example.org", "com"):
        assert not names.has(dns(bad))


@pytest.mark.parametrize(
    "hop", [".org", "org", "..", ".", "", "*.org", "a b.org", "[", "[]", "\udc80"]
)
def test_next_hops_that_open_nothing(hop: str) -> None:
    """Whoever makes us send there must not choose who is believed."""
    for host in (hop, "mx.example.org"):
        names = make_names(("hostname", *DEFAULT), host, (hop,))
        assert not names.has(
            dns("other.org", "*.org", "evil.example.org", "*.example.org.evil.org")
        )


@pytest.mark.parametrize(
    "name", ["", ".", "..", "a b", "*.example.org", "a..b", "-", "ü" * 80, "\udc80"]
)
def test_names_of_a_policy_that_are_none(name: str) -> None:
    with pytest.raises(TlsProblem, match="is no name"):
        make_names((name,), "mx.example.org", ("example.org",))


def test_a_certificate_with_too_many_names() -> None:
    names = make_names(("mx.example.org",), "", ())
    assert names.has(dns(*["a.example.net"] * 999, "mx.example.org"))
    assert not names.has(dns(*["a.example.net"] * 1000, "mx.example.org"))
