"""Received fields: the keyword, what TLS and a login add, and what no client may put into one."""

import itertools
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastmta.message import ClientIdentity
from fastmta.message.trace import protocol_keyword, received_field, received_prefix
from fastmta.smtp.tls import TlsFacts

GOLDEN = Path(__file__).parents[1] / "journal" / "golden" / "received.txt"
TLS = TlsFacts("TLSv1.3", "TLS_AES_256_GCM_SHA384", 256).text
# The registry of "with" keywords: RFC 3848, RFC 6531 3.7.3.
REGISTERED = {
    *("SMTP", "ESMTP", "ESMTPA", "ESMTPS", "ESMTPSA", "LMTP", "LMTPA", "LMTPS", "LMTPSA"),
    *("UTF8SMTP", "UTF8SMTPA", "UTF8SMTPS", "UTF8SMTPSA"),
    *("UTF8LMTP", "UTF8LMTPA", "UTF8LMTPS", "UTF8LMTPSA"),
}


def identity(
    name: str = "unknown", login: str = "", tls: str = "", **flags: bool
) -> ClientIdentity:
    keyword = protocol_keyword(True, bool(tls), bool(login), **flags)
    return ClientIdentity("127.0.0.1", name, b"client.example", keyword, login, tls)


def test_fields_are_those_of_postfix() -> None:
    clients = [
        identity("other.example"),
        identity(login="joe"),
        identity(login="joe", tls=TLS, is_utf8=True),
        identity(tls=TLS),
        identity(tls=TLS, is_utf8=True),
        identity(),
        identity(is_utf8=True),
    ]
    ours = []
    for client in clients:
        prefix = received_prefix(client, "postfix.test", shows_login=True)
        field = received_field(prefix, b"QID", b"r@example.org", b"DATE").decode("ascii")
        ours.append(field.replace("(fastmta)", "(Postfix)").replace("\r\n", "\n"))
    assert "\n".join(sorted(ours)) == GOLDEN.read_text()


def test_keywords_are_the_registered_ones() -> None:
    made = {protocol_keyword(*flags) for flags in itertools.product((False, True), repeat=5)}
    assert made == REGISTERED


@pytest.mark.parametrize(
    ("flags", "keyword"),
    [
        ((False,), "SMTP"),
        ((False, True, True, True), "SMTP"),  # after HELO nothing of it has a keyword
        ((True,), "ESMTP"),
        ((True, True), "ESMTPS"),
        ((True, False, True), "ESMTPA"),
        ((True, True, True), "ESMTPSA"),
        ((True, True, True, True), "UTF8SMTPSA"),
        ((True, False, False, False, True), "LMTP"),
        ((False, False, False, False, True), "LMTP"),
        ((True, True, False, True, True), "UTF8LMTPS"),
    ],
)
def test_keyword_of(flags: tuple[bool, ...], keyword: str) -> None:
    assert protocol_keyword(*flags) == keyword


def test_a_login_is_shown_only_where_that_is_wanted() -> None:
    assert b"joe" not in received_prefix(identity(login="joe"), "relay.example")
    assert b"Auth" not in received_prefix(identity(), "relay.example", shows_login=True)


def test_a_plain_session_has_the_field_it_always_had() -> None:
    assert received_prefix(ClientIdentity("2001:db8::1", "c.example", b"h"), "relay.example") == (
        b"Received: from h (c.example [IPv6:2001:db8::1])\r\n"
        b"\tby relay.example (fastmta) with ESMTP id "
    )


@given(st.text(max_size=300))
def test_no_login_leaves_its_comment(login: str) -> None:
    """RFC 5322 3.2.2: parentheses and backslashes have a meaning there."""
    prefix = received_prefix(identity(login=login or "x"), "relay.example", shows_login=True)
    comment = rb"Received: [^\r\n]+\r\n\t\(Authenticated sender: [!-'*-\[\]-~]{1,200}\)\r\n"
    assert re.fullmatch(comment + rb"\tby relay\.example \(fastmta\) with ESMTPA id ", prefix)
