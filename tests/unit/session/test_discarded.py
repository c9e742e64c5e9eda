"""EHLO keywords that are not shown: what they stand for is not there, either."""

from __future__ import annotations

import pytest

from fastmta.session import SessionSettings
from tests.support.session import HOSTNAME, Dialog, FakeAuthenticate, accepting


def dialog(*keywords: str) -> Dialog:
    settings = SessionSettings(HOSTNAME, has_auth=True, has_tls=True, discarded=frozenset(keywords))
    return Dialog(settings=settings, authenticate=FakeAuthenticate([accepting()])).hello()


def within(*keywords: str) -> Dialog:
    """The same inside TLS, where one more is offered."""
    return dialog(*keywords).start_tls()


@pytest.mark.parametrize(
    ("keyword", "octets", "codes"),
    [
        ("STARTTLS", b"STARTTLS\r\n", ["502"]),
        ("AUTH", b"AUTH PLAIN AAAA\r\n", ["503"]),
        ("VRFY", b"VRFY x\r\n", ["502"]),
        ("CHUNKING", b"BDAT 6 LAST\r\nQUIT\r\nNOOP\r\n", ["502", "250"]),
        ("DSN", b"MAIL FROM:<a@b.example> RET=FULL\r\n", ["555"]),
        ("DSN", b"MAIL FROM:<>\r\nRCPT TO:<c@d.example> NOTIFY=NEVER\r\n", ["250", "555"]),
        ("SMTPUTF8", b"MAIL FROM:<a@b.example> SMTPUTF8\r\n", ["555"]),
        ("SIZE", b"MAIL FROM:<a@b.example> SIZE=1\r\n", ["555"]),
        ("8BITMIME", b"MAIL FROM:<a@b.example> BODY=7BIT\r\n", ["555"]),
        ("REQUIRETLS", b"MAIL FROM:<a@b.example> REQUIRETLS\r\n", ["555"]),
        ("PIPELINING", b"NOOP\r\nNOOP\r\n", ["554"]),
    ],
)  # fmt: skip
def test_it_is_hidden_and_gone(keyword: str, octets: bytes, codes: list[str]) -> None:
    it = within(keyword) if keyword == "REQUIRETLS" else dialog(keyword)
    shown = it.send(b"EHLO c\r\n")
    assert not [line for line in shown if line[4:].split(" ")[0] == keyword]
    assert it.codes(octets) == codes
    other = within() if keyword == "REQUIRETLS" else dialog()
    assert other.codes(octets) != codes


def test_a_chunk_in_one_flight_is_no_pipelining() -> None:
    it = dialog("PIPELINING")
    it.send(b"MAIL FROM:<a@b.example>\r\n")
    it.send(b"RCPT TO:<c@d.example>\r\n")
    assert it.codes(b"BDAT 4 LAST\r\nab\r\n") == ["250"]
