"""What each kind of value takes and refuses, from TOML and from text."""

import pytest

from fastmta.config.address import (
    BindPlace,
    Domain,
    Endpoint,
    Mailbox,
    NextHop,
    Socket,
    TrustedNetwork,
    is_domain,
)
from fastmta.config.kind import (
    Choice,
    FieldName,
    FilePath,
    Integer,
    Kind,
    Listing,
    Mode,
    Number,
    Octets,
    Seconds,
    Watermarks,
)

ACCEPTED: list[tuple[Kind, object, object]] = [
    (Integer(0, 9), 9, 9),
    (Octets(0, 1 << 40), "3 KiB", 3072),
    (Octets(0, 1 << 40), "2GiB", 1 << 31),
    (Octets(0, 1 << 40), "17", 17),
    (Seconds(0, 9), 3, 3.0),
    (Seconds(0, 9), 0.25, 0.25),
    (Domain(), "Example.COM", "example.com"),
    (Domain(may_cover_subdomains=True), ".Example.com", ".example.com"),
    (Domain(may_be_empty=True), "", ""),
    (Mailbox(), "Post.Master@Example.COM", "Post.Master@example.com"),
    (FieldName(), "Resent-BCC", "resent-bcc"),
    (FilePath(may_be_dash=True), "-", "-"),
    (Socket(), "127.0.0.1:0", Endpoint("127.0.0.1", 0)),
    (BindPlace(), "127.0.0.1:24", Endpoint("127.0.0.1", 24)),
    (BindPlace(), "unix:/run//x/../lmtp", Endpoint("/run/lmtp", 0)),
    (BindPlace(), "unix:/" + "x" * 106, Endpoint("/" + "x" * 106, 0)),
    (Mode(), "0660", "0660"),
    (Mode(), "666", "0666"),
    (Socket(), "[::0001]:25", Endpoint("::1", 25)),
    (Socket(port=53), "192.0.2.1", Endpoint("192.0.2.1", 53)),
    (Socket(port=53), "::1", Endpoint("::1", 53)),
    (NextHop(), "Mail.Example", "mail.example"),
    (NextHop(), "mail.example:587", "mail.example:587"),
    (NextHop(), "[Mail.example]:587", "[mail.example]:587"),
    (NextHop(), "192.0.2.1:25", "[192.0.2.1]:25"),
    (NextHop(), "[192.0.2.1]", "[192.0.2.1]"),
    (NextHop(), "[IPv6:2001:db8::1]:25", "[2001:db8::1]:25"),
    (NextHop(), "2001:db8::1", "[2001:db8::1]"),
    (Listing(Integer(0, 9)), [1, 2, 1], (1, 2)),
    (Listing(Domain()), "one.example", ("one.example",)),
    (Watermarks(Seconds(0, 9)), [1, 2, 2], (1.0, 2.0, 2.0)),
    (Watermarks(Number(0, 1), is_falling=True), [0.3, 0.2, 0], (0.3, 0.2, 0.0)),
    (Listing(Domain()), "", ()),
]

REFUSED: list[tuple[Kind, object, str]] = [
    (Kind(), 3, "must be text in quotes"),
    (Kind(), "a\nb", "control characters"),
    (Choice("full", "os"), "fulll", "did you mean full"),
    (Integer(1, 9), 0, "1 to 9"),
    (Integer(1, 9), 10, "1 to 9"),
    (Integer(1, 9), True, "whole number"),
    (Integer(1, 9), 1.0, "whole number"),
    (Octets(0, 99), "1 KiB", "0 to 99"),
    (Octets(0, 9999, step=4096), 4097, "multiple of 4096"),
    (Octets(0, 99), "12 furlongs", "octets or text such as"),
    (Seconds(1, 9), float("nan"), "1 to 9"),
    (Seconds(1, 9), float("inf"), "1 to 9"),
    (Seconds(1, 9), "2h", r"seconds \(7200\)"),
    (Domain(), "", "is not a domain name"),
    (Domain(), "a..b", "is not a domain name"),
    (Domain(), "a.example\n", "control"),
    (Domain(), "-a.example", "is not a domain name"),
    (Domain(), "exämple.com", "is not a domain name"),
    (Domain(), "a" * 64 + ".example", "is not a domain name"),
    (Domain(may_cover_subdomains=True), "*.example.com", "did you mean .example.com"),
    (Mailbox(), "postmaster", "is not a mail address"),
    (Mailbox(), "a b@example.com", "is not a mail address"),
    (FieldName(), "Bcc:", "header field name"),
    (FilePath(), "-", "absolute"),
    (Socket(), "127.0.0.1", "lacks a port"),
    (Socket(), "unix:/run/lmtp", "is not an IP address"),
    (BindPlace(), "unix:run/lmtp", "not the absolute path"),
    (BindPlace(), "unix:", "not the absolute path"),
    (BindPlace(), "unix:/run/", "not the absolute path"),
    (BindPlace(), "unix:/" + "x" * 107, "too long"),
    (BindPlace(), "unix:/" + "é" * 54, "too long"),
    (Mode(), "4755", "not a mode"),
    (Mode(), "668", "not a mode"),
    (Mode(), 0o660, "must be text"),
    (Socket(), ":25", "did you mean 0.0.0.0:25"),
    (Socket(), "*:25", "did you mean 0.0.0.0:25"),
    (Socket(), "localhost:25", "is not an IP address"),
    (Socket(), "127.0.0.1:65536", "port"),
    (Socket(), "127.0.0.1:+5", "port"),
    (Socket(), "[::1:25", "bracket"),
    (Socket(port_least=1), "127.0.0.1:0", "port"),
    (TrustedNetwork(), "10.0.0.0/33", "is not a network"),
    (TrustedNetwork(), "10.0.0.1/8", "did you mean 10.0.0.0/8"),
    (NextHop(), "mail example", "is not a host"),
    (NextHop(), "mail.example:0", "port"),
    (NextHop(), "999.1.1.1", "is not a host"),
    (Listing(Socket(), least=1), [], "must not be empty"),
    (Listing(Integer(0, 9)), [1, "x"], "whole number"),
    (Watermarks(Integer(0, 9)), [1, 2], "three values"),
    (Watermarks(Integer(0, 9)), 1, "three values in brackets"),
    (Watermarks(Integer(0, 9)), [1, 3, 2], "must rise from yellow over red to black"),
    (Watermarks(Integer(0, 9), is_falling=True), [1, 2, 3], "must fall"),
    (Watermarks(Integer(0, 9)), [1, 2, "x"], "whole number"),
]


@pytest.mark.parametrize(("kind", "value", "expected"), ACCEPTED)
def test_accepted(kind: Kind, value: object, expected: object) -> None:
    assert kind.check(value) == expected


@pytest.mark.parametrize(("kind", "value", "message"), REFUSED)
def test_refused(kind: Kind, value: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        kind.check(value)


@pytest.mark.parametrize("text", ["", "+5", "1_0", "5 ", "0x5", "\u0665", "1e3"])
def test_numbers_from_text_are_plain_digits(text: str) -> None:
    for kind in (Integer(0, 99999), Seconds(0, 99999), Octets(0, 99999)):
        with pytest.raises(ValueError, match="must be"):
            kind.from_text(text)


def test_domain_length() -> None:
    assert is_domain(("a" * 63 + ".") * 3 + "a" * 61)
    assert not is_domain(("a" * 63 + ".") * 3 + "a" * 62)
