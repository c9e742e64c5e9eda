"""Every kind of report, of every kind of message, by three readers."""

from __future__ import annotations

import email
import email.policy
from collections.abc import Sequence

import flufl.bounce
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastmta.dsn import Bouncer, NotifyOptions
from fastmta.message import ClientIdentity, ContentFile, Envelope, Message, Outcome, OutcomeKind
from fastmta.message.envelope import DSNRequest
from fastmta.message.report import (
    DELAY,
    NON_DELIVERY,
    POSTMASTER_DELAY,
    POSTMASTER_NON_DELIVERY,
    SUCCESS,
)
from fastmta.message.report import Report as OwnMail
from tests.support.report_checker import Report, read_report
from tests.unit.dsn.test_bouncer import ARRIVED_NS, DSN_ID, EVIL, NOW_NS, QUEUE_NS, REFUSED

POSTMASTER = b"postmaster@mail.example"
ALL = NotifyOptions(
    postmaster=POSTMASTER, classes=frozenset({"bounce", "2bounce", "delay", "software"})
)
UNTIL_NS = NOW_NS + 400_000 * 1_000_000_000
EVERYTHING = "SUCCESS,FAILURE,DELAY"
PATHS = (b"b@example.com", b"c@example.com")
UTF8_PATHS = ("jörg@bücher.example".encode(), b"c@example.com")
ASCII_TEXT = b"Subject: hello\r\nFrom: a@sender.example\r\n\r\nline one\r\n"
UTF8_TEXT = "Subject: grüße\r\nFrom: ü@sender.example\r\n\r\nzeile eins ä\r\n".encode()
HUGE_TEXT = b"Subject: hello\r\n\r\n" + b"0123456789\r\n" * 60_000
SENT = Outcome(OutcomeKind.DELIVERED, "2.1.5", "250 2.1.5 Ok", remote="mx.example[192.0.2.1]:24")
RELAYED = Outcome(OutcomeKind.DELIVERED, "2.0.0", "250 Ok", is_relayed=True)
LATE = Outcome(OutcomeKind.DEFERRED, "4.4.1", "connect to mx.example[192.0.2.1]:25: timed out")


def bouncer_of(options: NotifyOptions = ALL) -> Bouncer:
    return Bouncer(
        "mail.example",
        lambda: DSN_ID,
        lambda: NOW_NS,
        lambda: QUEUE_NS,
        lambda file, octets: HUGE_TEXT[:octets],
        options,
    )


def message_of(
    content: bytes = ASCII_TEXT,
    reverse_path: bytes = b"a@sender.example",
    paths: tuple[bytes, ...] = PATHS,
    *,
    returned: str = "",
    is_large: bool = False,
) -> Message:
    is_utf8 = not (reverse_path + b"".join(paths) + content).isascii()
    dsn = DSNRequest(returned, b"ID+2B7", (EVERYTHING,) * len(paths))
    envelope = Envelope(reverse_path, paths, ClientIdentity(), is_utf8=is_utf8, dsn=dsn)
    message = Message(b"0000000100000001", envelope, content, ARRIVED_NS)
    if is_large:
        message.content, message.file = None, ContentFile("/big/x", len(content), 0, 1)
    return message


def made(kind: str, message: Message, outcome: Outcome | None = None) -> OwnMail:
    """The report of `kind` about both recipients."""
    bouncer = bouncer_of()
    indices = range(len(message.envelope.forward_paths))
    report = {
        NON_DELIVERY: lambda: bouncer.bounce(message, [(n, outcome or REFUSED) for n in indices]),
        SUCCESS: lambda: bouncer.bounce(message, (), [(0, SENT), (1, outcome or RELAYED)]),
        DELAY: lambda: bouncer.delay(message, [(n, outcome or LATE) for n in indices], UNTIL_NS),
        POSTMASTER_NON_DELIVERY: lambda: bouncer.copy(message, [(n, REFUSED) for n in indices]),
        POSTMASTER_DELAY: lambda: bouncer.copy(message, [(n, LATE) for n in indices], UNTIL_NS),
    }[kind]()
    assert report is not None
    assert report.kind == kind
    assert report.envelope.reverse_path == b""
    return report


def read(report: OwnMail) -> Report:
    """By the checker and by the standard library, which agree."""
    assert report.content is not None
    found = read_report(report.content)
    assert report.envelope.is_8bit is found.is_8bit
    head = report.content.partition(b"\r\n\r\n")[0]
    assert report.envelope.is_utf8 or head.isascii(), "UTF-8 header fields need SMTPUTF8"
    for policy in (email.policy.compat32, email.policy.SMTP):
        parsed = email.message_from_bytes(report.content, policy=policy)
        assert not parsed.defects
        parts = parsed.get_payload()
        assert isinstance(parts, list)
        kinds = [part.get_content_type() for part in parts]
        status = "message/global-delivery-status" if found.is_global else "message/delivery-status"
        assert kinds == ["text/plain", status, found.original_kind.decode()]
    return found


def detected(report: OwnMail) -> tuple[set[bytes], set[bytes]]:
    assert report.content is not None
    temporary, permanent = flufl.bounce.all_failures(email.message_from_bytes(report.content))
    return set(temporary), set(permanent)


KINDS = (NON_DELIVERY, SUCCESS, DELAY, POSTMASTER_NON_DELIVERY, POSTMASTER_DELAY)
ACTIONS = {
    NON_DELIVERY: ["failed", "failed"],
    SUCCESS: ["delivered", "relayed"],
    DELAY: ["delayed", "delayed"],
    POSTMASTER_NON_DELIVERY: ["failed", "failed"],
    POSTMASTER_DELAY: ["delayed", "delayed"],
}
SUBJECTS = {
    NON_DELIVERY: b"Undelivered Mail Returned to Sender",
    SUCCESS: b"Successful Mail Delivery Report",
    DELAY: b"Delayed Mail (still being retried)",
    POSTMASTER_NON_DELIVERY: b"Postmaster Copy: Undelivered Mail",
    POSTMASTER_DELAY: b"Postmaster Warning: Delayed Mail",
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "message",
    [
        pytest.param(message_of(), id="ascii"),
        pytest.param(message_of(HUGE_TEXT), id="huge"),
        pytest.param(message_of(HUGE_TEXT, is_large=True), id="in a file"),
        pytest.param(message_of(returned="HDRS"), id="header section"),
        pytest.param(message_of(returned="FULL"), id="full"),
    ],
)
def test_every_kind_of_an_ascii_message(kind: str, message: Message) -> None:
    report = made(kind, message)
    found = read(report)
    assert [group["action"] for group in found.recipients] == ACTIONS[kind]
    assert found.fields["subject"] == SUBJECTS[kind]
    assert not found.is_global
    assert not found.is_8bit
    assert found.message["original-envelope-id"] == "ID+7"
    assert found.text.startswith("This is the mail system at host mail.example.")
    assert all(f"<{path.decode()}>: " in found.text for path in PATHS)
    dsn = message.envelope.dsn
    assert dsn is not None
    is_small = message.size_octets < 50_000
    is_full = kind == NON_DELIVERY and is_small and dsn.returned != "HDRS"
    assert found.original_kind == (b"message/rfc822" if is_full else b"text/rfc822-headers")
    assert (b"line one" in found.original) is is_full
    assert b"Subject: hello\r\n" in found.original
    temporary, permanent = detected(report)
    assert permanent == (set(PATHS) if "failed" in ACTIONS[kind] else set())
    assert temporary == (set(PATHS) if "delayed" in ACTIONS[kind] else set())


@pytest.mark.parametrize("kind", [DELAY, POSTMASTER_DELAY])
def test_delays_say_until_when_it_is_tried(kind: str) -> None:
    found = read(made(kind, message_of()))
    for group in found.recipients:
        assert group["will-retry-until"] == "Sun, 19 Nov 2023 13:20:03 +0000 (UTC)"
    assert "Sun, 19 Nov 2023 13:20:03 +0000 (UTC)" in found.text


def test_delay_tells_that_nothing_need_be_done() -> None:
    assert "ONLY A WARNING" in read(made(DELAY, message_of())).text


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("field", ["text", "diagnostic", "status", "remote"])
def test_every_kind_with_hostile_replies(kind: str, field: str) -> None:
    values = {"text": "x", "diagnostic": "", "status": "9.9.9", "remote": "none", field: EVIL}
    outcome_kind = {
        "failed": OutcomeKind.FAILED,
        "delayed": OutcomeKind.DEFERRED,
    }.get(ACTIONS[kind][1], OutcomeKind.DELIVERED)
    outcome = Outcome(
        outcome_kind,
        values["status"],
        values["text"],
        remote=values["remote"],
        diagnostic=values["diagnostic"],
    )
    report = made(kind, message_of(), outcome)
    found = read(report)
    assert report.content is not None
    assert report.content.isascii()
    for name in (b"\nTo: victim", b"\nBcc:"):
        assert name not in report.content
    assert len(found.recipients) == 2


@pytest.mark.parametrize("kind", KINDS)
def test_header_fields_and_envelope(kind: str) -> None:
    report = made(kind, message_of())
    fields = read(report).fields
    is_sender = not kind.startswith("postmaster")
    assert report.envelope.forward_paths == ((b"a@sender.example",) if is_sender else (POSTMASTER,))
    daemon = b"MAILER-DAEMON" if is_sender else b"double-bounce"
    assert fields["from"] == b"Mail Delivery System <%b@mail.example>" % daemon
    assert fields["auto-submitted"] == (b"auto-replied" if is_sender else b"auto-generated")
    assert report.message_id_field == fields["message-id"]
    assert report.arrived_at_ns == QUEUE_NS
    assert (report.envelope.dsn is None) is is_sender


# RFC 6533


@pytest.mark.parametrize("kind", [NON_DELIVERY, SUCCESS, DELAY])
def test_utf8_sender_reads_utf8(kind: str) -> None:
    reverse_path = "ü@sender.example".encode()
    report = made(kind, message_of(UTF8_TEXT, reverse_path, UTF8_PATHS))
    found = read(report)
    assert report.envelope.is_utf8
    assert report.envelope.is_8bit
    assert report.envelope.forward_paths == (reverse_path,)
    assert found.fields["to"] == reverse_path
    assert found.is_global
    assert found.recipients[0]["final-recipient"] == "utf-8; jörg@bücher.example"
    assert found.recipients[0]["original-recipient"] == "utf-8;jörg@bücher.example"
    assert found.recipients[1]["final-recipient"] == "rfc822; c@example.com"
    assert found.message["x-postfix-sender"] == "utf-8; ü@sender.example"
    assert "<jörg@bücher.example>: " in found.text
    expected = b"message/global" if kind == NON_DELIVERY else b"message/global-headers"
    assert found.original_kind == expected
    assert "Subject: grüße\r\n".encode() in found.original
    assert found.original.startswith(b"Return-Path: <" + reverse_path + b">\r\n")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("content", "paths"), [(UTF8_TEXT, PATHS), (ASCII_TEXT, UTF8_PATHS), (UTF8_TEXT, UTF8_PATHS)]
)
def test_ascii_sender_of_a_utf8_message_gets_it_in_ascii_octets(
    kind: str, content: bytes, paths: tuple[bytes, ...]
) -> None:
    """Nobody on the way to an ASCII address need know SMTPUTF8, nor even 8BITMIME."""
    report = made(kind, message_of(content, paths=paths))
    found = read(report)
    assert report.content is not None
    assert report.content.isascii()
    assert not report.envelope.is_utf8
    assert not report.envelope.is_8bit
    assert found.is_global
    names = [group["final-recipient"].partition("; ")[2] for group in found.recipients]
    assert names == [path.decode() for path in paths]
    is_global = content is UTF8_TEXT
    assert found.original_kind.startswith(b"message/global") is is_global
    assert content.partition(b"\r\n\r\n")[0] in found.original


def test_smtputf8_message_that_is_ascii_gets_the_classic_form() -> None:
    message = message_of()
    envelope = Envelope(b"a@sender.example", PATHS, ClientIdentity(), is_utf8=True)
    ascii_only = Message(message.id, envelope, ASCII_TEXT, ARRIVED_NS)
    found = read(made(NON_DELIVERY, ascii_only))
    assert not found.is_global
    assert found.original_kind == b"message/rfc822"


def test_utf8_sender_of_an_ascii_message() -> None:
    found = read(made(NON_DELIVERY, message_of(reverse_path="ü@sender.example".encode())))
    assert found.is_global
    assert found.recipients[0]["final-recipient"] == "rfc822; b@example.com"
    assert found.original_kind == b"message/global", "Return-Path is UTF-8"


@pytest.mark.parametrize(
    ("original", "shown"),
    [
        ("utf-8;jörg@x".encode(), "utf-8;jörg@x"),
        (rb"utf-8;j\x{F6}rg@x", r"utf-8;j\x{F6}rg@x"),
        (b"rfc822;a+2Bb@x", "rfc822;a+b@x"),
        ("utf-8;a\u202eb\u2028c\x85@x".encode(), "utf-8;a?b?c?@x"),
    ],
)
def test_original_recipient_of_a_global_report(original: bytes, shown: str) -> None:
    dsn = DSNRequest(original_recipients=(original,))
    sender = "ü@sender.example".encode()
    envelope = Envelope(sender, UTF8_PATHS, ClientIdentity(), is_utf8=True, dsn=dsn)
    message = Message(b"0000000100000001", envelope, ASCII_TEXT, ARRIVED_NS)
    assert read(made(NON_DELIVERY, message)).recipients[0]["original-recipient"] == shown


def test_long_utf8_words_are_cut_by_octets() -> None:
    path = ("ü" * 440 + "@x").encode()
    read(made(NON_DELIVERY, message_of(reverse_path=path, paths=(path, path + b"y"))))


# What the sender asked for


def asked(*notify: str) -> Message:
    paths = tuple(b"r%d@example.com" % n for n in range(len(notify)))
    envelope = Envelope(b"a@sender.example", paths, ClientIdentity(), dsn=DSNRequest(notify=notify))
    return Message(b"0000000100000001", envelope, ASCII_TEXT, ARRIVED_NS)


def named(report: OwnMail | None) -> list[str]:
    if report is None:
        return []
    return [group["final-recipient"][len("rfc822; r")] for group in read(report).recipients]


NOTIFY = ("", "NEVER", "SUCCESS", "FAILURE", "DELAY", "SUCCESS,DELAY", EVERYTHING)


def facts(outcome: Outcome) -> Sequence[tuple[int, Outcome]]:
    return [(index, outcome) for index in range(len(NOTIFY))]


def test_who_hears_of_what() -> None:
    bouncer, message = bouncer_of(), asked(*NOTIFY)
    assert named(bouncer.bounce(message, facts(REFUSED))) == ["0", "3", "6"]
    assert named(bouncer.bounce(message, (), facts(SENT))) == ["2", "5", "6"]
    assert named(bouncer.delay(message, facts(LATE), UNTIL_NS)) == ["0", "4", "5", "6"]
    assert named(bouncer.copy(message, facts(REFUSED))) == ["0", "2", "3", "4", "5", "6"]


def test_nobody_who_did_not_ask_hears_of_success() -> None:
    message = asked("", "FAILURE", "NEVER", "DELAY")
    assert bouncer_of().bounce(message, (), [(n, SENT) for n in range(4)]) is None
    envelope = Envelope(b"a@sender.example", PATHS, ClientIdentity())
    without = Message(b"0000000100000001", envelope, ASCII_TEXT, ARRIVED_NS)
    assert bouncer_of().bounce(without, (), [(0, SENT)]) is None


def test_failures_and_successes_share_a_report() -> None:
    message = asked(EVERYTHING, EVERYTHING, EVERYTHING)
    report = bouncer_of().bounce(message, [(1, REFUSED)], [(0, SENT), (2, RELAYED)])
    assert report is not None
    found = read(report)
    assert report.kind == NON_DELIVERY
    assert [group["action"] for group in found.recipients] == ["failed", "delivered", "relayed"]
    assert found.original_kind == b"message/rfc822", "RET is about reports of a failure"
    assert detected(report) == (set(), {b"r1@example.com"})
    failed, _, rest = found.text.partition("recipients have the message")
    assert "<r1@" in failed
    assert "<r0@" not in failed
    assert "<r0@" in rest


def test_mail_that_needs_tls_comes_back_as_headers_that_need_tls() -> None:
    """RFC 8689 5."""
    envelope = Envelope(
        b"a@sender.example",
        PATHS,
        ClientIdentity(),
        dsn=DSNRequest("FULL"),
        is_tls_required=True,
    )
    report = made(NON_DELIVERY, Message(b"0000000100000001", envelope, ASCII_TEXT, ARRIVED_NS))
    assert report.envelope.is_tls_required
    assert read(report).original_kind == b"text/rfc822-headers"


def test_size_cap_is_the_operators() -> None:
    bouncer = bouncer_of(NotifyOptions(original_octets=40))
    report = bouncer.bounce(message_of(), [(0, REFUSED)])
    assert report is not None
    assert read(report).original_kind == b"text/rfc822-headers"


def test_report_about_tens_of_thousands_of_recipients_is_bounded() -> None:
    count = 20_000
    paths = tuple(b"user%05d@example.com" % n for n in range(count))
    envelope = Envelope(b"a@sender.example", paths, ClientIdentity())
    message = Message(b"0000000100000001", envelope, ASCII_TEXT, ARRIVED_NS)
    outcome = Outcome(OutcomeKind.FAILED, "5.1.1", "w" * 500, diagnostic="z" * 500)
    report = bouncer_of().bounce(message, [(n, outcome) for n in range(count)])
    assert report is not None
    assert report.size_octets < 8_000_000
    assert report.content is not None
    assert report.content.count(b"\r\nFinal-Recipient: ") == count
    assert b"(18000 more recipients are named in the next part only.)" in report.content


OCTETS = st.binary(max_size=60) | st.text(max_size=40).map(lambda s: s.encode("utf-8", "replace"))


def _content(lines: list[bytes]) -> bytes:
    """Canonical but for what the sessions let through; they refuse NUL."""
    return b"\r\n".join(line.replace(b"\0", b"") for line in lines) + b"\r\n"


@settings(max_examples=200, deadline=None)
@given(
    kind=st.sampled_from([NON_DELIVERY, SUCCESS, DELAY, POSTMASTER_NON_DELIVERY]),
    lines=st.lists(OCTETS | st.binary(min_size=990, max_size=1_010), max_size=6),
    addresses=st.tuples(OCTETS, OCTETS, OCTETS).filter(lambda each: bool(each[0])),
    texts=st.tuples(st.text(max_size=200), st.text(max_size=20), st.text(max_size=60)),
    original=OCTETS,
    is_utf8=st.booleans(),
)
def test_whatever_goes_in_every_reader_can_read(
    kind: str,
    lines: list[bytes],
    addresses: tuple[bytes, bytes, bytes],
    texts: tuple[str, str, str],
    original: bytes,
    is_utf8: bool,
) -> None:
    text, status, remote = texts
    dsn = DSNRequest("", original, (EVERYTHING,) * 2, (b"utf-8;" + original, b"rfc822;" + original))
    envelope = Envelope(addresses[0], addresses[1:], ClientIdentity(), is_utf8=is_utf8, dsn=dsn)
    message = Message(b"0000000100000001", envelope, _content(lines), ARRIVED_NS)
    outcome_kind = {SUCCESS: OutcomeKind.DELIVERED, DELAY: OutcomeKind.DEFERRED}.get(
        kind, OutcomeKind.FAILED
    )
    outcome = Outcome(outcome_kind, status, text, remote=remote, diagnostic=text)
    report = made(kind, message, outcome)
    assert report.content is not None
    found = read_report(report.content)
    assert report.envelope.is_8bit is found.is_8bit
    parsed = email.message_from_bytes(report.content)
    assert not parsed.defects
    assert len(parsed.get_payload()) == 3
    detected(report)
