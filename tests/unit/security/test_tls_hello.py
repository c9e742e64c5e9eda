"""The server name in a ClientHello: real ones, odd ones, pieces of them."""

from __future__ import annotations

import hashlib
import ssl

import pytest

from fastmta.security.hello import scan_server_name


def real_hello(name: str | None) -> bytes:
    outgoing = ssl.MemoryBIO()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    with pytest.raises(ssl.SSLWantReadError):
        context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname=name).do_handshake()
    return outgoing.read()


def sized(octets: bytes, count: int) -> bytes:
    return len(octets).to_bytes(count, "big") + octets


def message(name: bytes, kind: int = 0, before: bytes = b"") -> bytes:
    """A handshake message with `name` in its server_name extension, behind other extensions."""
    listed = sized(bytes([kind]) + sized(name, 2), 2)
    extensions = before + b"\0\0" + sized(listed, 2) + b"\0\x2b" + sized(b"\x02\x03\x04", 2)
    body = b"\x03\x03" + bytes(32) + sized(bytes(32), 1) + sized(b"\x13\x02", 2) + b"\x01\0"
    return b"\x01" + sized(body + sized(extensions, 2), 3)


def hello(octets: bytes, record_octets: int = 16384) -> bytes:
    pieces = [octets[i : i + record_octets] for i in range(0, len(octets), record_octets)]
    return b"".join(b"\x16\x03\x01" + sized(piece, 2) for piece in pieces)


@pytest.mark.parametrize("name", ["mx.example.org", "a", "x-1.y_2.example"])
def test_name_of_a_real_client(name: str) -> None:
    octets = real_hello(name)
    assert scan_server_name(octets) == name
    assert scan_server_name(octets + b"\x16 and more") == name
    for end in range(len(octets)):
        assert scan_server_name(octets[:end]) is None


def test_real_client_that_names_nobody() -> None:
    assert scan_server_name(real_hello(None)) == ""
    assert scan_server_name(real_hello("192.0.2.1")) == ""


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (b"MX.Example.ORG", "mx.example.org"),
        (b"mx.example.org.", "mx.example.org"),
        (b"xn--bcher-kva.example", "xn--bcher-kva.example"),
        (b"b\xc3\xbccher.example", ""),
        (b"a" * 253, "a" * 253),
        (b"a" * 255, ""),
        (b"a" * 5000, ""),
        (b"", ""),
        (b".", ""),
        (b"a..b", ""),
        (b".a", ""),
        (b"a\0.example", ""),
        (b"a\r\nb", ""),
        (b"a\n", ""),
        (b"a b", ""),
        (b"*.example.org", ""),
        (b"evil\\", ""),
    ],
)
def test_names(name: bytes, expected: str) -> None:
    assert scan_server_name(hello(message(name))) == expected


def test_names_of_other_kinds_are_ignored() -> None:
    assert scan_server_name(hello(message(b"mx.example.org", kind=1))) == ""


def test_name_behind_many_extensions() -> None:
    before = b"\xfa\xfa\0\0" * 3000
    assert scan_server_name(hello(message(b"mx.example.org", before=before))) == "mx.example.org"


def test_hello_over_several_records() -> None:
    octets = message(b"mx.example.org")
    for size in range(-(-len(octets) // 8), len(octets)):
        assert scan_server_name(hello(octets, size)) == "mx.example.org"
    assert scan_server_name(hello(octets, 1)) == ""  # OpenSSL may take it: the default is shown
    assert scan_server_name(hello(octets, 3)) == ""


def test_hello_in_small_records_by_octets() -> None:
    octets = hello(message(b"mx.example.org"), 20)
    for end in range(len(octets)):
        assert scan_server_name(octets[:end]) is None
    assert scan_server_name(octets) == "mx.example.org"


@pytest.mark.parametrize(
    "octets",
    [
        b"EHLO",
        b"\x80\x2e\x01\x03\x01",  # the ClientHello of SSL 2
        b"\x15\x03\x01\x00\x02\x02\x28",
        b"\x16\x03\x01\x00\x00",
        b"\x16\x03\x01\x40\x01",
        b"\x16\x03\x01\x00\x10\x02",
        b"\x16\x03\x01\x00\x10\x01\x00\x40\x01",
    ],
)
def test_what_is_no_hello_is_known_at_once(octets: bytes) -> None:
    assert scan_server_name(octets) == ""


def test_octets_kept_are_bounded() -> None:
    """None is never said of more than one hello can be."""
    longest = b"\x16\x03\x01\x40\x00\x01\x00\x40\x00" + bytes(16380)
    assert scan_server_name(longest[:-1]) is None
    assert scan_server_name(longest) is None  # four octets of the message are in the next record
    assert scan_server_name(longest + b"\x16\x03\x01\x00\x04" + bytes(4)) == ""


def test_lengths_that_lie() -> None:
    """Each octet of a hello set to anything: a name, "" or None, and nothing else."""
    octets = bytearray(hello(message(b"mx.example.org")))
    for position in range(len(octets)):
        kept = octets[position]
        for value in range(256):
            octets[position] = value
            name = scan_server_name(octets)
            assert name is None or len(name) < 20
        octets[position] = kept


def test_truncated_body_has_no_name() -> None:
    whole = message(b"mx.example.org")
    for end in range(4, len(whole) - 7):
        short = b"\x01" + sized(whole[4:end], 3)
        assert scan_server_name(hello(short)) == ""


def test_noise() -> None:
    for seed in range(2000):
        noise = hashlib.shake_128(b"%d" % seed).digest(seed % 300)
        scan_server_name(noise)
        scan_server_name(b"\x16\x03\x01\x01\x00\x01\x00\x00\xfc" + noise)
