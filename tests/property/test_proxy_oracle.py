"""PROXY headers against aiosmtpd's parser: where both accept, they say the same; ours is stricter.

aiosmtpd takes what this one refuses: UDP and UNIX, any TLVs of any size, sloppy ports and lines.
"""

import asyncio
import logging
import struct
from ipaddress import IPv6Address
from typing import Any

from aiosmtpd.proxy_protocol import AF, PROTO, ProxyData, get_proxy
from hypothesis import given, settings
from hypothesis import strategies as st

from fastmta.listener.proxy import ProxyHeader, ProxyProblem

logging.getLogger("mail.debug").setLevel(logging.CRITICAL)

SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
ADDRESSES = st.one_of(
    st.ip_addresses(v=4).map(str),
    st.ip_addresses(v=6).map(str),
    st.ip_addresses(v=6).map(lambda ip: ip.exploded.upper()),
    st.ip_addresses(v=4).map(lambda ip: f"::ffff:{ip}"),
    st.sampled_from(("1.2.3", "01.2.3.4", ":::", "1.2.3.4.5", "", "fe80::1%1")),
)
PORTS = st.one_of(st.integers(0, 70000).map(str), st.sampled_from(("", "01", "-1", "1x", "+1")))
LINES = st.builds(
    lambda *words: " ".join(words).encode() + b"\r\n",
    st.sampled_from(("PROXY", "PROXY", "PROXY", "PROXYx")),
    st.sampled_from(("TCP4", "TCP6", "TCP4", "TCP6", "UNKNOWN", "UDP4", "TCPx4")),
    ADDRESSES,
    ADDRESSES,
    PORTS,
    PORTS,
)
V4, V6 = (st.ip_addresses(v=version).map(str) for version in (4, 6))
GOOD_PORTS = st.integers(0, 65535).map(str)
GOOD_LINES = st.one_of(
    *[
        st.tuples(st.just(f"PROXY {word}"), ends, ends, GOOD_PORTS, GOOD_PORTS).map(
            lambda words: " ".join(words).encode() + b"\r\n"
        )
        for word, ends in (("TCP4", V4), ("TCP6", V6))
    ]
)
BLOCKS = st.builds(
    lambda command, protocol, rest, more: (
        SIGNATURE + struct.pack("!BBH", command, protocol, len(rest) + more) + rest
    ),
    st.sampled_from((0x20, 0x21, 0x21, 0x21, 0x11, 0x22)),
    st.sampled_from((0x00, 0x11, 0x11, 0x21, 0x21, 0x12, 0x31, 0x41)),
    st.one_of(
        st.binary(min_size=12, max_size=12),
        st.binary(min_size=36, max_size=36),
        st.binary(min_size=4, max_size=4).map(lambda v4: (bytes(10) + b"\xff\xff" + v4) * 2 + v4),
        st.binary(max_size=60),
        st.binary(min_size=515, max_size=525),
    ),
    st.sampled_from((0, 0, 0, 0, 1, 5)),
)
HEADERS = st.one_of(GOOD_LINES, LINES, BLOCKS, st.binary(max_size=30))


def canonical(address: Any) -> str:
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return str(mapped or address)


def oracle(octets: bytes) -> ProxyData:
    async def ask() -> ProxyData:
        reader = asyncio.StreamReader()
        reader.feed_data(octets)
        reader.feed_eof()
        return await get_proxy(reader)

    return asyncio.run(ask())


def ours(octets: bytes, cut: int) -> ProxyHeader | None:
    header = ProxyHeader()
    try:
        for piece in (octets[:cut], octets[cut:]):
            if not header.is_complete:
                header.feed(piece)
    except ProxyProblem:
        return None
    return header if header.is_complete else None


@settings(deadline=None, max_examples=300)
@given(HEADERS, st.binary(max_size=10), st.integers(0, 600))
def test_both_say_the_same_of_what_both_accept(header: bytes, tail: bytes, cut: int) -> None:
    found = ours(header + tail, cut)
    if found is None:
        return
    expected = oracle(header + tail)
    if not expected.valid:  # it looks at the family and addresses of LOCAL, which mean nothing
        assert found.is_local, expected.error
        return
    if expected.protocol == PROTO.STREAM and (expected.version == 1 or expected.command == 1):
        assert expected.family in (AF.INET, AF.INET6)
        assert found.source == (canonical(expected.src_addr), expected.src_port)
        assert found.destination == (canonical(expected.dst_addr), expected.dst_port)
    else:
        assert found.source is found.destination is None
        assert found.is_local == (expected.version == 2 and expected.command == 0)


@settings(deadline=None)
@given(GOOD_LINES, st.integers(0, 110))
def test_every_line_of_the_common_form_is_accepted(line: bytes, cut: int) -> None:
    found = ours(line, cut)
    assert found is not None
    assert found.source is not None
