"""Site keys and labels, the order of targets, and who we are."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import msgspec
import pytest

from fastmta.route import OwnHosts, Target
from fastmta.route.localfile import parse_hosts, parse_resolv_conf
from fastmta.route.order import order_targets
from fastmta.route.site import relay_key, site_key, site_label

VECTORS = Path(__file__).parents[2] / "vectors" / "site-labels.toml"


def split_port(host: str, port: int) -> tuple[str, int]:
    """`name port`, or a name whose port is the case's."""
    name, _, own = host.partition(" ")
    return name, int(own or port)


def hosts_of(*names: str, port: int = 25) -> list[tuple[str, int]]:
    return [(name, port) for name in names]


class Case(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A set of hosts, in the order in which they are named, and the name of their site."""

    name: str
    label: str
    hosts: tuple[str, ...]
    port: int = 25


class File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The vectors."""

    label: tuple[Case, ...]


CASES = msgspec.toml.decode(VECTORS.read_bytes(), type=File).label


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_labels(case: Case) -> None:
    hosts = [split_port(host, case.port) for host in case.hosts]
    assert site_label(hosts) == case.label
    shouted = [(name if name.startswith("/") else f"{name.upper()}.", port) for name, port in hosts]
    assert site_label(shouted) == case.label
    assert site_key(shouted) == site_key(hosts)


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_order_changes_no_key(case: Case) -> None:
    hosts = [split_port(host, case.port) for host in case.hosts]
    assert site_key(hosts[::-1] + hosts) == site_key(hosts)


def test_sites_of_different_hosts_have_different_keys() -> None:
    sets = {frozenset(split_port(host, case.port) for host in case.hosts) for case in CASES}
    assert len({site_key(hosts) for hosts in sets}) == len(sets) > 10


def test_label_is_bounded() -> None:
    label = site_label(hosts_of(*(f"host{number}.example" for number in range(256))))
    assert len(label) == 200
    assert label.endswith("...")


def test_key_is_the_set_of_hosts_and_ports() -> None:
    key = site_key(hosts_of("a.example", "b.example"))
    assert len(key) == 16
    assert key == site_key(hosts_of("b.example", "a.example", "b.example"))
    assert key != site_key(hosts_of("a.example"))
    assert key != site_key(hosts_of("a.example", "b.example", port=26))
    assert key != relay_key(b"smtp:[a.example]:25,[b.example]:25")


def test_two_sites_may_share_a_label_never_a_key() -> None:
    two = hosts_of("a.x.net", "b.y.net")
    cross = hosts_of("a.x.net", "a.y.net", "b.x.net", "b.y.net")
    assert site_label(two) == site_label(cross)
    assert site_key(two) != site_key(cross)


def targets_of(rank: int, *addresses: str) -> list[tuple[int, Target]]:
    return [(rank, Target(f"mx{rank}.example", address, 25)) for address in addresses]


def keep_order(items: list[Any]) -> None:
    """A shuffle that does nothing."""


def test_better_rank_comes_first() -> None:
    ranked = targets_of(10, "192.0.2.1") + targets_of(20, "192.0.2.2", "192.0.2.3")
    for seed in range(10):
        ordered = order_targets(ranked, random.Random(seed).shuffle)
        assert ordered[0].address == "192.0.2.1"
        assert len(ordered) == 3


def test_equal_rank_is_shuffled() -> None:
    ranked = targets_of(10, "192.0.2.1", "192.0.2.2", "192.0.2.3")
    firsts = {order_targets(ranked, random.Random(seed).shuffle)[0].address for seed in range(40)}
    assert len(firsts) == 3


def test_families_take_turns_within_a_rank() -> None:
    ranked = targets_of(10, "192.0.2.1", "192.0.2.2", "2001:db8::1", "2001:db8::2", "2001:db8::3")
    ordered = order_targets(ranked, keep_order)
    assert [":" in target.address for target in ordered] == [False, True, False, True, True]


def test_which_family_begins_is_random() -> None:
    ranked = targets_of(10, "192.0.2.1", "2001:db8::1")
    firsts = {order_targets(ranked, random.Random(seed).shuffle)[0].address for seed in range(40)}
    assert len(firsts) == 2


def test_both_families_are_within_one_attempt() -> None:
    six = [f"2001:db8::{number}" for number in range(1, 9)]
    ranked = targets_of(10, *six) + targets_of(20, "192.0.2.1")
    ordered = order_targets(ranked, keep_order)
    assert [":" in target.address for target in ordered[:5]] == [True] * 4 + [False]
    assert len(ordered) == 9


def test_equal_targets_are_tried_once_and_twenty_at_most() -> None:
    ranked = targets_of(10, "192.0.2.1", "192.0.2.1")
    assert len(order_targets(ranked, keep_order)) == 1
    many = targets_of(10, *(f"192.0.2.{number}" for number in range(100)))
    assert len(order_targets(many, keep_order)) == 20


def test_own_listeners() -> None:
    own = OwnHosts.of(["Relay.Example."], [("192.0.2.1", 25), ("0:0::1", 2525)])
    assert own.names == {"relay.example"}
    assert own.has_listener("192.0.2.1", 25)
    assert own.has_listener("::1", 2525)
    assert not own.has_listener("192.0.2.1", 2525)
    assert not own.has_listener("192.0.2.2", 25)


def test_own_listener_on_all_addresses() -> None:
    own = OwnHosts.of([], [("0.0.0.0", 25)], ["192.0.2.7"])
    assert own.has_listener("127.0.0.1", 25)
    assert own.has_listener("127.0.0.99", 25)
    assert own.has_listener("192.0.2.7", 25)
    assert not own.has_listener("192.0.2.8", 25)
    assert not own.has_listener("192.0.2.7", 26)
    assert not own.has_listener("::1", 25)
    both = OwnHosts.of([], [("0.0.0.0", 25), ("::", 25)])
    assert both.has_listener("::1", 25)


def test_resolv_conf() -> None:
    text = (
        "# comment\nsearch example\nnameserver 192.0.2.1\n  nameserver\t2001:db8::1 # x\n"
        "nameserver nonsense\nnameserver fe80::1%eth0\nnameserver 192.0.2.2\nnameserver\n"
    )
    assert parse_resolv_conf(text) == [
        ("192.0.2.1", 53),
        ("2001:db8::1", 53),
        ("fe80::1%eth0", 53),
    ]
    assert parse_resolv_conf("") == [("127.0.0.1", 53)]


def test_hosts_file() -> None:
    text = (
        "127.0.0.1 localhost Relay.Example # me\n::1 localhost ip6-loopback\n\n"
        "#192.0.2.9 no.example\nnonsense x.example\n192.0.2.1\n127.0.0.1 localhost\n"
    )
    assert parse_hosts(text) == {
        "localhost": ("127.0.0.1", "::1"),
        "relay.example": ("127.0.0.1",),
        "ip6-loopback": ("::1",),
    }
