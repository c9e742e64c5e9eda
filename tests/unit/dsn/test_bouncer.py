"""The report as parsers read it, and what nobody may put into it."""

import email
import email.policy
import re
from collections.abc import Callable
from email.message import Message as ParsedMessage

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastmta.dsn import Bouncer
from fastmta.message import (
    NULL_REVERSE_PATH,
    ClientIdentity,
    ContentFile,
    Envelope,
    Message,
    Outcome,
    OutcomeKind,
)

ARRIVED_NS = 1_700_000_000 * 1_000_000_000
NOW_NS = ARRIVED_NS + 3_000_000_000
QUEUE_NS = NOW_NS - 86_400_000_000_000  # the wall clock was set since the start
DSN_ID = b"0000000100000002"
CONTENT = b"Subject: hello\r\nFrom: a@sender.example\r\n\r\nline one\r\n.dot\r\n"
REFUSED = Outcome(
    OutcomeKind.FAILED,
    "5.1.1",
    "host mx.example[192.0.2.1] said: 550 5.1.1 no such user (in reply to RCPT TO command)",
    remote="mx.example[192.0.2.1]:25",
    diagnostic="550 5.1.1 no such user",
)
EXPIRED = Outcome(
    OutcomeKind.EXPIRED, "4.4.1", "connect to mx.example[192.0.2.1]:25: Connection timed out"
)


def message_of(
    content: bytes | None = CONTENT,
    reverse_path: bytes = b"a@sender.example",
    forward_paths: tuple[bytes, ...] = (b"b@example.com", b"c@example.com"),
) -> Message:
    envelope = Envelope(reverse_path, forward_paths, ClientIdentity(), tenant="t1")
    message = Message(b"0000000100000001", envelope, content or b"", ARRIVED_NS)
    message.content = content
    return message


def bouncer_of(
    hostname: str = "mail.example", head: Callable[[ContentFile, int], bytes] | None = None
) -> Bouncer:
    return Bouncer(hostname, lambda: DSN_ID, lambda: NOW_NS, lambda: QUEUE_NS, head)


def report_of(message: Message, *failures: tuple[int, Outcome]) -> Message:
    dsn = bouncer_of().bounce(message, failures or ((0, REFUSED),))
    assert dsn is not None
    assert dsn.content is not None
    check_octets(dsn.content)
    return dsn


def check_octets(content: bytes) -> None:
    """What every report obeys, whatever went into it."""
    assert content.endswith(b"\r\n")
    assert content.count(b"\r") == content.count(b"\n") == content.count(b"\r\n")
    assert b"\0" not in content
    assert max(len(line) for line in content.split(b"\r\n")) <= 998
    parsed = parse(content)
    assert parsed.get_content_type() == "multipart/report"
    assert parsed.get_param("report-type") == "delivery-status"
    assert len(parts_of(parsed)) == 3
    assert not parsed.defects


def parse(content: bytes) -> ParsedMessage:
    return email.message_from_bytes(content)


def parts_of(parsed: ParsedMessage) -> list[ParsedMessage]:
    parts = parsed.get_payload()
    assert isinstance(parts, list)
    return [part for part in parts if isinstance(part, ParsedMessage)]


def test_envelope_of_the_report() -> None:
    dsn = report_of(message_of())
    assert dsn.id == DSN_ID
    assert dsn.envelope.reverse_path == NULL_REVERSE_PATH
    assert dsn.envelope.forward_paths == (b"a@sender.example",)
    assert dsn.envelope.tenant == "t1"
    assert not dsn.envelope.is_8bit
    assert dsn.arrived_at_ns == QUEUE_NS
    assert dsn.size_octets == len(dsn.content or b"")
    assert dsn.message_id_field == b"<0000000100000002@mail.example>"


def test_header_section_of_the_report() -> None:
    content = report_of(message_of()).content or b""
    assert content.startswith(
        b"Received: by mail.example (fastmta)\r\n"
        b"\tid 0000000100000002; Tue, 14 Nov 2023 22:13:23 +0000 (UTC)\r\n"
        b"Date: Tue, 14 Nov 2023 22:13:23 +0000 (UTC)\r\n"
        b"From: Mail Delivery System <MAILER-DAEMON@mail.example>\r\n"
        b"Subject: Undelivered Mail Returned to Sender\r\n"
        b"To: a@sender.example\r\n"
        b"Auto-Submitted: auto-replied\r\n"
    )
    assert parse(content).get_boundary() == "0000000100000002.1700000003/mail.example"


def test_notification_names_the_host_and_every_recipient_with_its_reason() -> None:
    text = parts_of(parse(report_of(message_of(), (0, REFUSED), (1, EXPIRED)).content or b""))[0]
    assert text["Content-Description"] == "Notification"
    payload = str(text.get_payload())
    assert payload.startswith("This is the mail system at host mail.example.")
    assert (
        "<b@example.com>: host mx.example[192.0.2.1] said: 550 5.1.1 no such user (in\r\n"
        "    reply to RCPT TO command)\r\n" in payload
    )
    assert "<c@example.com>: connect to mx.example[192.0.2.1]:25:" in payload


def test_delivery_status_fields() -> None:
    content = report_of(message_of(), (0, REFUSED), (1, EXPIRED)).content or b""
    status = parts_of(parse(content))[1]
    assert status.get_content_type() == "message/delivery-status"
    groups = parts_of(status)
    assert groups[0].items() == [
        ("Reporting-MTA", "dns; mail.example"),
        ("X-Postfix-Queue-ID", "0000000100000001"),
        ("X-Postfix-Sender", "rfc822; a@sender.example"),
        ("Arrival-Date", "Tue, 14 Nov 2023 22:13:20 +0000 (UTC)"),
    ]
    assert groups[1].items() == [
        ("Final-Recipient", "rfc822; b@example.com"),
        ("Original-Recipient", "rfc822;b@example.com"),
        ("Action", "failed"),
        ("Status", "5.1.1"),
        ("Remote-MTA", "dns; mx.example"),
        ("Diagnostic-Code", "smtp; 550 5.1.1 no such user"),
    ]
    assert groups[2]["Action"] == "failed"
    assert groups[2]["Status"] == "4.4.1"
    assert groups[2]["Remote-MTA"] is None
    assert groups[2]["Diagnostic-Code"].startswith("X-Postfix; connect to mx.example")
    assert len(groups) == 3


def test_message_comes_back_whole_behind_return_path() -> None:
    content = report_of(message_of()).content or b""
    assert (
        b"Content-Type: message/rfc822\r\n\r\nReturn-Path: <a@sender.example>\r\n" + CONTENT
        in content
    )
    original = parts_of(parts_of(parse(content))[2])[0]
    assert original["Subject"] == "hello"
    assert original["Return-Path"] == "<a@sender.example>"


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"Subject: x\r\n\r\n" + b"0123456789\r\n" * 5_000, id="large"),
        pytest.param(b"Subject: x\r\n\r\n" + b"x" * 999 + b"\r\n", id="long line"),
    ],
)
def test_only_the_header_section_comes_back(content: bytes) -> None:
    parsed = parse(report_of(message_of(content)).content or b"")
    part = parts_of(parsed)[2]
    assert part.get_content_type() == "text/rfc822-headers"
    assert part.get_payload() == "Return-Path: <a@sender.example>\r\nSubject: x\r\n"


def test_50000_octets_come_back_whole_one_more_does_not() -> None:
    body = (b"x" * 98 + b"\r\n") * 499
    content = b"Subject: " + b"y" * 87 + b"\r\n\r\n" + body
    assert len(content) == 50_000
    whole = parts_of(parse(report_of(message_of(content)).content or b""))[2]
    assert whole.get_content_type() == "message/rfc822"
    cut = parts_of(parse(report_of(message_of(b"z" + content)).content or b""))[2]
    assert cut.get_content_type() == "text/rfc822-headers"


def test_long_header_lines_are_folded() -> None:
    content = b"Subject: " + b"y" * 5_000 + b"\r\nX-Next: 1\r\n\r\n\r\n"
    part = parts_of(parse(report_of(message_of(content)).content or b""))[2]
    returned = email.message_from_string(str(part.get_payload()))
    assert re.sub(r"\r\n ", "", returned["Subject"]) == "y" * 5_000
    assert returned["X-Next"] == "1"


def test_huge_header_section_is_cut_at_a_line() -> None:
    content = b"".join(b"X-%d: %s\r\n" % (n, b"v" * 60) for n in range(3_000)) + b"\r\n"
    dsn = report_of(message_of(content))
    assert dsn.size_octets < 55_000


def test_eight_bit_content_is_declared() -> None:
    dsn = report_of(message_of(b"Subject: x\r\n\r\n\xe4\xf6\r\n"))
    assert dsn.envelope.is_8bit
    parsed = parse(dsn.content or b"")
    assert parsed["Content-Transfer-Encoding"] == "8bit"
    assert parts_of(parsed)[2]["Content-Transfer-Encoding"] == "8bit"
    assert b"\r\n\xe4\xf6\r\n" in (dsn.content or b"")


@pytest.mark.parametrize(
    "content", [b"", b"\r\n", b"\r\nbody\r\n", b"Subject: only\r\n", b"no colon\r\n\r\nx\r\n"]
)
def test_odd_contents(content: bytes) -> None:
    assert content in (report_of(message_of(content)).content or b"")


def test_content_that_is_not_canonical_is_repaired() -> None:
    report_of(message_of(b"Subject: x\n\rbody\r\r\n\nend"))


def test_boundary_is_not_in_the_content() -> None:
    taken = b"--0000000100000002.1700000003/mail.example"
    content = b"Subject: x\r\n\r\n" + taken + b"--\r\n1." + taken[2:] + b"\r\n--1." + taken[2:]
    dsn = report_of(message_of(content + b"\r\n"))
    assert parse(dsn.content or b"").get_boundary() == (
        "2.0000000100000002.1700000003/mail.example"
    )


def test_boundary_fits_for_a_long_host_name() -> None:
    dsn = bouncer_of("very." * 40 + "example").bounce(message_of(), [(0, REFUSED)])
    assert dsn is not None
    assert len(parse(dsn.content or b"").get_boundary() or "") <= 70


EVIL = (
    "550 5.1.1 x\r\n\r\nTo: victim@example\r\nBcc: all\0@example\r\n.\r\n"
    "\x85\u2028\u2029\xff\x1b[31m"
)


def test_peer_text_cannot_end_a_line() -> None:
    outcome = Outcome(
        OutcomeKind.FAILED,
        "5.1.1\r\nX-Evil: 1",
        EVIL,
        remote="evil\r\nX-Evil: 2[192.0.2.1]:25",
        diagnostic=EVIL,
    )
    dsn = report_of(message_of(), (0, outcome))
    content = dsn.content or b""
    for name in (b"To: victim", b"Bcc:", b"X-Evil:"):
        assert b"\n" + name not in content
    assert content.isascii()
    assert len(parts_of(parts_of(parse(content))[1])) == 2


def test_addresses_cannot_end_a_line() -> None:
    evil = b'"a\r\nX-Evil: 1\0\xe4  b"@example.com'
    content = report_of(message_of(reverse_path=evil, forward_paths=(evil,))).content or b""
    assert b"\nX-Evil" not in content
    assert parse(content)["To"] == '"a??X-Evil: 1??  b"@example.com'


def test_reply_of_64_kib_is_cut_and_wrapped() -> None:
    outcome = Outcome(OutcomeKind.FAILED, "5.0.0", "w" * 65_536, diagnostic="a " * 32_768)
    assert report_of(message_of(), (0, outcome)).size_octets < 5_000


def test_thousand_recipients() -> None:
    paths = tuple(b"user%d@example.com" % n for n in range(1_000))
    failures = [(n, REFUSED) for n in range(1_000)]
    dsn = report_of(message_of(forward_paths=paths), *failures)
    assert len(parts_of(parts_of(parse(dsn.content or b""))[1])) == 1_001


def test_null_reverse_path_gets_no_report() -> None:
    assert bouncer_of().bounce(message_of(reverse_path=NULL_REVERSE_PATH), [(0, REFUSED)]) is None


def test_content_must_be_in_memory() -> None:
    with pytest.raises(ValueError, match="content"):
        bouncer_of().bounce(message_of(None), [(0, REFUSED)])


@pytest.mark.parametrize("is_there", [True, False])
def test_of_a_large_message_only_the_header_section_is_asked_for(is_there: bool) -> None:
    message = message_of(None)
    message.file = ContentFile("/spool/big/1-x", 5_000_000, 0, 1)
    asked: list[int] = []

    def head(file: ContentFile, octets: int) -> bytes:
        assert file is message.file
        asked.append(octets)
        return (CONTENT + b"x" * octets)[:octets] if is_there else b""

    dsn = bouncer_of(head=head).bounce(message, [(0, REFUSED)])
    assert dsn is not None
    assert dsn.content is not None
    check_octets(dsn.content)
    assert asked == [50_001]
    original = parts_of(parse(dsn.content))[2]
    assert original.get_content_type() == "text/rfc822-headers"
    assert b"line one" not in dsn.content
    assert (b"Subject: hello" in dsn.content) is is_there


def test_a_large_header_section_is_cut_at_a_line() -> None:
    message = message_of(None)
    message.file = ContentFile("/spool/big/1-x", 5_000_000, 0, 1)
    long = b"".join(b"X-%06d: y\r\n" % number for number in range(10_000))
    bouncer = bouncer_of(head=lambda file, octets: long[:octets])
    dsn = bouncer.bounce(message, [(0, REFUSED)])
    assert dsn is not None
    assert dsn.content is not None
    check_octets(dsn.content)
    fields = re.findall(rb"X-[0-9].*\r\n", dsn.content)
    assert len(fields) == 50_000 // len(b"X-000000: y\r\n")
    assert all(field.endswith(b": y\r\n") for field in fields)


def test_no_report_without_failure() -> None:
    with pytest.raises(ValueError, match="failure"):
        bouncer_of().bounce(message_of(), [])


def test_bounce_detector_finds_the_recipients() -> None:
    bounce = pytest.importorskip("flufl.bounce", reason="needs flufl.bounce")
    dsn = report_of(message_of(), (0, REFUSED), (1, EXPIRED))
    temporary, permanent = bounce.all_failures(parse(dsn.content or b""))
    assert permanent | temporary == {b"b@example.com", b"c@example.com"}
    assert b"b@example.com" in permanent


def test_modern_email_policy_parses_it() -> None:
    content = report_of(message_of(), (0, REFUSED)).content or b""
    parsed = email.message_from_bytes(content, policy=email.policy.SMTP)
    assert parsed["To"].addresses[0].addr_spec == "a@sender.example"
    assert parsed["Subject"] == "Undelivered Mail Returned to Sender"
    assert not parsed["From"].defects


LINES = st.lists(st.binary(max_size=60) | st.binary(min_size=990, max_size=1_010), max_size=8)


@settings(max_examples=150, deadline=None)
@given(LINES, st.text(max_size=300), st.binary(min_size=1, max_size=80), st.text(max_size=80))
def test_whatever_goes_in_a_report_comes_out(
    lines: list[bytes], text: str, address: bytes, remote: str
) -> None:
    octets = b"\r\n".join(line.replace(b"\0", b"") for line in lines)
    outcome = Outcome(OutcomeKind.FAILED, "5.0.0", text, remote=remote, diagnostic=text)
    message = message_of(octets, reverse_path=address, forward_paths=(address,))
    report_of(message, (0, outcome))
