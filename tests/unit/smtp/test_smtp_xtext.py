"""xtext and unitext: vectors, and what holds for any octets."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastmta.smtp.unitext import embed_unicode, encode_unitext
from fastmta.smtp.xtext import decode_xtext, encode_xtext

XTEXT = re.compile(rb"(?:[!-*,-<>-~]|\+[0-9A-F]{2})*")  # RFC 3461 4
UNITEXT = re.compile(rb"(?:[!-*,-<>-\[\]-~]|\\x\{[0-9A-F]{2,6}\})*")  # utf-8-addr-xtext, RFC 6533 3


@pytest.mark.parametrize(
    ("octets", "xtext"),
    [
        (b"Bob@ivory.example", b"Bob@ivory.example"),
        (b"a+b=c", b"a+2Bb+3Dc"),
        (b'"two words"@example', b'"two+20words"@example'),
        (b"\r\n\0\x7f\xff", b"+0D+0A+00+7F+FF"),
        (b"", b""),
    ],
)
def test_xtext(octets: bytes, xtext: bytes) -> None:
    assert encode_xtext(octets) == xtext
    assert decode_xtext(xtext) == octets


@pytest.mark.parametrize(
    "xtext", [b"+", b"+4", b"+4g", b"+2b", b"a+", b"++", b"a=b", b"a b", b"\xe9", b"\x7f"]
)
def test_what_is_no_xtext_is_nothing(xtext: bytes) -> None:
    assert decode_xtext(xtext) is None


@given(st.binary(max_size=60))
def test_xtext_comes_back(octets: bytes) -> None:
    xtext = encode_xtext(octets)
    assert XTEXT.fullmatch(xtext)
    assert decode_xtext(xtext) == octets


@pytest.mark.parametrize(
    ("text", "unitext"),
    [
        ("jörg@bücher.example", rb"j\x{F6}rg@b\x{FC}cher.example"),
        ("用户@例", rb"\x{7528}\x{6237}@\x{4F8B}"),
        ("a+b=c\\d e\x00\U0001f600", rb"a\x{2B}b\x{3D}c\x{5C}d\x{20}e\x{00}\x{1F600}"),
    ],
)
def test_unitext(text: str, unitext: bytes) -> None:
    assert encode_unitext(text.encode()) == unitext


@given(st.binary(max_size=60))
def test_unitext_is_ascii_that_may_be_a_parameter(octets: bytes) -> None:
    assert UNITEXT.fullmatch(encode_unitext(octets))


@given(st.binary(max_size=60))
def test_embedding_changes_nothing_but_what_is_not_ascii(octets: bytes) -> None:
    assert embed_unicode(octets).isascii()
    plain = bytes(octet & 0x7F for octet in octets)
    assert embed_unicode(plain) == plain
