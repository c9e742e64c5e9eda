"""STARTTLS (RFC 3207): what was said in clear is forgotten, what came too early is refused."""

from __future__ import annotations

import pytest

from fastmta.event.security import TlsStarted
from fastmta.session import SessionSettings, State
from fastmta.smtp.tls import TlsFacts
from fastmta.smtp.use import Use
from tests.support.session import HOSTNAME, TLS, Dialog, FakeQuota

OFFERED = SessionSettings(HOSTNAME, has_tls=True)
REQUIRED = SessionSettings(HOSTNAME, has_tls=True, is_tls_required=True)


def test_it_is_offered_once() -> None:
    it = Dialog(settings=OFFERED)
    assert "250-STARTTLS" in it.send(b"EHLO c\r\n")
    it.start_tls()
    assert "250-STARTTLS" not in it.send(b"EHLO c\r\n")
    assert it.send(b"STARTTLS\r\n") == ["554 5.5.1 Error: TLS already active"]


def test_where_there_is_no_tls_it_is_not_implemented() -> None:
    assert Dialog().hello().send(b"STARTTLS\r\n") == ["502 5.5.1 Error: command not implemented"]


def test_an_argument_is_a_syntax_error() -> None:
    assert Dialog(settings=OFFERED).hello().codes(b"STARTTLS now\r\n") == ["501"]


@pytest.mark.parametrize("tail", [b"\r\n", b"x", b"NOOP\r\n", b"EHLO c\r\n", b"\x16\x03\x01"])
def test_octets_behind_it_end_the_session(tail: bytes) -> None:
    it = Dialog(settings=OFFERED).hello()
    assert it.send(b"STARTTLS\r\n" + tail) == ["554 5.5.0 Error: SMTP protocol synchronization"]
    assert it.session.is_closing
    assert not it.session.is_starting_tls


def test_all_that_was_said_in_clear_is_forgotten() -> None:
    it = Dialog(settings=OFFERED).hello()
    it.send(b"MAIL FROM:<a@b.example> SIZE=1000\r\n")
    it.send(b"RCPT TO:<c@d.example>\r\n")
    assert it.codes(b"STARTTLS\r\n") == ["220"]
    it.session.tls_started(TLS)
    assert it.session.state is State.CONNECTED
    assert it.codes(b"MAIL FROM:<a@b.example>\r\n") == ["503"]
    assert it.codes(b"EHLO c\r\n") == ["250"]
    assert it.codes(b"RCPT TO:<c@d.example>\r\n") == ["503"]
    assert it.session.transaction.declared_octets == 0


def test_mail_over_tls_says_so_in_its_received_field() -> None:
    it = Dialog(settings=OFFERED).start_tls()
    it.send(b"MAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\nDATA\r\n")
    assert it.codes(b"\r\n.\r\n") == ["250"]
    (message,) = it.accept.messages
    assert message.content is not None
    assert (
        b"\t(using TLSv1.3 with cipher TLS_AES_256_GCM_SHA384 (256/256 bits))\r\n"
        in message.content
    )
    assert b"with ESMTPS id" in message.content
    assert [event for event in it.events if isinstance(event, TlsStarted)] == [
        TlsStarted("unknown[127.0.0.1]", TLS)
    ]


@pytest.mark.parametrize(
    "line", [b"MAIL FROM:<a@b.example>", b"RCPT TO:<a@b.example>", b"DATA", b"AUTH PLAIN AAAA",
             b"VRFY a", b"XCLIENT ADDR=192.0.2.1", b"HELP"]
)  # fmt: skip
def test_where_tls_is_required_nothing_else_comes_before_it(line: bytes) -> None:
    it = Dialog(settings=REQUIRED).hello()
    assert it.send(line + b"\r\n") == ["530 5.7.0 Must issue a STARTTLS command first"]
    for harmless in (b"NOOP", b"RSET", b"EHLO c"):
        assert it.codes(harmless + b"\r\n") == ["250"]
    it.start_tls()
    assert it.codes(b"MAIL FROM:<a@b.example>\r\n") == ["250"]
    assert it.codes(b"QUIT\r\n") == ["221"]


def test_octets_of_a_bdat_before_required_tls_are_no_commands() -> None:
    it = Dialog(settings=REQUIRED).hello()
    assert it.codes(b"BDAT 6\r\nQUIT\r\nNOOP\r\n") == ["530", "250"]


def test_a_client_that_began_too_many_sessions_is_turned_away() -> None:
    it = Dialog("192.0.2.1", OFFERED, quota=FakeQuota({Use.TLS: 0})).hello()
    assert it.send(b"STARTTLS\r\n") == [
        f"421 4.7.0 {HOSTNAME} Error: too many new TLS sessions from unknown[192.0.2.1]"
    ]
    assert it.session.is_closing


def test_a_known_certificate_may_send_to_anyone_and_another_may_not() -> None:
    known, other = "ab" * 32, "cd" * 32
    for fingerprint, code in ((known, "250"), (other, "554"), ("", "554")):
        it = Dialog("192.0.2.1", OFFERED, fingerprints=[known])
        it.start_tls(TlsFacts("TLSv1.3", "X", 256, "", fingerprint))
        it.send(b"MAIL FROM:<a@b.example>\r\n")
        assert it.codes(b"RCPT TO:<c@anywhere.example>\r\n") == [code], fingerprint


def test_a_known_certificate_stands_for_a_login() -> None:
    settings = SessionSettings(HOSTNAME, has_tls=True, is_login_required=True)
    it = Dialog("192.0.2.1", settings, fingerprints=["ab" * 32])
    it.start_tls(TlsFacts("TLSv1.3", "X", 256, "", "ab" * 32))
    assert it.codes(b"MAIL FROM:<a@b.example>\r\n") == ["250"]
