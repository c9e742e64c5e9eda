"""What the configuration takes can be routed; a sender chooses a domain and nothing else."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fastmta.config import Config, ConfigError, load
from fastmta.config.address import NextHop
from fastmta.config.relay import RELAY_HOSTS_MAX
from fastmta.config.target import (
    LMTP_PORT,
    LOCAL_TRANSPORTS,
    SOCKET_OCTETS_MAX,
    AddressPattern,
    RelayHost,
    RouteTarget,
)
from fastmta.daemon.routing import route_table, ways
from fastmta.message import ClientIdentity, Envelope
from fastmta.route import RouteTable, hop
from fastmta.route.hop import build_way, read_next_hop
from fastmta.route.pattern import Patterns
from fastmta.route.rule import RELAY_HOSTS_MAX as ROUTE_HOSTS_MAX
from fastmta.route.rule import Rule, exit_to

ENVELOPE = Envelope(b"", (b"a@example.com",), ClientIdentity())
SECURE = Envelope(b"s@sender.example", (b"a@b.c",), ClientIdentity(), is_tls_required=True)

PARTS = ["[", "]", ":", ".", "a", "-", "_", "IPv6:", "::1", "fe80::1%lo", "10.1.2.3", "25", "x.1",
         "unix:", "/run/x", "#", ",", " ", "ses://", "eu-west-1", "smtp:", "lmtp:", "discard:",
         "error:", "5.1.1", "hold:", "file:", "mx"]  # fmt: skip
TEXTS = st.lists(st.sampled_from(PARTS), max_size=6).map("".join)


@given(TEXTS)
@example("x.123")
@example("[fe80::1%lo]:25")
@example("[x.٣]")
def test_what_the_configuration_takes_can_be_routed(text: str) -> None:
    with suppress(ValueError):
        host = NextHop().check(text)
        assert route(host), text


def route(host: str) -> bytes:
    """The next hop; a ValueError of the table is a failure here."""
    try:
        return RouteTable([host]).next_hop(b"a@b.example", ENVELOPE)
    except ValueError as error:
        raise AssertionError(str(error)) from error


def configured(*overrides: str) -> Config | None:
    try:
        return load(None, {}, overrides, lambda: "relay.example")
    except ConfigError:
        return None


@given(TEXTS)
@example("lmtp:unix:/run/x")
@example("error:5.1.1 a # b")
@example("lmtp:a.example")
@example("a.10.1.2.3")
def test_every_route_that_is_taken_leads_somewhere(text: str) -> None:
    config = configured(f"route.1.to={text}")
    if config is not None:
        next_hop = route_table(config).next_hop(b"a@b.example", ENVELOPE)
        found = read_next_hop(next_hop)
        assert found is not None, next_hop
        way = ways(config).way_of(found)
        assert way is not None
        assert way.transport == next_hop.partition(b":")[0].decode()


@given(TEXTS, st.sampled_from(["smtp", "lmtp"]))
@example("unix:/run/x", "lmtp")
@example("ses://eu-west-1", "smtp")
@example("a.example", "lmtp")
def test_every_relay_that_is_taken_can_be_reached(text: str, transport: str) -> None:
    with suppress(ValueError):
        RelayHost(may_be_socket=True).check(text)
        config = configured(
            f"relays.x.host={text}", f"relays.x.transport={transport}", "route.1.to=x"
        )
        if config is not None and config.relays["x"].host:
            next_hop = route_table(config).next_hop(b"a@b.example", ENVELOPE)
            found = read_next_hop(next_hop)
            assert found is not None, next_hop
            assert (found.way, found.transport) == ("x", transport)
            fallback = configured(
                f"relays.x.host={text}", f"relays.x.transport={transport}", "relay.fallback=x"
            )
            assert fallback is not None
            assert ways(fallback).fallbacks[""][0].destinations == found.destinations


@given(st.lists(st.sampled_from(["@", ".", "a", "/", "<>", "(", "*", "b.c", "["])).map("".join))
def test_every_pattern_that_is_taken_compiles(text: str) -> None:
    with suppress(ValueError):
        checked = AddressPattern(may_be_null=True).check(text)
        Patterns([checked]).matches(b"a@b.c")


HOSTILE = st.lists(
    st.sampled_from(
        ["@", "#", "ses", "!requiretls", "/", "smtp:", "lmtp:", "unix:", ",", ":25", "[", "]",
         "127.0.0.1", "a.example", "-", "discard:", "%23", ".", "\x00", " ", "\u00fc"]
    ),
    max_size=6,
).map(lambda parts: "".join(parts).encode())  # fmt: skip

TABLES = [
    RouteTable(),
    RouteTable(rules=[Rule(exit_to(["[x.example]"], way="ses"), ("x.example", ".y.example"))]),
]


@pytest.mark.parametrize("table", TABLES)
@given(st.binary(max_size=12) | HOSTILE, st.booleans())
def test_a_domain_names_no_transport_port_list_or_way(
    table: RouteTable, domain: bytes, is_tls_required: bool
) -> None:
    envelope = SECURE if is_tls_required else ENVELOPE
    found = read_next_hop(table.next_hop(b"user@" + domain, envelope))
    if found is None or (found.destinations[0].host == "x.example" and found.way == "ses"):
        return  # it goes nowhere, or where the rule says
    assert found.transport == "smtp"
    assert (found.way, found.login, found.is_tls_required) == ("", "", is_tls_required)
    (destination,) = found.destinations
    assert not destination.is_relay
    assert not destination.is_socket
    assert destination.port == 25
    assert destination.host.encode() in domain.lower() or ":" in destination.host


@given(st.binary(min_size=1, max_size=40), st.booleans())
def test_a_sender_with_credentials_names_itself_only(sender: bytes, is_tls_required: bool) -> None:
    logins = frozenset({sender.lower()})
    table = RouteTable(["[x.example]:587"], logins=logins)
    envelope = Envelope(sender, (b"a@b.c",), ClientIdentity(), is_tls_required=is_tls_required)
    found = read_next_hop(table.next_hop(b"a@b.c", envelope))
    assert found is not None
    assert (found.way, found.is_tls_required) == ("", is_tls_required)
    assert found.login.encode("utf-8", "surrogateescape") == sender.lower()
    assert [one.text for one in found.destinations] == ["[x.example]:587"]


@given(st.binary(max_size=40), st.sampled_from(["", "-", "ses", "a_b-c"]), st.booleans())
def test_ways_come_back_as_they_went(login: bytes, name: str, is_tls_required: bool) -> None:
    text = build_way(name, login, is_tls_required=is_tls_required)
    found = read_next_hop(b"smtp:[x.example]:25" + text)
    assert found is not None
    back = (found.way, found.login.encode("utf-8", "surrogateescape"), found.is_tls_required)
    assert back == (name, login, is_tls_required)


@given(st.binary(max_size=60))
def test_any_octets_are_a_next_hop_or_none(octets: bytes) -> None:
    read_next_hop(octets)


def test_both_take_as_many() -> None:
    assert RELAY_HOSTS_MAX == ROUTE_HOSTS_MAX
    assert (LMTP_PORT, SOCKET_OCTETS_MAX) == (hop.LMTP_PORT, hop.SOCKET_OCTETS_MAX)
    assert frozenset(LOCAL_TRANSPORTS) == hop.LOCAL_TRANSPORTS
    assert RouteTarget().check("mx") == "mx"


def test_a_pattern_that_python_will_read_otherwise_is_refused() -> None:
    with pytest.raises(ValueError, match="nested set"):
        AddressPattern(may_be_null=True).check("/[[/")
