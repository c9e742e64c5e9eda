"""Values of parameters of MAIL and RCPT, and the encoding xtext."""

from typing import Any

import pytest

from fastmta.smtp.parameter import parse_auth, parse_envid, parse_notify, parse_orcpt, parse_ret
from fastmta.smtp.xtext import decode_xtext, encode_xtext
from tests.support.wire import load_cases

CASES = load_cases("parameters")
ORCPT = b"rfc822;"


def parsed(keyword: str, value: bytes, is_utf8: bool) -> str | bytes | None:
    if keyword == "ORCPT":
        return parse_orcpt(value, is_utf8)
    parse = {"RET": parse_ret, "ENVID": parse_envid, "NOTIFY": parse_notify, "AUTH": parse_auth}
    return parse[keyword](value)


@pytest.mark.parametrize("is_utf8", [False, True])
@pytest.mark.parametrize("case", CASES)
def test_parameter_vector(case: Any, is_utf8: bool) -> None:
    value = case["raw"].encode("latin-1") if "raw" in case else case["value"].encode()
    stored: str | bytes | None = case.get("stored")
    if stored is not None and case["keyword"] not in ("RET", "NOTIFY"):
        stored = case["stored"].encode()
    if case.get("needs_utf8") and not is_utf8:
        stored = None
    assert parsed(case["keyword"], value, is_utf8) == stored


@pytest.mark.parametrize(("excess", "is_accepted"), [(0, True), (1, False)])
def test_limits_count_what_is_encoded(excess: int, is_accepted: bool) -> None:
    assert (parse_envid(b"+20" * 33 + b"x" * (1 + excess)) is not None) == is_accepted
    address = b"+20" * 164 + b"x" * (1 + excess)
    assert (parse_orcpt(ORCPT + address) is not None) == is_accepted
    assert (parse_orcpt(b"utf-8;" + b"x" * (494 + excess)) is not None) == is_accepted


@pytest.mark.parametrize("keyword", ["RET", "ENVID", "NOTIFY", "ORCPT", "AUTH"])
def test_no_control_character_gets_through(keyword: str) -> None:
    """Neither as it is nor encoded: what is accepted may stand in a report or a log line."""
    for octet in (*range(32), 127):
        for hidden in (b"%c" % octet, b"+%02X" % octet):
            for value in (hidden, b"a" + hidden, ORCPT + hidden, b"utf-8;a" + hidden):
                assert parsed(keyword, value, True) is None, value
        assert parse_orcpt(b"utf-8;a\\x{%02X}" % octet) is None


def test_long_values_take_linear_time() -> None:
    for hostile in (b"+" * 12_000, b"+2" * 6000, b"\\x{" * 4000, b"," * 12_000, b";" * 12_000):
        for value in (hostile, ORCPT + hostile, b"utf-8;" + hostile):
            for keyword in ("RET", "ENVID", "NOTIFY", "ORCPT"):
                assert parsed(keyword, value, True) is None


def test_xtext_of_every_octet() -> None:
    for octet in range(256):
        octets = bytes((octet,))
        encoded = encode_xtext(octets)
        stands_for_itself = 33 <= octet <= 126 and octets not in (b"+", b"=")
        assert encoded == (octets if stands_for_itself else b"+%02X" % octet)
        assert decode_xtext(encoded) == octets
        assert decode_xtext(b"+%02X" % octet) == octets
        assert decode_xtext(octets) == (octets if stands_for_itself else None)


@pytest.mark.parametrize(
    "octets", [b"+", b"+4", b"+4G", b"+4g", b"+2b", b"a+", b"+ 41", b"a b", b"a\n", b"\xff", b"+-1"]
)
def test_what_is_not_xtext(octets: bytes) -> None:
    assert decode_xtext(octets) is None


def test_xtext_of_a_text() -> None:
    assert encode_xtext("[IPV6:::1] ö=+".encode()) == b"[IPV6:::1]+20+C3+B6+3D+2B"
    assert decode_xtext(b"") == encode_xtext(b"") == b""
