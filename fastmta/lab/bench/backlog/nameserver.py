"""A name server for any number of domains: each has an MX host of its own, on one loopback address.

    python -m fastmta.lab.bench.backlog.nameserver PORT TARGET [SITES]

Every domain has the MX host `mx.<domain>`, so that each is a site of its own; with SITES they share
that many hosts. Each host has the address TARGET and no AAAA. It is a process of its own and knows
no more DNS than that (UDP, one question), so that it costs the machine next to nothing.
"""

import socket
import struct
import sys
from collections.abc import Sequence
from typing import Protocol
from zlib import crc32

from ...loopback import HOST

_A, _SOA, _MX, _AAAA = 1, 6, 15, 28
_TTL_S = 3600
_BUFFER_OCTETS = 4 << 20  # ten thousand questions may come at once
_HEAD_OCTETS = 12
_OWNER = b"\xc0\x0c"  # points at the name in question (RFC 1035 4.1.4)
_FLAGS = 0x8580  # a response, authoritative, recursion desired and available


class Zone(Protocol):
    """What the names lead to."""

    def exchange(self, name: bytes) -> bytes:
        """The MX host of a domain, both as octets of DNS; a pointer to the name may be its end."""

    def address(self, name: bytes) -> str:
        """The IPv4 address of a host."""


class OneAddress:
    """Every domain has a host, its own or one of `sites`, and all of them have one address."""

    def __init__(self, target: str, sites: int) -> None:
        self._target = target
        self._sites = sites

    def exchange(self, name: bytes) -> bytes:
        if not self._sites:
            return b"\2mx" + _OWNER
        return site_host(crc32(name) % self._sites)

    def address(self, name: bytes) -> str:
        return self._target


def site_host(number: int) -> bytes:
    """`mx.site.<number>.test` as octets of DNS."""
    label = b"%d" % number
    return b"\2mx\4site" + bytes((len(label),)) + label + b"\4test\0"


def answer(question: bytes, zone: Zone) -> bytes:
    """The response to one question; empty for what is no question."""
    end = question.find(b"\0", _HEAD_OCTETS) + 5  # the root label, then type and class
    if len(question) < end or end < _HEAD_OCTETS + 5:
        return b""
    name, rdtype = question[_HEAD_OCTETS : end - 5], int.from_bytes(question[end - 4 : end - 2])
    if rdtype == _MX:
        value = struct.pack("!H", 10) + zone.exchange(name)
    elif rdtype == _A:
        value = socket.inet_aton(zone.address(name))
    else:
        value = b"\0\0" + struct.pack("!5I", 1, 3600, 600, 86_400, _TTL_S)
        return (
            question[:2]
            + struct.pack("!5H", _FLAGS, 1, 0, 1, 0)
            + question[_HEAD_OCTETS:end]
            + _record(_SOA, value)
        )
    head = question[:2] + struct.pack("!5H", _FLAGS, 1, 1, 0, 0)
    return head + question[_HEAD_OCTETS:end] + _record(rdtype, value)


def _record(rdtype: int, value: bytes) -> bytes:
    return _OWNER + struct.pack("!HHIH", rdtype, 1, _TTL_S, len(value)) + value


def serve(port: int, zone: Zone) -> None:
    """Answer until killed."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER_OCTETS)
        server.bind((HOST, port))
        while True:
            question, client = server.recvfrom(4096)
            response = answer(question, zone)
            if response:
                server.sendto(response, client)


def main(arguments: Sequence[str]) -> int:
    """Answer until killed."""
    serve(int(arguments[0]), OneAddress(arguments[1], int(arguments[2])))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
