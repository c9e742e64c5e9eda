"""Which addresses a name in somebody else's DNS may not lead to: our own house (RFC 6890)."""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Iterable
from typing import TypeAlias

import msgspec

Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network

# In the order in which they are looked at. Networks for documentation are not there: they lead
# nowhere, and are no danger.
_FORBIDDEN: tuple[tuple[Network, str], ...] = tuple(
    (ipaddress.ip_network(network), kind)
    for network, kind in (
        ("0.0.0.0/8", "unspecified"),  # this host, RFC 1122 3.2.1.3
        ("127.0.0.0/8", "loopback"),
        ("169.254.0.0/16", "link-local"),  # among them the metadata services of clouds
        ("10.0.0.0/8", "private"),
        ("172.16.0.0/12", "private"),
        ("192.168.0.0/16", "private"),
        ("100.64.0.0/10", "private"),  # RFC 6598: between a provider and its customers
        ("192.0.0.0/24", "private"),  # RFC 6890 2.2.2
        ("224.0.0.0/4", "multicast"),
        ("240.0.0.0/4", "reserved"),
        ("::/128", "unspecified"),
        ("::1/128", "loopback"),
        ("::/96", "reserved"),  # RFC 4291 2.5.5.1, IPv4-compatible
        ("64:ff9b:1::/48", "private"),  # RFC 8215: translation at home
        ("100::/64", "reserved"),  # RFC 6666
        ("fc00::/7", "private"),
        ("fe80::/10", "link-local"),
        ("fec0::/10", "private"),  # RFC 3879
        ("ff00::/8", "multicast"),
    )
)
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")  # RFC 6052 2.1
_IPV4_MASK = 0xFFFFFFFF


class AddressFilter(msgspec.Struct, frozen=True):
    """What is forbidden here. `own` in canonical text; `exceptions` are allowed in any case."""

    own: frozenset[str] = frozenset()
    exceptions: tuple[Network, ...] = ()

    def why_not(self, address: str) -> str:
        """Why nobody may be sent to `address` by a name in DNS, as an adjective; "": it is fine."""
        return forbidden_kind(address, self.own, self.exceptions)


def forbidden_kind(
    address: str, own: Collection[str] = (), exceptions: Iterable[Network] = ()
) -> str:
    """What is wrong with `address`: "loopback", "private", "own" ...; "" when nothing is.

    An IPv6 address that stands for an IPv4 address (mapped, 6to4, NAT64) is judged as that one, so
    that there is no way around; an exception for either of them counts.
    """
    try:
        forms = _forms(ipaddress.ip_address(address))
    except ValueError:
        return "malformed"
    networks = tuple(exceptions)
    if any(form in network for form in forms for network in networks):
        return ""
    for form in forms:
        for network, kind in _FORBIDDEN:
            if form in network:
                return kind
    return "own" if any(str(form) in own for form in forms) else ""


def _forms(address: Address) -> tuple[Address, ...]:
    """`address`, and what IPv4 address it stands for, if it does."""
    if isinstance(address, ipaddress.IPv4Address):
        return (address,)
    if address.scope_id:
        address = ipaddress.IPv6Address(int(address))
    embedded = address.ipv4_mapped
    if embedded is not None:
        return (embedded,)
    embedded = address.sixtofour  # RFC 3056 2
    if embedded is None and address in _NAT64:
        embedded = ipaddress.IPv4Address(int(address) & _IPV4_MASK)
    if embedded is None and address.teredo is not None:
        embedded = address.teredo[1]  # RFC 4380 4
    return (address,) if embedded is None else (address, embedded)
