"""Whatever octets stand behind XCLIENT and XFORWARD: an answer, and nothing unclean in it."""

import re
from ipaddress import ip_address

from hypothesis import given
from hypothesis import strategies as st

from fastmta.smtp.xclient import (
    XCLIENT_ATTRIBUTES,
    XFORWARD_ATTRIBUTES,
    FrontProblem,
    XClient,
    XForward,
    parse_xclient,
    parse_xforward,
)
from fastmta.smtp.xtext import encode_xtext

CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
NAMES = [name.encode() for name in {*XCLIENT_ATTRIBUTES, *XFORWARD_ATTRIBUTES, "X"}]
VALUES = st.one_of(
    st.binary(max_size=20),
    st.binary(max_size=90).map(encode_xtext),
    st.text(max_size=20).map(lambda text: encode_xtext(text.encode("utf-8", "replace"))),
    st.ip_addresses(v=4).map(lambda ip: str(ip).encode()),
    st.ip_addresses(v=6).map(lambda ip: b"IPV6:" + str(ip).encode()),
    st.integers(0, 70000).map(lambda port: b"%d" % port),
    st.sampled_from((b"[UNAVAILABLE]", b"[TEMPUNAVAIL]", b"ESMTP", b"LOCAL", b"host.example")),
)
WORDS = st.tuples(st.sampled_from(NAMES), st.sampled_from((b"=", b"")), VALUES).map(b"".join)
ARGUMENTS = st.one_of(st.lists(WORDS, max_size=4).map(b" ".join), WORDS, st.binary(max_size=60))


@given(ARGUMENTS)
def test_any_octets_have_a_clean_answer(argument: bytes) -> None:
    for parse, kind in ((parse_xclient, XClient), (parse_xforward, XForward)):
        found = parse(argument)
        if isinstance(found, FrontProblem):
            assert found.reply.code == 501
            assert re.fullmatch(rb"[\x20-\x7e]+\r\n", found.reply.octets)
            continue
        assert isinstance(found, kind)
        given_values = [getattr(found, field) for field in found.__struct_fields__]
        assert any(value is not None for value in given_values)
        for value in given_values:
            text = value.decode("ascii") if isinstance(value, bytes) else str(value)
            assert CONTROL.search(text) is None
            assert len(text) <= 255
        for address in (found.address, getattr(found, "destination_address", None)):
            assert not address or str(ip_address(address)) == address
        for port in (found.port, getattr(found, "destination_port", None)):
            assert port is None or 0 <= port <= 65535


@given(st.text(min_size=1, max_size=40).filter(lambda text: CONTROL.search(text) is None))
def test_login_comes_back(login: str) -> None:
    octets = encode_xtext(login.encode())
    found = parse_xclient(b"LOGIN=" + octets)
    if len(octets) > 255:
        assert isinstance(found, FrontProblem)
    else:
        assert found == XClient(login=login)
