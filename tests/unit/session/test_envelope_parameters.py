"""DSN parameters and SMTPUTF8: into the envelope, or refused with nothing changed."""

from __future__ import annotations

import pytest

from fastmta.message import Message
from fastmta.message.envelope import DSNRequest
from fastmta.session import State
from tests.support.session import Dialog


def sent(mail: bytes, *rcpts: bytes) -> Message:
    it = Dialog().hello()
    for line in (b"MAIL FROM:" + mail, *(b"RCPT TO:" + rcpt for rcpt in rcpts)):
        assert it.codes(line + b"\r\n") == ["250"], line
    it.send(b"DATA\r\n")
    assert it.codes(b"Subject: x\r\n\r\n.\r\n") == ["250"]
    (message,) = it.accept.messages
    return message


def test_without_parameters_there_is_no_request() -> None:
    assert sent(b"<a@b.example>", b"<c@d.example>").envelope.dsn is None


def test_what_was_asked_for_is_kept_by_recipient() -> None:
    envelope = sent(
        b"<a@b.example> RET=hdrs ENVID=QQ+2B1",
        b"<one@d.example>",
        b"<two@d.example> NOTIFY=success,Failure ORCPT=rfc822;two+2Bx@d.example",
        b"<three@d.example> NOTIFY=never",
    ).envelope
    assert envelope.dsn is not None
    assert (envelope.dsn.returned, envelope.dsn.envelope_id) == ("HDRS", b"QQ+2B1")
    assert envelope.dsn.notify == ("", "SUCCESS,FAILURE", "NEVER")
    assert envelope.dsn.original_recipients[0] == envelope.dsn.original_recipients[2] == b""
    assert envelope.dsn.original_recipients[1].endswith(b";two+2Bx@d.example")


def test_a_recipient_that_is_named_twice_is_asked_for_once() -> None:
    envelope = sent(
        b"<a@b.example>", b"<one@d.example> NOTIFY=NEVER", b"<one@d.example>", b"<two@d.example>"
    ).envelope
    assert envelope.forward_paths == (b"one@d.example", b"two@d.example")
    assert envelope.dsn == DSNRequest(notify=("NEVER", ""), original_recipients=(b"", b""))


@pytest.mark.parametrize(
    "parameter",
    [b"RET=ALL", b"RET", b"ENVID=a b", b"ENVID=+00", b"ENVID=+0D+0A", b"ENVID=" + b"x" * 101,
     b"SMTPUTF8=1", b"AUTH=a b", b"AUTH=+0", b"RET=FULL RET=HDRS", b"NOTIFY=NEVER", b"X=1"],
)  # fmt: skip
def test_bad_parameters_of_mail_leave_no_transaction(parameter: bytes) -> None:
    it = Dialog().hello()
    (code,) = it.codes(b"MAIL FROM:<a@b.example> " + parameter + b"\r\n")
    assert code in ("501", "555")
    assert it.session.state is State.READY
    assert it.codes(b"MAIL FROM:<a@b.example>\r\n") == ["250"]
    assert it.session.transaction.envelope_id == b""


@pytest.mark.parametrize(
    "parameter",
    [b"NOTIFY=NEVER,FAILURE", b"NOTIFY=", b"NOTIFY=FAILURE,NEVER", b"ORCPT=rfc822", b"RET=FULL",
     b"ORCPT=rfc822;a+0Ab", b"ORCPT=;a@b", b"ORCPT=rfc822;" + b"x" * 600, b"SIZE=1"],
)  # fmt: skip
def test_bad_parameters_of_rcpt_add_no_recipient(parameter: bytes) -> None:
    it = Dialog().hello()
    it.send(b"MAIL FROM:<a@b.example>\r\n")
    (code,) = it.codes(b"RCPT TO:<c@d.example> " + parameter + b"\r\n")
    assert code in ("501", "555")
    assert it.session.state is State.MAIL
    assert it.session.transaction.forward_paths == {}


def test_auth_parameter_is_understood_and_not_believed() -> None:
    for value in (b"<>", b"user+2Bx@b.example"):
        assert sent(b"<a@b.example> AUTH=" + value, b"<c@d.example>").envelope.client.login == ""


def test_addresses_beyond_ascii_need_smtputf8() -> None:
    it = Dialog().hello()
    assert it.codes("MAIL FROM:<grün@b.example>\r\n".encode()) == ["553"]
    assert it.codes(b"MAIL FROM:<a@b.example>\r\n") == ["250"]
    assert it.codes("RCPT TO:<grün@b.example>\r\n".encode()) == ["553"]


def test_with_smtputf8_they_are_kept_and_said_in_the_trace() -> None:
    message = sent("<grün@bücher.example> SMTPUTF8".encode(), "<blau@bücher.example>".encode())
    envelope = message.envelope
    assert envelope.is_utf8
    assert envelope.reverse_path == "grün@xn--bcher-kva.example".encode()
    assert envelope.forward_paths == (b"blau@xn--bcher-kva.example",)
    assert b"with UTF8SMTP id" in (message.content or b"")


def test_smtputf8_ends_with_its_transaction() -> None:
    it = Dialog().hello()
    it.send("MAIL FROM:<grün@b.example> SMTPUTF8\r\n".encode())
    it.send(b"RSET\r\n")
    it.send(b"MAIL FROM:<a@b.example>\r\n")
    assert it.codes("RCPT TO:<grün@b.example>\r\n".encode()) == ["553"]
