"""The report of a probe: the only mail about it, and about all of its recipients."""

from __future__ import annotations

import pytest

from fastmta.dsn import NotifyOptions
from fastmta.message import ClientIdentity, Envelope, Message, Outcome, OutcomeKind
from fastmta.message.envelope import DSNRequest
from fastmta.message.report import SUCCESS
from tests.unit.dsn.test_bouncer import ARRIVED_NS, bouncer_of, parse, parts_of

CONTENT = b"From: me@here.test\r\nSubject: probe\r\nTo:\ta@x.test\r\n\r\nbody\r\n"
REMOTE = "mx.test[192.0.2.1]:25"
OK = Outcome(
    OutcomeKind.DELIVERABLE, "2.1.5", "250 2.1.5 Ok", remote=REMOTE, diagnostic="250 2.1.5 Ok"
)
NO = Outcome(
    *(OutcomeKind.UNDELIVERABLE, "5.1.1", "host mx.test[192.0.2.1] said: 550 5.1.1 no"),
    remote=REMOTE,
    diagnostic="550 5.1.1 no",
)
NOBODY = Outcome(OutcomeKind.UNDELIVERABLE, "4.4.1", "connect to mx.test: Connection refused")
ODD = Outcome(OutcomeKind.DELIVERABLE, "5.0.0", "a status of another class\r\nAction: failed")


def probe(
    reverse_path: bytes = b"me@here.test", dsn: DSNRequest | None = None, count: int = 4
) -> Message:
    paths = tuple(b"user%d@x.test" % number for number in range(count))
    envelope = Envelope(reverse_path, paths, ClientIdentity(), dsn=dsn, is_probe=True)
    return Message(b"0000000100000001", envelope, CONTENT, ARRIVED_NS)


def test_it_names_everybody_in_their_order() -> None:
    report = bouncer_of().bounce(probe(), [(3, NOBODY), (1, NO)], [(0, OK), (2, ODD)])
    assert report is not None
    assert report.kind == SUCCESS, "the word in the log, as at Postfix"
    assert (report.envelope.reverse_path, report.envelope.forward_paths) == (
        b"",
        (b"me@here.test",),
    )
    assert not report.envelope.is_probe
    assert report.content is not None
    parsed = parse(report.content)
    assert parsed["Subject"] == "Mail Delivery Status Report"
    assert parsed["Auto-Submitted"] == "auto-replied"
    text, status, headers = [part.get_payload() for part in parts_of(parsed)]
    assert isinstance(status, list)
    assert [dict(group.items()) for group in status[1:]] == [
        {
            "Final-Recipient": "rfc822; user0@x.test",
            "Original-Recipient": "rfc822;user0@x.test",
            "Action": "deliverable",
            "Status": "2.1.5",
            "Remote-MTA": "dns; mx.test",
            "Diagnostic-Code": "smtp; 250 2.1.5 Ok",
        },
        {
            "Final-Recipient": "rfc822; user1@x.test",
            "Original-Recipient": "rfc822;user1@x.test",
            "Action": "undeliverable",
            "Status": "5.1.1",
            "Remote-MTA": "dns; mx.test",
            "Diagnostic-Code": "smtp; 550 5.1.1 no",
        },
        {
            "Final-Recipient": "rfc822; user2@x.test",
            "Original-Recipient": "rfc822;user2@x.test",
            "Action": "deliverable",
            "Status": "2.0.0",
            "Diagnostic-Code": "X-Postfix; a status of another class Action: failed",
        },
        {
            "Final-Recipient": "rfc822; user3@x.test",
            "Original-Recipient": "rfc822;user3@x.test",
            "Action": "undeliverable",
            "Status": "4.4.1",
            "Diagnostic-Code": "X-Postfix; connect to mx.test: Connection refused",
        },
    ]
    assert isinstance(text, str)
    said = text.replace("\r\n", "\n").replace("\n    ", " ")
    assert f"<user0@x.test>: delivery via {REMOTE}: 250 2.1.5 Ok\n" in said
    assert "<user3@x.test>: connect to mx.test: Connection refused\n" in said
    assert "have the message" not in said
    assert str(headers).startswith("Return-Path: <me@here.test>")
    assert "Subject: probe" in str(headers)
    assert b"body" not in report.content
    assert b"Content-Description: Message Headers\r\n" in report.content


@pytest.mark.parametrize("notify", ["NEVER", "SUCCESS", "FAILURE"])
def test_notify_is_for_mail(notify: str) -> None:
    assert bouncer_of().bounce(probe(dsn=DSNRequest(notify=(notify,) * 4)), [(0, NO)], [(1, OK)])


def test_nobody_else_is_told() -> None:
    classes = frozenset({"bounce", "2bounce", "delay"})
    bouncer = bouncer_of()
    bouncer.renew(NotifyOptions(postmaster=b"postmaster@here.test", classes=classes))
    for sender in (b"me@here.test", b""):
        assert bouncer.copy(probe(sender), [(0, NO)]) is None
        assert bouncer.delay(probe(sender), [(0, NOBODY)], ARRIVED_NS) is None
    assert bouncer.bounce(probe(b""), [(0, NO)], [(1, OK)]) is None
