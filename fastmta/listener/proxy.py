"""The header of the PROXY protocol, versions 1 and 2, in front of a connection (sans-I/O).

A proxy (HAProxy, a load balancer) tells in it who its client is. Whoever may send it decides who
is trusted: the header is read only where the configuration says that a proxy is in front, and then
it has to be there. So everything is strict: what is malformed ends the connection, and nothing of
it is taken for mail.
"""

from __future__ import annotations

import re
from ipaddress import AddressValueError, IPv4Address, IPv6Address

Endpoint = tuple[str, int]  # address, port

V1_OCTETS_MAX = 107  # with CR LF
V2_OCTETS_MAX = 536  # what fits into the smallest segment; Postfix takes as much

_NEED_MORE = -1
_V1_BEGIN = b"PROXY "
_V2_BEGIN = b"\r\n\r\n\x00\r\nQUIT\n"
_V2_HEAD_OCTETS = 16
_V1_LINE = re.compile(
    rb"PROXY TCP([46]) ([0-9A-Fa-f:.]{2,45}) ([0-9A-Fa-f:.]{2,45}) "
    rb"(0|[1-9][0-9]{0,4}) (0|[1-9][0-9]{0,4})\r\n"
)
_V1_UNKNOWN = re.compile(rb"PROXY UNKNOWN(?: [\x20-\x7e]*)?\r\n")
_PORT_MAX = 65535
_LOCAL, _PROXY = 0x20, 0x21  # version 2 and the command
_UNSPECIFIED, _TCP4, _TCP6 = 0x00, 0x11, 0x21
_ADDRESSES_OCTETS = {_UNSPECIFIED: 0, _TCP4: 12, _TCP6: 36}

_Kind = type[IPv4Address] | type[IPv6Address]


class ProxyProblem(Exception):
    """There is no usable header; the text is for the log."""


class ProxyHeader:
    """Takes the octets of one connection from its first on, until the header is whole.

    Then `source` and `destination` are the ends of the client's connection to the proxy: (address,
    port), canonical, a v4-mapped address as IPv4, a port that is not known as 0. Without them the
    connection's own are meant. They are missing for a connection of the proxy itself, such as a
    health check (`is_local`), and for a client whom the proxy cannot or will not name: to such a
    one nobody may give the rights of the proxy.
    """

    __slots__ = ("_head", "destination", "is_complete", "is_local", "octets", "source")

    def __init__(self) -> None:
        self._head = b""
        self.octets = b""  # of the header, once it is complete
        self.is_complete = False
        self.is_local = False
        self.source: Endpoint | None = None
        self.destination: Endpoint | None = None

    def feed(self, octets: bytes | bytearray | memoryview) -> int:
        """How many of `octets` belong to the header: all of them while it is not complete.

        Keeps copies only. Raises ProxyProblem as soon as no header can come of it, and then always;
        RuntimeError after the header.
        """
        if self.is_complete:
            raise RuntimeError("feed() after the header")
        before = len(self._head)
        self._head += bytes(memoryview(octets)[: V2_OCTETS_MAX - before])
        is_v2 = self._head[:1] == _V2_BEGIN[:1]
        size = _scan_v2(self._head) if is_v2 else _scan_v1(self._head)
        if size == _NEED_MORE:
            return len(octets)
        if is_v2:
            ends = _parse_v2(self._head)
            self.is_local = self._head[12] == _LOCAL
        else:
            ends = _parse_v1(self._head[:size])
        if ends is not None:
            self.source, self.destination = ends
        self.is_complete = True
        self.octets, self._head = self._head[:size], b""
        return size - before


def _scan_v1(head: bytes) -> int:
    """Size of the line at the front, which may be any line that begins as it should."""
    if not head.startswith(_V1_BEGIN) and not _V1_BEGIN.startswith(head):
        raise ProxyProblem("no PROXY header")
    end = head.find(b"\n", 0, V1_OCTETS_MAX)
    if end >= 0:
        return end + 1
    if len(head) >= V1_OCTETS_MAX:
        raise ProxyProblem("too long")
    return _NEED_MORE


def _parse_v1(line: bytes) -> tuple[Endpoint, Endpoint] | None:
    found = _V1_LINE.fullmatch(line)
    if found is None:
        if _V1_UNKNOWN.fullmatch(line):
            return None
        raise ProxyProblem("malformed line")
    kind = IPv4Address if found[1] == b"4" else IPv6Address
    return _v1_end(kind, found[2], found[4]), _v1_end(kind, found[3], found[5])


def _v1_end(kind: _Kind, address: bytes, port: bytes) -> Endpoint:
    if int(port) > _PORT_MAX:
        raise ProxyProblem("port out of range")
    try:
        return _canonical(kind(address.decode("ascii"))), int(port)
    except AddressValueError as error:
        raise ProxyProblem("malformed address") from error


def _scan_v2(head: bytes) -> int:
    """Size of the header, once what stands in front of it is right."""
    if not head.startswith(_V2_BEGIN) and not _V2_BEGIN.startswith(head):
        raise ProxyProblem("no PROXY header")
    if len(head) < _V2_HEAD_OCTETS:
        return _NEED_MORE
    command, protocol = head[12], head[13]
    rest = int.from_bytes(head[14:16], "big")
    if command not in (_LOCAL, _PROXY):
        raise ProxyProblem("unknown version or command")
    if command == _PROXY and protocol not in (_UNSPECIFIED, _TCP4, _TCP6):
        raise ProxyProblem("neither TCP over IPv4 nor over IPv6")
    if rest > V2_OCTETS_MAX - _V2_HEAD_OCTETS:
        raise ProxyProblem("too long")
    if command == _PROXY and rest < _ADDRESSES_OCTETS[protocol]:
        raise ProxyProblem("too short for its addresses")
    return _V2_HEAD_OCTETS + rest if len(head) >= _V2_HEAD_OCTETS + rest else _NEED_MORE


def _parse_v2(head: bytes) -> tuple[Endpoint, Endpoint] | None:
    """A header that `_scan_v2` found whole; what follows the addresses (TLVs) is not looked at."""
    if head[12] == _LOCAL or head[13] == _UNSPECIFIED:
        return None
    kind, size = (IPv4Address, 4) if head[13] == _TCP4 else (IPv6Address, 16)
    addresses = head[_V2_HEAD_OCTETS:]
    ports = addresses[2 * size :]
    source, destination = kind(addresses[:size]), kind(addresses[size : 2 * size])
    return (
        (_canonical(source), int.from_bytes(ports[:2], "big")),
        (_canonical(destination), int.from_bytes(ports[2:4], "big")),
    )


def _canonical(address: IPv4Address | IPv6Address) -> str:
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return str(mapped or address)
