"""Whose mail waits for a next hop: a part of its name, no part of where it leads."""

from __future__ import annotations

import pytest

from fastmta.message import ClientIdentity, Envelope
from fastmta.route import RouteTable
from fastmta.route.hop import build_owner, domain_of, owner_of, plain_hop, read_next_hop
from fastmta.route.owned import OwnedTable
from fastmta.route.rule import Rule, exit_local

PATH = b"u@example.com"


def envelope(login: str) -> Envelope:
    return Envelope(b"s@a.example", (PATH,), ClientIdentity(), tenant=login)


def owned(table: RouteTable) -> OwnedTable:
    return OwnedTable(table, lambda each: each.tenant, b"1")


def test_owners_have_next_hops_of_their_own() -> None:
    table = owned(RouteTable())
    one, other, nobody = (table.next_hop(PATH, envelope(name)) for name in ("ann", "bob", ""))
    assert one == b"smtp:example.com for ann"
    assert other == b"smtp:example.com for bob"
    assert nobody == b"smtp:example.com"
    assert table.next_hop(PATH, envelope("ann")) is one


@pytest.mark.parametrize("name", ["a b", "x for y", "ann#way", "é@ü", "%41", "a,b:[c]", "\n"])
def test_any_name_is_read_back_and_leads_nowhere_else(name: str) -> None:
    plain = b"smtp:[relay.example]:587,[192.0.2.1]:25#ses/a@b"
    next_hop = plain + build_owner(name)
    assert owner_of(next_hop) == name
    assert plain_hop(next_hop) == plain
    assert read_next_hop(next_hop) == read_next_hop(plain) is not None
    assert domain_of(next_hop) == "[relay.example]:587,[192.0.2.1]:25"


def test_what_has_no_peer_is_not_divided() -> None:
    text = "error:5.1.1 not for you"
    table = owned(RouteTable(rules=[Rule(exit_local(text))]))
    next_hop = table.next_hop(PATH, envelope("ann"))
    assert next_hop == plain_hop(next_hop) == text.encode()
    assert owner_of(next_hop) == ""


def test_other_owners_are_another_table() -> None:
    table = RouteTable()
    prints = {OwnedTable(table, str, each).fingerprint for each in (b"1", b"2")}
    assert len(prints | {table.fingerprint}) == 3
