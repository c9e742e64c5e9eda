"""The text form of a next hop: a transport, what it needs, and perhaps a way.

smtp:example.com                     MX look-up of example.com
smtp:[192.0.2.1]                     this address, no look-up (user@[192.0.2.1])
smtp:relay.example:587               a relay by MX look-up
smtp:[mail.example]:587              a relay by its addresses, no MX look-up
smtp:[192.0.2.1]:25,[192.0.2.2]:25   relays in the order in which they are tried
lmtp:[::1]:24, lmtp:unix:/run/lmtp   the same over LMTP, and a unix socket
discard:  hold:  error:5.1.1 text  file:/directory    no peer at all

`#way` may follow: `name[/login][!requiretls]`. `name` is a relay of the configuration, or `-` for a
host that no relay of the configuration is; `login` is the sender whose credentials are used (what
is no plain character in it is percent-encoded), `!requiretls` stands for REQUIRETLS (RFC 8689).

` for NAME` may follow that: mail of one tenant waits by itself, wherever it goes (percent-encoded
as well; what has no peer is not divided). It is no part of where the mail goes.
"""

import ipaddress
import re
from urllib.parse import quote, unquote

import msgspec

PREFIX = b"smtp:"
SMTP_PORT = 25  # RFC 5321 2.3.5
LMTP_PORT = 24  # as IANA has it for LMTP; RFC 2033 5 forbids 25
PORT_MAX = 65535
NAME_OCTETS_MAX = 253  # RFC 1035 2.3.4, in text form
LABEL_OCTETS_MAX = 63  # RFC 1035 2.3.4
SOCKET_OCTETS_MAX = 107  # sun_path of unix(7), without its final NUL
UNIX_PREFIX = "unix:"
PLAIN_WAY = "-"  # the name of the way to a host that is no relay of the configuration
LOCAL_TRANSPORTS = frozenset({"discard", "error", "hold", "file"})  # nobody is connected to
PEER_TRANSPORTS = frozenset({"smtp", "lmtp"})
_PORTS = {"smtp": SMTP_PORT, "lmtp": LMTP_PORT}
_TLS_REQUIRED = "!requiretls"
_LABEL = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?")
_DIGITS = re.compile(r"[0-9]{1,5}")
_WAY = re.compile(r"([a-z][a-z0-9_-]*|-)?(?:/([!-~]+?))?(!requiretls)?")
_SOCKET = re.compile(r"/[!-\"$-+\--~]+")  # neither space nor "#" nor ","
_ARGUMENT = re.compile(r"[ -\"$-~]*")  # no "#": what follows it is a way
_ERROR = re.compile(r"([45])\.[0-9]{1,3}\.[0-9]{1,3} [ -\"$-~]*[!-\"$-~]")  # RFC 3463 2
_OWNER = b" for "
_PEER_PREFIXES = (b"smtp:", b"lmtp:")  # there is no space in these next hops
_SAFE = "@.+=_-"  # in a login, beside letters and digits


class Destination(msgspec.Struct, frozen=True, gc=False):
    """One destination of a next hop."""

    host: str  # lower case name, or address in canonical text; of a unix socket its path
    port: int
    is_address: bool
    has_mx_lookup: bool
    is_relay: bool  # a port is given: a relay of the configuration, not a recipient's domain
    is_socket: bool = False

    @property
    def text(self) -> str:
        """Canonical text; two texts that mean the same become one."""
        if self.is_socket:
            return UNIX_PREFIX + self.host
        name = f"[{_literal(self.host)}]" if self.is_address else self.host
        if not self.is_address and not self.has_mx_lookup:
            name = f"[{self.host}]"
        return f"{name}:{self.port}"


class NextHop(msgspec.Struct, frozen=True, gc=False):
    """A next hop, taken apart."""

    transport: str
    destinations: tuple[Destination, ...] = ()  # at least one of a transport with a peer
    argument: str = ""  # of a transport without one
    way: str = ""
    login: str = ""
    is_tls_required: bool = False


def parse_destination(text: str, transport: str = "smtp") -> Destination:
    """The destination that `text` names. Raises ValueError with a sentence for a human."""
    port = _PORTS[transport]
    if text.startswith(UNIX_PREFIX):
        return _socket(text, transport)
    if text.startswith("["):
        inner, bracket, rest = text[1:].partition("]")
        if not bracket:
            raise ValueError(f'relay host "{text}": the "[" has no "]"')
        address = parse_address(inner)
        host = address or _name(text, inner)
        return Destination(host, _port(text, rest, port), address is not None, False, bool(rest))
    if text.count(":") > 1:
        raise ValueError(f'relay host "{text}": write an IPv6 address as "[{text}]" or "[..]:port"')
    name, colon, digits = text.partition(":")
    if parse_address(name) is not None:
        raise ValueError(f'relay host "{text}": write an address in brackets: "[{name}]"')
    host = _name(text, name)
    return Destination(host, _port(text, colon + digits, port), False, True, bool(colon))


def read_next_hop(next_hop: bytes) -> NextHop | None:
    """`next_hop` taken apart; None when it names nothing that mail can go to."""
    head, mark, tail = plain_hop(next_hop).decode("ascii", "replace").partition("#")
    transport, _, rest = head.partition(":")
    way = _parse_way(tail) if mark else ("", "", False)
    if way is None:
        return None
    if transport in LOCAL_TRANSPORTS:
        return NextHop(transport, (), rest, *way) if _is_argument(transport, rest) else None
    if transport not in PEER_TRANSPORTS:
        return None
    try:
        destinations = tuple(parse_destination(part, transport) for part in rest.split(","))
    except ValueError:
        return None
    return NextHop(transport, destinations, "", *way)


def domain_of(next_hop: bytes) -> str:
    """What limits call the domain of a next hop: `example.com`, or the relays as they are named."""
    return plain_hop(next_hop).partition(b"#")[0].partition(b":")[2].decode("ascii", "replace")


def plain_hop(next_hop: bytes) -> bytes:
    """`next_hop` without whose mail it is."""
    if next_hop.startswith(_PEER_PREFIXES):
        return next_hop.partition(_OWNER)[0]
    return next_hop


def owner_of(next_hop: bytes) -> str:
    """Whose mail alone waits for `next_hop`; "" when it is anybody's."""
    if not next_hop.startswith(_PEER_PREFIXES):
        return ""
    return unquote(next_hop.partition(_OWNER)[2].decode("ascii", "replace"))


def build_owner(name: str) -> bytes:
    """What follows a next hop of which only the mail of `name` is meant."""
    return _OWNER + quote(name, safe=_SAFE).encode("ascii")


def parse_next_hop(next_hop: bytes) -> tuple[Destination, ...]:
    """Destinations of `next_hop`, in order; none when it has none."""
    hop = read_next_hop(next_hop)
    return () if hop is None else hop.destinations


def build_local(text: str) -> bytes:
    """The next hop of `transport:argument` without a peer. Raises ValueError for a human."""
    transport, _, argument = text.partition(":")
    if transport == "error" and _ERROR.fullmatch(argument) is None:
        raise ValueError(f'"{text}": write "error:5.1.1 some text", in ASCII and without "#"')
    if not _is_argument(transport, argument):
        hint = "an absolute path" if transport == "file" else "nothing"
        raise ValueError(f'"{text}": after "{transport}:" {hint} must come')
    return text.encode("ascii")


def build_way(name: str, login: bytes = b"", *, is_tls_required: bool = False) -> bytes:
    """What follows the destinations of a next hop, with its `#`; nothing for the default way."""
    text = name
    if login:
        text += "/" + quote(login, safe=_SAFE)
    if is_tls_required:
        text += _TLS_REQUIRED
    return b"#" + text.encode("ascii") if text else b""


def parse_address(text: str) -> str | None:
    """Canonical text of the IP address `text`, with or without `IPv6:`; None if it is none."""
    bare = text[5:] if text[:5].lower() == "ipv6:" else text
    if "%" in bare:  # a zone means nothing in mail
        return None
    try:
        return str(ipaddress.ip_address(bare))
    except ValueError:
        return None


def host_name(name: str) -> str | None:
    """`name` in lower case without its final dot; None when it cannot name a host.

    An address in the place of a name is none either (RFC 5321 2.3.5, RFC 1123 2.1).
    """
    bare = name.removesuffix(".").lower()
    labels = bare.split(".")
    if len(bare) > NAME_OCTETS_MAX or not all(_is_label(label) for label in labels):
        return None
    return None if labels[-1].isdecimal() else bare


def _parse_way(text: str) -> tuple[str, str, bool] | None:
    """(name, login, whether TLS is required) of what stands behind the `#`."""
    match = _WAY.fullmatch(text)
    if match is None or not text:
        return None
    login = unquote(match[2] or "", "utf-8", "surrogateescape")
    return match[1] or "", login, match[3] is not None


def _is_argument(transport: str, argument: str) -> bool:
    if transport == "error":
        return _ERROR.fullmatch(argument) is not None
    if transport == "file":
        return argument.startswith("/") and _ARGUMENT.fullmatch(argument) is not None
    return not argument


def _socket(text: str, transport: str) -> Destination:
    path = text.removeprefix(UNIX_PREFIX)
    if transport != "lmtp":
        raise ValueError(f'relay host "{text}": a unix socket needs "lmtp:" in front')
    if _SOCKET.fullmatch(path) is None or len(path) > SOCKET_OCTETS_MAX:
        raise ValueError(
            f'relay host "{text}": after "unix:" an absolute path must come, at most '
            f'{SOCKET_OCTETS_MAX} octets, without space, comma and "#"'
        )
    return Destination(path, 0, False, False, True, True)


def _literal(address: str) -> str:
    return f"IPv6:{address}" if ":" in address else address


def _port(text: str, rest: str, default: int) -> int:
    if not rest:
        return default
    digits = rest[1:]
    if rest[0] != ":" or _DIGITS.fullmatch(digits) is None or not 0 < int(digits) <= PORT_MAX:
        raise ValueError(
            f'relay host "{text}": after the host only ":port" (1-{PORT_MAX}) may come'
        )
    return int(digits)


def _name(text: str, name: str) -> str:
    if not name:
        raise ValueError(f'relay host "{text}": the host is missing')
    host = host_name(name)
    if host is None:
        raise ValueError(f'relay host "{text}": "{name}" is neither a host name nor an address')
    return host


def _is_label(label: str) -> bool:
    return len(label) <= LABEL_OCTETS_MAX and _LABEL.fullmatch(label) is not None
