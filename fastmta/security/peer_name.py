"""Whose certificate is good for a peer: names to look for, and the names in a certificate.

RFC 6125 6.4, narrowed: only alternative names count, the common name never does; a wildcard is the
whole leftmost label and stands for one label, with two or more to its right.
"""

from __future__ import annotations

import contextlib
import ipaddress
import re
from collections.abc import Iterable

import msgspec

from fastmta.smtp.utf8 import is_text, to_alabels

from .certificate import TlsProblem

AltName = tuple[str, str]  # ("DNS", "mx.example.org"), as the ssl module has them
HOSTNAME = "hostname"  # in a policy's names, as in Postfix's: the host that was looked up
NEXTHOP = "nexthop"  # the next hop as routing names it
DOT_NEXTHOP = "dot-nexthop"  # any name below it

_NAME_OCTETS_MAX = 253  # RFC 1035 2.3.4, without the root
_ALT_NAMES_MAX = 1000
_LABEL = "[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_NAME = re.compile(rf"(?:{_LABEL}\.)*{_LABEL}")


class PeerNames(msgspec.Struct, frozen=True):
    """Names of which a certificate has to be in one."""

    exact: frozenset[str] = frozenset()
    below: tuple[str, ...] = ()  # ".example.org": any number of labels before it
    addresses: frozenset[str] = frozenset()  # canonical text

    def has(self, alt_names: Iterable[AltName]) -> bool:
        """Whether one of a certificate's alternative names is one of these."""
        for number, (kind, value) in enumerate(alt_names):
            if number >= _ALT_NAMES_MAX:
                return False
            if kind == "DNS":
                # Not lower() of anything else: it makes a "k" of the Kelvin sign.
                if value.isascii() and self._has_name(value.lower().removesuffix(".")):
                    return True
            elif kind == "IP Address" and self.addresses and to_address(value) in self.addresses:
                return True
        return False

    def _has_name(self, name: str) -> bool:
        if len(name) > _NAME_OCTETS_MAX:
            return False
        star, _, parent = name.partition(".")
        if star == "*":
            if "." not in parent or _NAME.fullmatch(parent) is None:
                return False
            if any(one.partition(".")[2] == parent for one in self.exact):
                return True
        elif _NAME.fullmatch(name) is None:
            return False
        elif name in self.exact:
            return True
        return any(name.endswith(one) for one in self.below)


def make_names(wanted: tuple[str, ...], host: str, next_hop_names: tuple[str, ...]) -> PeerNames:
    """What a policy's names mean for a host of a next hop.

    A name is meant exactly, one that begins with a dot means any name below it; HOSTNAME, NEXTHOP
    and DOT_NEXTHOP stand for what they say. Raises TlsProblem for a name in `wanted` that is none.
    """
    found = _Found()
    for text in wanted:
        if text == HOSTNAME:
            found.add_from_mail((host,))
        elif text == NEXTHOP:
            found.add_from_mail(next_hop_names)
        elif text == DOT_NEXTHOP:
            found.add_from_mail(next_hop_names, is_below=True)
        else:
            found.add(text[1:] if text.startswith(".") else text, is_below=text.startswith("."))
    return PeerNames(frozenset(found.exact), tuple(found.below), frozenset(found.addresses))


class _Found:
    """Names by how they are meant."""

    def __init__(self) -> None:
        self.exact: set[str] = set()
        self.below: dict[str, None] = {}
        self.addresses: set[str] = set()

    def add(self, text: str, *, is_below: bool) -> None:
        """Raises TlsProblem."""
        address = to_address(bare(text))
        if address and not is_below:
            self.addresses.add(address)
        elif is_below:
            self.below[f".{to_name(text)}"] = None
        else:
            self.exact.add(to_name(text))

    def add_from_mail(self, names: tuple[str, ...], *, is_below: bool = False) -> None:
        """Names that mail goes to, or DNS gave: one that is none is good for no certificate."""
        for name in map(bare, names):
            if is_below and not _has_below(name):
                continue
            with contextlib.suppress(TlsProblem):
                self.add(name, is_below=is_below)


def bare(name: str) -> str:
    """Without the brackets of a next hop that is not to be looked up."""
    inner = name[1:-1] if name.startswith("[") and name.endswith("]") else name
    return inner[5:] if inner[:5].lower() == "ipv6:" else inner


def _has_below(name: str) -> bool:
    """Not a single label: what is below "com" is nobody's."""
    return "." in name.rstrip(".") and not to_address(name)


def to_name(text: str) -> str:
    """A domain name in lower case, of ASCII (RFC 5891 4.4). Raises TlsProblem."""
    octets = bare(text).encode("utf-8", "replace")
    if not text.isascii():
        octets = to_alabels(octets) if is_text(octets) else b""
    name = octets.decode("ascii", "replace").lower().removesuffix(".")
    if not 0 < len(name) <= _NAME_OCTETS_MAX or _NAME.fullmatch(name) is None:
        raise TlsProblem(f"TLS: {text[:100]!r} is no name that a certificate can be in")
    return name


def to_address(text: str) -> str:
    """The canonical text of an IP address; "" when it is none."""
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        return ""
