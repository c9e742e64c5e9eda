"""The tests' own reader of reports refuses what is none."""

from __future__ import annotations

import pytest

from fastmta.message.report import DELAY, NON_DELIVERY, SUCCESS
from tests.support.report_checker import BadReport, read_report
from tests.unit.dsn.test_kinds import UTF8_PATHS, UTF8_TEXT, made, message_of

BOUNCE = made(NON_DELIVERY, message_of()).content or b""
LATE = made(DELAY, message_of()).content or b""
SENT = made(SUCCESS, message_of()).content or b""
UTF8 = message_of(UTF8_TEXT, "ü@sender.example".encode(), UTF8_PATHS)
GLOBAL = made(NON_DELIVERY, UTF8).content or b""


@pytest.mark.parametrize("octets", [BOUNCE, LATE, SENT, GLOBAL])
def test_what_is_right_is_read(octets: bytes) -> None:
    assert len(read_report(octets).recipients) == 2


@pytest.mark.parametrize(
    ("octets", "old", "new"),
    [
        (BOUNCE, b"\r\n", b"\n"),
        (BOUNCE, b"line one", b"line\0one"),
        (BOUNCE, b"line one", b"x" * 999),
        (BOUNCE, b"line one", b"line \xe4"),
        (BOUNCE, b"report-type=delivery-status", b"report-type=disposition-notification"),
        (BOUNCE, b"/mail.example--\r\n", b"/mail.example\r\n"),
        (BOUNCE, b"Auto-Submitted: auto-replied\r\n", b""),
        (BOUNCE, b"MIME-Version: 1.0", b"MIME-Version: 1.1"),
        (BOUNCE, b"Content-Description: Notification\r\n", b""),
        (BOUNCE, b"charset=us-ascii", b"charset=latin-1"),
        (BOUNCE, b"message/delivery-status", b"text/plain"),
        (BOUNCE, b"Reporting-MTA: dns; mail.example\r\n", b""),
        (BOUNCE, b"Reporting-MTA: dns; ", b"Reporting-MTA: "),
        (BOUNCE, b"Arrival-Date: Tue", b"Arrival-Date: Yesterday"),
        (BOUNCE, b"Final-Recipient: rfc822; b@", b"Final-Recipient: b@"),
        (BOUNCE, b"Final-Recipient: rfc822; b@example.com\r\n", b""),
        (BOUNCE, b"Action: failed\r\n", b""),
        (BOUNCE, b"Action: failed\r\n", b"Action: failed\r\nAction: failed\r\n"),
        (BOUNCE, b"Action: failed", b"Action: perhaps"),
        (BOUNCE, b"Action: failed", b"Action: delivered"),
        (BOUNCE, b"Status: 5.1.1", b"Status: 2.1.1"),
        (BOUNCE, b"Status: 5.1.1", b"Status: 550"),
        (BOUNCE, b"Status: 5.1.1\r\n", b"Status: 5.1.1\r\nArrival-Date: now\r\n"),
        (BOUNCE, b"Status: 5.1.1\r\n", b"Status: 5.1.1\r\n\r\n"),
        (BOUNCE, b"Status: 5.1.1\r\n", b"Status: 5.1.1\r\nno colon\r\n"),
        (BOUNCE, b"Diagnostic-Code: smtp; ", b"Diagnostic-Code: "),
        (BOUNCE, b"Return-Path: <", b"Errors-To: <"),
        (BOUNCE, b"message/rfc822", b"message/partial"),
        (BOUNCE, b"message/rfc822", b"text/rfc822-headers"),
        (BOUNCE, b"message/rfc822", b"message/global"),
        (LATE, b"Will-Retry-Until: Sun", b"Will-Retry-Until: soon"),
        (LATE, b"Action: delayed\r\nStatus: 4.4.1", b"Action: failed\r\nStatus: 4.4.1"),
        (SENT, b"Action: relayed", b"Action: failed"),
        (GLOBAL, b"Content-Transfer-Encoding: 8bit\r\n", b""),
        (GLOBAL, b"charset=utf-8", b"charset=us-ascii"),
        (GLOBAL, b"message/global-delivery-status", b"message/delivery-status"),
        (GLOBAL, b"; j\xc3\xb6rg@", b"; j\xf6rg@"),
        (GLOBAL, b"Final-Recipient: utf-8; ", b"Final-Recipient: rfc822; "),
        (GLOBAL, b"; j\xc3\xb6rg@", b"; j\xc2\x85rg@"),
    ],
)
def test_what_is_wrong_is_refused(octets: bytes, old: bytes, new: bytes) -> None:
    assert old in octets
    with pytest.raises((BadReport, KeyError, UnicodeDecodeError)):
        read_report(octets.replace(old, new))
