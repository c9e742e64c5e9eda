"""Relay hosts and next hops: what they mean, and what cannot be meant."""

import pytest

from fastmta.message import ClientIdentity, Envelope
from fastmta.route import RouteTable
from fastmta.route.hop import Destination
from fastmta.route.hop import parse_next_hop as destinations

ENVELOPE = Envelope(b"", (b"a@example.com",), ClientIdentity())


@pytest.mark.parametrize(
    ("relays", "next_hop"),
    [
        (["[127.0.0.1]:2526"], b"smtp:[127.0.0.1]:2526"),
        (["[127.0.0.1]"], b"smtp:[127.0.0.1]:25"),
        (["[::1]:587"], b"smtp:[IPv6:::1]:587"),
        (["[IPv6:2001:DB8:0::1]:25"], b"smtp:[IPv6:2001:db8::1]:25"),
        (["[Mail.Example.]:587"], b"smtp:[mail.example]:587"),
        (["relay.example:587"], b"smtp:relay.example:587"),
        (["mx.example"], b"smtp:mx.example:25"),
        (["[localhost]:2526"], b"smtp:[localhost]:2526"),
        (
            ["[a.example]", "[b.example]:26", "[a.example]:25"],
            b"smtp:[a.example]:25,[b.example]:26",
        ),
    ],
)
def test_relays_take_all_mail(relays: list[str], next_hop: bytes) -> None:
    table = RouteTable(relays)
    assert table.next_hop(b"a@example.com", ENVELOPE) == next_hop
    assert table.next_hop(b"a@[192.0.2.1]", ENVELOPE) == next_hop
    assert len(destinations(next_hop)) == len(set(relays) - {"[a.example]:25"})


@pytest.mark.parametrize(
    ("relay", "said"),
    [
        ("", "missing"),
        (":25", "missing"),
        ("[", '"]"'),
        ("[a.example", '"]"'),
        ("[]:25", "missing"),
        ("[a.example]25", "port"),
        ("a.example:0", "port"),
        ("a.example:65536", "port"),
        ("a.example:+25", "port"),
        ("a.example:\u0662\u0665", "port"),
        ("a.example:", "port"),
        ("192.0.2.1:25", "brackets"),
        ("::1", "IPv6"),
        ("2001:db8::1", "IPv6"),
        ("[fe80::1%eth0]", "neither"),
        ("a b", "neither"),
        ("a..b", "neither"),
        ("-a.example", "neither"),
        ("a.example,b.example", "neither"),
        ("1.2.3", "neither"),
        ("x" * 64 + ".example", "neither"),
        (".".join(["x" * 50] * 6), "neither"),
        ("m\u00fcller.example", "neither"),
        ("a.example\n", "neither"),
    ],
)
def test_relay_that_cannot_be_meant(relay: str, said: str) -> None:
    with pytest.raises(ValueError, match="relay host") as caught:
        RouteTable([relay])
    assert said in str(caught.value)


def test_too_many_relays() -> None:
    with pytest.raises(ValueError, match="at most 16"):
        RouteTable([f"[mx{number}.example]" for number in range(17)])


@pytest.mark.parametrize(
    ("forward_path", "next_hop"),
    [
        (b"a@example.com", b"smtp:example.com"),
        (b'"x@y"@example.com', b"smtp:example.com"),
        (b"a@[192.0.2.1]", b"smtp:[192.0.2.1]"),
        (b"a@[IPv6:2001:db8:0::1]", b"smtp:[IPv6:2001:db8::1]"),
        (b"a@[ipv6:::1]", b"smtp:[IPv6:::1]"),
    ],
)
def test_mail_goes_to_its_domain(forward_path: bytes, next_hop: bytes) -> None:
    assert RouteTable().next_hop(forward_path, ENVELOPE) == next_hop
    assert len(destinations(next_hop)) == 1


@pytest.mark.parametrize(
    "forward_path",
    [
        b"",
        b"postmaster",
        b"a@",
        b"a@example.com:2525",
        b"a@[mail.example]",
        b"a@[192.0.2.1]:2525",
        b"a@[192.0.2.1],[192.0.2.2]",
        b"a@one.example,two.example",
        b"a@[192.0.2.1",
        b"a@[IPv6:fe80::1%eth0]",
        b"a@[tag:x]",
        b"a@192.0.2.1",
        b"a@b..example",
        b"a@\xff.example",
        b"a@-x.example",
    ],
)
def test_sender_cannot_choose_ports_lists_or_nonsense(forward_path: bytes) -> None:
    assert destinations(RouteTable().next_hop(forward_path, ENVELOPE)) == ()


def test_path_without_domain_does_not_stand_for_a_domain() -> None:
    table = RouteTable()
    assert table.next_hop(b"local", ENVELOPE) == b"smtp:"
    assert table.next_hop(b"a@local", ENVELOPE) == b"smtp:local"
    assert table.next_hop(b"local", ENVELOPE) == b"smtp:"


def test_equal_domains_share_one_object_and_memory_is_bounded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("fastmta.route.table.KNOWN_MAX", 10)
    table = RouteTable()
    assert table.next_hop(b"a@example.com", ENVELOPE) is table.next_hop(b"b@example.com", ENVELOPE)
    for number in range(100):
        assert table.next_hop(b"a@%d.example" % number, ENVELOPE) == b"smtp:%d.example" % number
    assert len(table._known) <= 10


@pytest.mark.parametrize(
    "next_hop",
    [
        b"",
        b"smtp",
        b"smtp:",
        b"pipe:a.example",
        b"smtp:#ses",
        b"smtp:a.example#",
        b"smtp:[a",
        b"smtp:]",
        b"smtp:,",
    ],
)
def test_next_hop_without_destination(next_hop: bytes) -> None:
    assert destinations(next_hop) == ()


def test_meaning_of_the_forms() -> None:
    assert destinations(b"smtp:example.com") == (
        Destination("example.com", 25, False, True, False),
    )
    assert destinations(b"smtp:relay.example:25") == (
        Destination("relay.example", 25, False, True, True),
    )
    assert destinations(b"smtp:[mail.example]:587,[192.0.2.1]:26") == (
        Destination("mail.example", 587, False, False, True),
        Destination("192.0.2.1", 26, True, False, True),
    )
    assert destinations(b"smtp:[192.0.2.1]") == (Destination("192.0.2.1", 25, True, False, False),)
