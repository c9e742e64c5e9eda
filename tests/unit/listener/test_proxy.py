"""PROXY headers: every way of cutting them, and everything that is no header."""

import itertools
import struct
from ipaddress import ip_address

import pytest

from fastmta.listener.proxy import ProxyHeader, ProxyProblem

SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
TAIL = b"EHLO client.example\r\nPROXY TCP4 9.9.9.9 9.9.9.9 1 1\r\n"


def v2(command: int, protocol: int, rest: bytes, length: int | None = None) -> bytes:
    size = len(rest) if length is None else length
    return SIGNATURE + struct.pack("!BBH", command, protocol, size) + rest


def ends(source: str, destination: str, ports: tuple[int, int] = (56324, 25)) -> bytes:
    return ip_address(source).packed + ip_address(destination).packed + struct.pack("!HH", *ports)


V4 = ends("192.0.2.7", "198.51.100.1")
V6 = ends("2001:db8::7", "2001:db8::1")
TLVS = b"\x02\x00\x05a.com" + b"\x20\x00\x00" + bytes(range(256))
ENDS_V4 = (("192.0.2.7", 56324), ("198.51.100.1", 25))
ENDS_V6 = (("2001:db8::7", 56324), ("2001:db8::1", 25))
NONE = (None, None)
LONG_V1 = b"PROXY TCP6 " + b" ".join([b"ffff:" * 7 + b"ffff"] * 2) + b" 65535 65535\r\n"

GOOD = {
    "v1 TCP4": (b"PROXY TCP4 192.0.2.7 198.51.100.1 56324 25\r\n", ENDS_V4),
    "v1 TCP6": (b"PROXY TCP6 2001:DB8:0::7 2001:db8::1 56324 25\r\n", ENDS_V6),
    "v1 mapped": (
        b"PROXY TCP6 ::ffff:192.0.2.7 ::FFFF:c633:6401 56324 25\r\n",
        ENDS_V4,
    ),
    "v1 longest": (LONG_V1, (("ffff:" * 7 + "ffff", 65535),) * 2),
    "v1 ports": (b"PROXY TCP4 1.1.1.1 2.2.2.2 0 65535\r\n", (("1.1.1.1", 0), ("2.2.2.2", 65535))),
    "v1 UNKNOWN": (b"PROXY UNKNOWN\r\n", NONE),
    "v1 UNKNOWN and more": (b"PROXY UNKNOWN ffff::1 what ever 1 2\r\n", NONE),
    "v2 TCP4": (v2(0x21, 0x11, V4), ENDS_V4),
    "v2 TCP6": (v2(0x21, 0x21, V6), ENDS_V6),
    "v2 mapped": (
        v2(0x21, 0x21, ends("::ffff:192.0.2.7", "::ffff:198.51.100.1")),
        ENDS_V4,
    ),
    "v2 TLVs": (v2(0x21, 0x11, V4 + TLVS), ENDS_V4),
    "v2 longest": (v2(0x21, 0x21, V6 + bytes(536 - 16 - 36)), ENDS_V6),
    "v2 UNSPEC": (v2(0x21, 0x00, b""), NONE),
    "v2 UNSPEC and more": (v2(0x21, 0x00, V4), NONE),
    "v2 LOCAL": (v2(0x20, 0x00, b""), NONE),
    "v2 LOCAL with addresses": (v2(0x20, 0x11, V4 + TLVS), NONE),
    "v2 LOCAL of any family": (v2(0x20, 0xFF, b"x"), NONE),
}

BAD = {
    "mail": b"EHLO client.example\r\n",
    "nothing but a line end": b"\r\nEHLO x\r\n",
    "lower case": b"proxy TCP4 1.1.1.1 2.2.2.2 1 2\r\n",
    "tab": b"PROXY\tTCP4 1.1.1.1 2.2.2.2 1 2\r\n",
    "two spaces": b"PROXY  TCP4 1.1.1.1 2.2.2.2 1 2\r\n",
    "space at the end": b"PROXY TCP4 1.1.1.1 2.2.2.2 1 2 \r\n",
    "bare LF": b"PROXY TCP4 1.1.1.1 2.2.2.2 1 2\n",
    "bare CR": b"PROXY TCP4 1.1.1.1\r2.2.2.2 1 2\r\n",
    "CR CR LF": b"PROXY TCP4 1.1.1.1 2.2.2.2 1 2\r\r\n",
    "UNKNOWN with a control character": b"PROXY UNKNOWN \x00\r\n",
    "UNKNOWN with 8-bit": b"PROXY UNKNOWN \xff\r\n",
    "UNKNOWN run together": b"PROXY UNKNOWNx\r\n",
    "UNKNOWN bare LF": b"PROXY UNKNOWN\n",
    "UDP4": b"PROXY UDP4 1.1.1.1 2.2.2.2 1 2\r\n",
    "TCP5": b"PROXY TCP5 1.1.1.1 2.2.2.2 1 2\r\n",
    "no family": b"PROXY \r\n",
    "v6 in TCP4": b"PROXY TCP4 ::1 ::2 1 2\r\n",
    "mapped in TCP4": b"PROXY TCP4 ::ffff:1.1.1.1 2.2.2.2 1 2\r\n",
    "v4 in TCP6": b"PROXY TCP6 1.1.1.1 2.2.2.2 1 2\r\n",
    "mixed": b"PROXY TCP6 ::1 2.2.2.2 1 2\r\n",
    "three numbers": b"PROXY TCP4 1.1.1 2.2.2.2 1 2\r\n",
    "256": b"PROXY TCP4 1.1.1.256 2.2.2.2 1 2\r\n",
    "leading zero": b"PROXY TCP4 1.1.1.01 2.2.2.2 1 2\r\n",
    "zone": b"PROXY TCP6 fe80::1%eth0 ::2 1 2\r\n",
    "two gaps": b"PROXY TCP6 1::2::3 ::2 1 2\r\n",
    "long address": b"PROXY TCP4 " + b"1" * 46 + b" 2.2.2.2 1 2\r\n",
    "port too large": b"PROXY TCP4 1.1.1.1 2.2.2.2 65536 2\r\n",
    "second port too large": b"PROXY TCP4 1.1.1.1 2.2.2.2 1 99999\r\n",
    "port with leading zero": b"PROXY TCP4 1.1.1.1 2.2.2.2 01 2\r\n",
    "port with sign": b"PROXY TCP4 1.1.1.1 2.2.2.2 +1 2\r\n",
    "port of other digits": "PROXY TCP4 1.1.1.1 2.2.2.2 \u0661 2\r\n".encode(),
    "port missing": b"PROXY TCP4 1.1.1.1 2.2.2.2 1\r\n",
    "one octet too long": LONG_V1.replace(b"\r\n", b"").ljust(106) + b"\r\n",
    "no end": b"PROXY UNKNOWN " + b"x" * 93,
    "v2 version 1": v2(0x11, 0x11, V4),
    "v2 version 3": v2(0x31, 0x11, V4),
    "v2 command 2": v2(0x22, 0x11, V4),
    "v2 UDP": v2(0x21, 0x12, V4),
    "v2 UNIX": v2(0x21, 0x31, bytes(216)),
    "v2 family 4": v2(0x21, 0x41, V4),
    "v2 transport 0": v2(0x21, 0x10, V4),
    "v2 TCP4 too short": v2(0x21, 0x11, V4[:-1]),
    "v2 TCP6 too short": v2(0x21, 0x21, V4),
    "v2 too long": v2(0x21, 0x11, V4, 521),
    "v2 as long as can be": v2(0x20, 0x11, b"", 65535),
    "v2 broken signature": SIGNATURE[:-1] + b"\r" + v2(0x21, 0x11, V4)[12:],
}


def read(pieces: list[bytes]) -> tuple[ProxyHeader, bytes]:
    """The header and what is left behind it; the buffer is overwritten after each piece."""
    header, rest = ProxyHeader(), b""
    for piece in pieces:
        if header.is_complete:
            rest += piece
            continue
        scratch = bytearray(piece)
        used = header.feed(memoryview(scratch))
        assert 0 <= used <= len(piece)
        assert header.is_complete or used == len(piece)
        rest += piece[used:]
        scratch[:] = b"!" * len(scratch)
    return header, rest


def feed_all(header: ProxyHeader, pieces: list[bytes]) -> None:
    for piece in pieces:
        header.feed(piece)


def cuts(octets: bytes) -> list[list[bytes]]:
    whole = [[octets], [octets[at : at + 1] for at in range(len(octets))]]
    return whole + [[octets[:at], octets[at:]] for at in range(1, len(octets))]


@pytest.mark.parametrize("name", GOOD)
def test_header_is_read_however_it_comes(name: str) -> None:
    octets, expected = GOOD[name]
    for tail, pieces in itertools.chain(
        ((b"", pieces) for pieces in cuts(octets)),
        ((TAIL, pieces) for pieces in cuts(octets + TAIL)),
    ):
        header, rest = read(pieces)
        assert header.is_complete
        assert (header.source, header.destination) == expected
        assert header.is_local == name.startswith("v2 LOCAL")
        assert rest == tail


@pytest.mark.parametrize("name", GOOD)
def test_header_that_is_not_whole_says_nothing(name: str) -> None:
    octets, _ = GOOD[name]
    for size in range(len(octets)):
        header, rest = read([octets[:size]])
        assert not header.is_complete
        assert (header.source, header.destination, header.is_local, rest) == (*NONE, False, b"")


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_header_is_refused_however_it_comes(name: str) -> None:
    for pieces in cuts(BAD[name]) + cuts(BAD[name] + TAIL):
        header = ProxyHeader()
        with pytest.raises(ProxyProblem) as first:
            feed_all(header, pieces)
        assert (header.is_complete, header.source, header.destination) == (False, None, None)
        with pytest.raises(ProxyProblem) as again:
            header.feed(GOOD["v2 TCP4"][0])
        assert str(again.value) == str(first.value)


@pytest.mark.parametrize("name", ["mail", "lower case", "tab", "v2 broken signature"])
def test_foreign_octets_are_refused_at_the_first_that_differs(name: str) -> None:
    octets = BAD[name]
    model = SIGNATURE if octets[:1] == b"\r" else b"PROXY "
    same = next(at for at in range(len(octets)) if octets[at] != model[at])
    header = ProxyHeader()
    feed_all(header, [octets[at : at + 1] for at in range(same)])
    with pytest.raises(ProxyProblem, match="no PROXY header"):
        header.feed(octets[same : same + 1])


def test_flood_is_not_kept() -> None:
    header = ProxyHeader()
    with pytest.raises(ProxyProblem, match="too long"):
        header.feed(b"PROXY UNKNOWN " + b"x" * 1_000_000)
    assert len(header._head) <= 536


def test_nothing_is_fed_after_the_header() -> None:
    header, _ = read([b"PROXY UNKNOWN\r\n"])
    with pytest.raises(RuntimeError, match="after"):
        header.feed(b"")
