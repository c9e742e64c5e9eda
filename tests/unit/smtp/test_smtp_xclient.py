"""XCLIENT and XFORWARD: what is taken, and that a fault anywhere leaves nothing."""

import pytest

from fastmta.smtp import Reply
from fastmta.smtp.xclient import (
    XCLIENT_ATTRIBUTES,
    XFORWARD_ATTRIBUTES,
    FrontProblem,
    XClient,
    XForward,
    parse_xclient,
    parse_xforward,
)


def client(argument: bytes) -> XClient:
    found = parse_xclient(argument)
    assert isinstance(found, XClient), found
    return found


def forward(argument: bytes) -> XForward:
    found = parse_xforward(argument)
    assert isinstance(found, XForward), found
    return found


def refused(found: object) -> str:
    assert isinstance(found, FrontProblem), found
    assert isinstance(found.reply, Reply)
    assert found.reply.code == 501
    return found.reply.text


def test_attributes_are_those_of_postfix() -> None:
    assert " ".join(XCLIENT_ATTRIBUTES) == (
        "NAME ADDR PROTO HELO REVERSE_NAME PORT LOGIN DESTADDR DESTPORT"
    )
    assert " ".join(XFORWARD_ATTRIBUTES) == "NAME ADDR PROTO HELO SOURCE PORT IDENT"


def test_everything_at_once() -> None:
    argument = (
        b"NAME=spike.porcupine.example ADDR=168.100.189.2 PORT=45678 PROTO=esmtp HELO=sp+3Dike "
        b"LOGIN=b+C3+B6b+40example.com DESTADDR=IPV6:2001:DB8::25 DESTPORT=25 REVERSE_NAME=a_b.c-d"
    )
    assert client(argument) == XClient(
        name="spike.porcupine.example",
        address="168.100.189.2",
        port=45678,
        protocol="ESMTP",
        helo=b"sp=ike",
        login="böb@example.com",
        destination_address="2001:db8::25",
        destination_port=25,
        reverse_name="a_b.c-d",
    )
    argument = (
        b"NAME=a.example ADDR=IPv6:::1 PORT=1 PROTO=ESMTPSA HELO=[1.2.3.4] IDENT=3QBx+2Bz "
        b"SOURCE=remote"
    )
    assert forward(argument) == XForward(
        name="a.example",
        address="::1",
        port=1,
        protocol="ESMTPSA",
        helo=b"[1.2.3.4]",
        ident="3QBx+z",
        source="REMOTE",
    )


def test_what_is_not_given_is_none() -> None:
    assert client(b"PORT=1") == XClient(port=1)
    assert forward(b"SOURCE=LOCAL") == XForward(source="LOCAL")
    assert XClient().name is XForward().ident is None


def test_what_is_not_known_is_empty() -> None:
    words = b" ".join(b"%b=[UNAVAILABLE]" % name.encode() for name in XCLIENT_ATTRIBUTES)
    found = client(words.replace(b" PROTO=[UNAVAILABLE]", b""))
    assert found == XClient(
        name="",
        address="",
        port=0,
        helo=b"",
        login="",
        destination_address="",
        destination_port=0,
        reverse_name="",
    )
    words = b" ".join(b"%b=[unavailable]" % name.encode() for name in XFORWARD_ATTRIBUTES)
    assert forward(words) == XForward(
        name="", address="", port=0, protocol="", helo=b"", ident="", source=""
    )
    assert client(b"NAME=[TEMPUNAVAIL] REVERSE_NAME=+5BTEMPUNAVAIL+5D") == XClient(
        name="", reverse_name=""
    )
    assert forward(b"NAME=[TEMPUNAVAIL]").name == ""


def test_names_in_any_case_and_any_white_space() -> None:
    assert client(b"  name=a.example\t \tPoRt=5  ") == XClient(name="a.example", port=5)


@pytest.mark.parametrize(
    ("value", "address"),
    [
        (b"192.0.2.1", "192.0.2.1"),
        (b"IPV6:2001:DB8:0:0::1", "2001:db8::1"),
        (b"ipv6:::ffff:192.0.2.1", "192.0.2.1"),
        (b"IPv6:::FFFF:C000:201", "192.0.2.1"),
        (b"IPV6+3A::1", "::1"),
    ],
)
def test_addresses_are_canonical(value: bytes, address: str) -> None:
    assert client(b"ADDR=" + value).address == address
    assert client(b"DESTADDR=" + value).destination_address == address
    assert forward(b"ADDR=" + value).address == address


@pytest.mark.parametrize("argument", [b"", b" ", b"\t \t"])
def test_no_attribute(argument: bytes) -> None:
    expected = "501 5.5.4 Syntax: %s attribute=value..."
    assert refused(parse_xclient(argument)) == expected % "XCLIENT"
    assert refused(parse_xforward(argument)) == expected % "XFORWARD"


@pytest.mark.parametrize("word", [b"NAME", b"NAME=", b"=a", b"=", b"NAME = a"])
def test_no_value(word: bytes) -> None:
    for parse in (parse_xclient, parse_xforward):
        assert refused(parse(b"PORT=1 " + word)) == "501 5.5.4 Error: attribute=value expected"


def test_long_value() -> None:
    assert client(b"LOGIN=" + b"x" * 255).login == "x" * 255
    expected = "501 5.5.4 Error: attribute value too long"
    assert refused(parse_xclient(b"LOGIN=" + b"x" * 256)) == expected
    assert refused(parse_xclient(b"LOGIN=" + b"+41" * 86)) == expected
    assert refused(parse_xforward(b"IDENT=" + b"x" * 10_000)) == expected


@pytest.mark.parametrize("name", [b"IDENT", b"SOURCE", b"X", b"NAM", b"NAME:", b"NAME\xff"])
def test_unknown_attribute_of_xclient(name: bytes) -> None:
    shown = name.decode("ascii", "replace").replace("\ufffd", "?")
    assert refused(parse_xclient(b"ADDR=1.2.3.4 %b=LOCAL" % name)) == (
        f"501 5.5.4 Bad XCLIENT attribute name: {shown}"
    )


@pytest.mark.parametrize("name", [b"LOGIN", b"DESTADDR", b"DESTPORT", b"REVERSE_NAME", b"X"])
def test_unknown_attribute_of_xforward(name: bytes) -> None:
    assert refused(parse_xforward(b"%b=1" % name)) == (
        f"501 5.5.4 Bad XFORWARD attribute name: {name.decode()}"
    )


def test_attribute_given_twice() -> None:
    assert refused(parse_xclient(b"PORT=1 port=1")) == "501 5.5.4 Bad PORT syntax: 1"
    assert refused(parse_xforward(b"NAME=a NAME=b")) == "501 5.5.4 Bad NAME syntax: b"


BAD_VALUES = {
    "NAME": (
        *(b"-a", b"a-", b"a..b", b".a", b"a.", b"1.2.3.4", b"[1.2.3.4]", b"a+20b", b"a/b"),
        *(b"x" * 64, b"f+C3+BC.example", b"[UNAVAILABLE", b"*"),
    ),
    "ADDR": (
        *(b"1.2.3", b"1.2.3.4.5", b"01.2.3.4", b"256.1.1.1", b"::1", b"IPV6:1.2.3.4", b"IPV6:"),
        *(b"IPV6:fe80::1%25eth0", b"IPV6:1::2::3", b"unknown", b"[TEMPUNAVAIL]", b"[1.2.3.4]"),
    ),
    "PORT": (b"65536", b"-1", b"01", b"+2B1", b"1x", b"999999", b"0x1", b"+D9+A1", b"smtp"),
    "HELO": (b"+C3+B6", b"a+00", b"a+0D+0AX-Evil:+20yes", b"a+7F", b"a+09b"),
}
XCLIENT_ONLY = {
    "PROTO": (b"ESMTPS", b"LMTP", b"[UNAVAILABLE]", b"SMTP+20", b"X"),
    "LOGIN": (b"+FF", b"+C3", b"a+0Ab", b"+C2+85", b"+E2+80+A8", b"+ED+A0+80"),
}
XFORWARD_ONLY = {
    "PROTO": (b"E+20S", b"ESMTP;", b"x" * 33),
    "IDENT": (b"+C3+B6", b"a+0D", b"+1B[2J"),
    "SOURCE": (b"BOTH", b"LOCAL+20", b"1"),
}
NO_XTEXT = (b"a+", b"a+4", b"a+4x", b"a+4a", b"a=b", b"\xc3\xb6", b"a\x00", b"a\x7f", b"a\rb", b"+")


@pytest.mark.parametrize("name", [*BAD_VALUES, *XCLIENT_ONLY])
def test_bad_value_of_xclient(name: str) -> None:
    for value in (*{**BAD_VALUES, **XCLIENT_ONLY}[name], *NO_XTEXT):
        text = refused(parse_xclient(b"REVERSE_NAME=good.example %b=%b" % (name.encode(), value)))
        assert text.startswith(f"501 5.5.4 Bad {name} syntax: "), value
        assert text.isascii()
        assert text.isprintable()


@pytest.mark.parametrize("name", [*BAD_VALUES, *XFORWARD_ONLY])
def test_bad_value_of_xforward(name: str) -> None:
    other = b"IDENT" if name != "IDENT" else b"HELO"
    for value in (*{**BAD_VALUES, **XFORWARD_ONLY}[name], *NO_XTEXT):
        text = refused(parse_xforward(b"%b=x %b=%b" % (other, name.encode(), value)))
        assert text.startswith(f"501 5.5.4 Bad {name} syntax: "), value


def test_reverse_name_and_destination_are_checked_as_their_likes() -> None:
    for value in BAD_VALUES["NAME"]:
        assert "Bad REVERSE_NAME" in refused(parse_xclient(b"REVERSE_NAME=" + value))
    for value in BAD_VALUES["ADDR"]:
        assert "Bad DESTADDR" in refused(parse_xclient(b"DESTADDR=" + value))
    for value in BAD_VALUES["PORT"]:
        assert "Bad DESTPORT" in refused(parse_xclient(b"DESTPORT=" + value))
