"""The text form of a next hop: `smtp:` and one or several destinations.

smtp:example.com                     MX look-up of example.com
smtp:[192.0.2.1]                     this address, no look-up (user@[192.0.2.1])
smtp:relay.example:587               a relay by MX look-up
smtp:[mail.example]:587              a relay by its addresses, no MX look-up
smtp:[192.0.2.1]:25,[192.0.2.2]:25   relays in the order in which they are tried
"""

import ipaddress
import re

import msgspec

PREFIX = b"smtp:"
SMTP_PORT = 25  # RFC 5321 2.3.5
PORT_MAX = 65535
NAME_OCTETS_MAX = 253  # RFC 1035 2.3.4, in text form
LABEL_OCTETS_MAX = 63  # RFC 1035 2.3.4
_LABEL = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?")
_DIGITS = re.compile(r"[0-9]{1,5}")


class Destination(msgspec.Struct, frozen=True, gc=False):
    """One destination of a next hop."""

    host: str  # lower case name, or address in canonical text
    port: int
    is_address: bool
    has_mx_lookup: bool
    is_relay: bool  # a port is given: a relay of the configuration, not a recipient's domain

    @property
    def text(self) -> str:
        """Canonical text; two texts that mean the same become one."""
        name = f"[{_literal(self.host)}]" if self.is_address else self.host
        if not self.is_address and not self.has_mx_lookup:
            name = f"[{self.host}]"
        return f"{name}:{self.port}"


def parse_destination(text: str) -> Destination:
    """The destination that `text` names. Raises ValueError with a sentence for a human."""
    if text.startswith("["):
        inner, bracket, rest = text[1:].partition("]")
        if not bracket:
            raise ValueError(f'relay host "{text}": the "[" has no "]"')
        address = parse_address(inner)
        host = address or _name(text, inner)
        return Destination(host, _port(text, rest), address is not None, False, bool(rest))
    if text.count(":") > 1:
        raise ValueError(f'relay host "{text}": write an IPv6 address as "[{text}]" or "[..]:port"')
    name, colon, port = text.partition(":")
    if parse_address(name) is not None:
        raise ValueError(f'relay host "{text}": write an address in brackets: "[{name}]"')
    return Destination(_name(text, name), _port(text, colon + port), False, True, bool(colon))


def parse_next_hop(next_hop: bytes) -> tuple[Destination, ...]:
    """Destinations of `next_hop`, in order; none when it names nothing that mail can go to."""
    if not next_hop.startswith(PREFIX):
        return ()
    text = next_hop[len(PREFIX) :].decode("ascii", "replace")
    try:
        return tuple(parse_destination(part) for part in text.split(","))
    except ValueError:
        return ()


def parse_address(text: str) -> str | None:
    """Canonical text of the IP address `text`, with or without `IPv6:`; None if it is none."""
    bare = text[5:] if text[:5].lower() == "ipv6:" else text
    if "%" in bare:  # a zone means nothing in mail
        return None
    try:
        return str(ipaddress.ip_address(bare))
    except ValueError:
        return None


def _literal(address: str) -> str:
    return f"IPv6:{address}" if ":" in address else address


def _port(text: str, rest: str) -> int:
    if not rest:
        return SMTP_PORT
    digits = rest[1:]
    if rest[0] != ":" or _DIGITS.fullmatch(digits) is None or not 0 < int(digits) <= PORT_MAX:
        raise ValueError(
            f'relay host "{text}": after the host only ":port" (1-{PORT_MAX}) may come'
        )
    return int(digits)


def host_name(name: str) -> str | None:
    """`name` in lower case without its final dot; None when it cannot name a host.

    An address in the place of a name is none either (RFC 5321 2.3.5, RFC 1123 2.1).
    """
    bare = name.removesuffix(".").lower()
    labels = bare.split(".")
    if len(bare) > NAME_OCTETS_MAX or not all(_is_label(label) for label in labels):
        return None
    return None if labels[-1].isdecimal() else bare


def _name(text: str, name: str) -> str:
    if not name:
        raise ValueError(f'relay host "{text}": the host is missing')
    host = host_name(name)
    if host is None:
        raise ValueError(f'relay host "{text}": "{name}" is neither a host name nor an address')
    return host


def _is_label(label: str) -> bool:
    return len(label) <= LABEL_OCTETS_MAX and _LABEL.fullmatch(label) is not None
