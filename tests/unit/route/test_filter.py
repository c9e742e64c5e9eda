"""Which addresses DNS must not lead us to."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastmta.route.filter import AddressFilter, forbidden_kind

OWN = frozenset({"198.51.100.7", "2001:db8::7"})


@pytest.mark.parametrize(
    ("address", "kind"),
    [
        ("127.0.0.1", "loopback"),
        ("127.255.255.254", "loopback"),
        ("0.0.0.0", "unspecified"),
        ("0.1.2.3", "unspecified"),
        ("169.254.169.254", "link-local"),
        ("10.0.0.1", "private"),
        ("172.16.0.1", "private"),
        ("172.31.255.255", "private"),
        ("192.168.1.1", "private"),
        ("100.64.0.1", "private"),
        ("100.127.255.255", "private"),
        ("192.0.0.8", "private"),
        ("224.0.0.1", "multicast"),
        ("239.255.255.255", "multicast"),
        ("240.0.0.1", "reserved"),
        ("255.255.255.255", "reserved"),
        ("::", "unspecified"),
        ("::1", "loopback"),
        ("::7f00:1", "reserved"),
        ("fe80::1", "link-local"),
        ("fe80::1%eth0", "link-local"),
        ("fd00::1", "private"),
        ("fc00::1", "private"),
        ("fec0::1", "private"),
        ("ff02::1", "multicast"),
        ("100::1", "reserved"),
        ("64:ff9b:1::1", "private"),
        ("::ffff:127.0.0.1", "loopback"),
        ("::ffff:10.1.2.3", "private"),
        ("2002:7f00:1::", "loopback"),
        ("2002:a9fe:a9fe::1", "link-local"),
        ("64:ff9b::10.0.0.1", "private"),
        ("64:ff9b::a9fe:a9fe", "link-local"),
        ("2001:0:c000:201:0:fbff:80ff:fffe", "loopback"),  # Teredo: 127.0.0.1, inverted
        ("198.51.100.7", "own"),
        ("::ffff:198.51.100.7", "own"),
        ("2002:c633:6407::1", "own"),
        ("2001:db8::7", "own"),
        ("not an address", "malformed"),
        ("/run/socket", "malformed"),
        ("", "malformed"),
    ],
)
def test_forbidden(address: str, kind: str) -> None:
    assert forbidden_kind(address, OWN) == kind
    assert forbidden_kind(address, OWN)
    assert AddressFilter(OWN).why_not(address) == kind


@pytest.mark.parametrize(
    "address",
    ["8.8.8.8", "172.15.255.255", "172.32.0.1", "100.63.255.255", "100.128.0.1", "198.51.100.8",
     "2001:4860:4860::8888", "2606:4700::1111", "::ffff:8.8.8.8", "2002:808:808::1",
     "64:ff9b::8.8.8.8", "1.0.0.0", "223.255.255.255"],
)  # fmt: skip
def test_allowed(address: str) -> None:
    assert forbidden_kind(address, OWN) == ""
    assert not forbidden_kind(address, OWN)


@pytest.mark.parametrize(
    ("network", "address", "is_allowed"),
    [
        ("127.0.0.0/8", "127.0.0.1", True),
        ("127.0.0.0/8", "::ffff:127.0.0.1", True),
        ("127.0.0.0/8", "::1", False),
        ("10.1.0.0/16", "10.2.0.1", False),
        ("10.1.0.0/16", "64:ff9b::10.1.0.1", True),
        ("2002::/16", "2002:a00:1::", True),
        ("198.51.100.7/32", "198.51.100.7", True),
        ("fd00::/8", "fd12::1", True),
    ],
)
def test_exceptions(network: str, address: str, is_allowed: bool) -> None:
    exceptions = (ipaddress.ip_network(network),)
    assert bool(forbidden_kind(address, OWN, exceptions)) is not is_allowed


@given(st.ip_addresses(v=4))
def test_an_address_in_disguise_is_judged_as_itself(address: ipaddress.IPv4Address) -> None:
    plain = forbidden_kind(str(address), OWN)
    number = int(address)
    for disguise in (
        (0xFFFF << 32) | number,
        (0x64FF9B << 96) | number,
        (0x2002 << 112) | (number << 80),
    ):
        assert forbidden_kind(str(ipaddress.IPv6Address(disguise)), OWN) == plain


@given(st.ip_addresses().map(str) | st.text(max_size=20))
def test_nothing_that_python_calls_private_or_loopback_passes(text: str) -> None:
    if not forbidden_kind(text):
        address = ipaddress.ip_address(text)
        kinds = ("is_loopback", "is_link_local", "is_multicast", "is_unspecified")
        assert not [kind for kind in kinds if getattr(address, kind)]
        documentation = ("192.0.2.", "198.18.", "198.19.", "198.51.100.", "203.0.113.", "2001:")
        assert not address.is_private or text.startswith(documentation)
