"""What the sender asked for with DSN parameters (RFC 3461 4), and what nobody may make of that."""

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastmta.message import ClientIdentity, ContentFile, Envelope, Message
from fastmta.message.envelope import DSNRequest
from tests.unit.dsn.test_bouncer import (
    ARRIVED_NS,
    CONTENT,
    REFUSED,
    bouncer_of,
    check_octets,
    message_of,
    parse,
    parts_of,
    report_of,
)

PATHS = tuple(b"user%d@example.com" % number for number in range(4))


def asked(
    dsn: DSNRequest | None, content: bytes = CONTENT, reverse_path: bytes = b"a@sender.example"
) -> Message:
    """A message for four recipients with these parameters."""
    envelope = Envelope(reverse_path, PATHS, ClientIdentity(), dsn=dsn)
    return Message(b"0000000100000001", envelope, content, ARRIVED_NS)


def reported(message: Message, *indices: int) -> list[str]:
    """Final recipients of the report about these failures; empty when there is none."""
    dsn = bouncer_of().bounce(message, [(index, REFUSED) for index in indices])
    if dsn is None:
        return []
    assert dsn.content is not None
    check_octets(dsn.content)
    groups = parts_of(parts_of(parse(dsn.content))[1])[1:]
    return [str(group["Final-Recipient"]).removeprefix("rfc822; ") for group in groups]


def fields_of(dsn: DSNRequest) -> tuple[str | None, str]:
    """Original-Envelope-Id and the first Original-Recipient of a report."""
    content = report_of(asked(dsn)).content or b""
    groups = parts_of(parts_of(parse(content))[1])
    return groups[0]["Original-Envelope-Id"], str(groups[1]["Original-Recipient"])


@pytest.mark.parametrize(
    ("notify", "is_told"),
    [
        ("", True),
        ("FAILURE", True),
        ("SUCCESS,FAILURE", True),
        ("FAILURE,DELAY", True),
        ("SUCCESS,FAILURE,DELAY", True),
        ("NEVER", False),
        ("SUCCESS", False),
        ("DELAY", False),
        ("SUCCESS,DELAY", False),
    ],
)
def test_who_is_told_of_a_failure(notify: str, is_told: bool) -> None:
    assert bool(reported(asked(DSNRequest(notify=(notify,))), 0)) is is_told


def test_only_wanted_recipients_are_in_the_report() -> None:
    message = asked(DSNRequest(notify=("NEVER", "FAILURE", "SUCCESS")))
    assert reported(message, 0, 1, 2, 3) == ["user1@example.com", "user3@example.com"]
    assert reported(message, 0, 2) == []
    assert reported(message, 3) == ["user3@example.com"]  # past the end of what was given


def test_notification_for_humans_leaves_out_the_same() -> None:
    content = report_of(asked(DSNRequest(notify=("NEVER",))), (0, REFUSED), (1, REFUSED)).content
    assert content is not None
    assert b"<user1@example.com>: " in content
    assert b"user0" not in content


def test_nothing_is_read_for_a_report_that_nobody_wants() -> None:
    message = asked(DSNRequest(notify=("NEVER",)))
    message.content = None
    assert bouncer_of().bounce(message, [(0, REFUSED)]) is None


LARGE = b"Subject: x\r\n\r\n" + b"0123456789\r\n" * 5_000


@pytest.mark.parametrize(
    ("returned", "content", "kind"),
    [
        ("", CONTENT, "message/rfc822"),
        ("FULL", CONTENT, "message/rfc822"),
        ("HDRS", CONTENT, "text/rfc822-headers"),
        ("", LARGE, "text/rfc822-headers"),
        ("FULL", LARGE, "text/rfc822-headers"),
        ("HDRS", LARGE, "text/rfc822-headers"),
    ],
)
def test_what_comes_back(returned: str, content: bytes, kind: str) -> None:
    report = report_of(asked(DSNRequest(returned=returned), content)).content or b""
    part = parts_of(parse(report))[2]
    assert part.get_content_type() == kind
    assert (b"line one" in report) is (content is CONTENT and returned != "HDRS")


def test_eight_bit_body_does_not_make_its_header_section_eight_bit() -> None:
    message = asked(DSNRequest(returned="HDRS"), b"Subject: x\r\n\r\n\xe4\r\n")
    dsn = report_of(message)
    assert not dsn.envelope.is_8bit
    assert (dsn.content or b"").isascii()


def test_header_section_of_a_large_message_comes_back_whatever_was_asked() -> None:
    message = asked(DSNRequest(returned="FULL"))
    message.content = None
    message.file = ContentFile("/spool/big/1-x", 5_000_000, 0, 1)
    dsn = bouncer_of(head=lambda file, octets: CONTENT).bounce(message, [(0, REFUSED)])
    assert dsn is not None
    check_octets(dsn.content or b"")
    assert b"text/rfc822-headers" in (dsn.content or b"")


@pytest.mark.parametrize(
    ("envelope_id", "shown"),
    [
        (b"QQ314159", "QQ314159"),
        (b"a+2Bb+3Dc", "a+b=c"),
        (b"two+20words", "two words"),
        (b"", None),
        (b"x+0D+0ABcc:+20all@example+00+7F+C3+BC", "x??Bcc: all@example????"),
        (b"\xff\x00+", "??+"),
    ],
)
def test_envelope_id(envelope_id: bytes, shown: str | None) -> None:
    assert fields_of(DSNRequest(envelope_id=envelope_id))[0] == shown


@pytest.mark.parametrize(
    ("original", "shown"),
    [
        (b"rfc822;first+2Blast@example.org", "rfc822;first+last@example.org"),
        (b"RFC822;a@b", "RFC822;a@b"),
        (b"x400;/S=joe/", "x400;/S=joe/"),
        (b"rfc822;a;b", "rfc822;a;b"),
        (rb"utf-8;j\x{F6}rg@example", r"utf-8;j\x{F6}rg@example"),
        ("utf-8;jörg@example".encode(), r"utf-8;j\x{F6}rg@example"),
        (b"", "rfc822;user0@example.com"),
        (b"no type", "rfc822;user0@example.com"),
        (b"rfc822;", "rfc822;user0@example.com"),
        (b"a b\r\n;x", "rfc822;user0@example.com"),
        (b"rfc822;x+0D+0AX-Evil:+201", "rfc822;x??X-Evil: 1"),
        (b"utf-8;x\r\nX-Evil: 1\x1b\xff", r"utf-8;x??X-Evil: 1?\x{FFFD}"),
    ],
)
def test_original_recipient(original: bytes, shown: str) -> None:
    assert fields_of(DSNRequest(original_recipients=(original,)))[1] == shown


def test_original_recipient_is_that_of_its_recipient() -> None:
    request = DSNRequest(original_recipients=(b"rfc822;zero@x", b"", b"rfc822;two@x"))
    content = report_of(asked(request), (2, REFUSED), (1, REFUSED), (3, REFUSED)).content or b""
    groups = parts_of(parts_of(parse(content))[1])[1:]
    assert [group["Original-Recipient"] for group in groups] == [
        "rfc822;two@x",
        "rfc822;user1@example.com",
        "rfc822;user3@example.com",
    ]


def test_who_came_of_an_alias_is_told_by_both_names() -> None:
    message = asked(DSNRequest(original_recipients=(b"", b"", b"rfc822;two@x")))
    message.envelope = msgspec.structs.replace(
        message.envelope, original_paths=(b"root\r\n", b"", b"ops")
    )
    content = report_of(message, (0, REFUSED), (1, REFUSED), (2, REFUSED)).content or b""
    check_octets(content)
    text, status = parts_of(parse(content))[:2]
    shown = str(text.get_payload())
    assert "<user0@example.com> (expanded from <root??>): " in shown
    assert "<user1@example.com>: " in shown
    assert [group["Original-Recipient"] for group in parts_of(status)[1:]] == [
        "rfc822;root??",
        "rfc822;user1@example.com",
        "rfc822;two@x",
    ]


def test_huge_values_are_cut() -> None:
    request = DSNRequest("", b"x" * 70_000, (), (b"rfc822;" + b"y" * 70_000,))
    assert report_of(asked(request)).size_octets < 5_000
    request = DSNRequest("", b"", (), (b"utf-8;" + b"\xff" * 70_000,))
    assert report_of(asked(request)).size_octets < 5_000


def test_report_to_an_address_beyond_ascii_says_so() -> None:
    """RFC 6531 3.4: without SMTPUTF8 such an address may not be said to anybody."""
    reverse_path = "jörg@example.com".encode()
    assert report_of(asked(None, reverse_path=reverse_path)).envelope.is_utf8
    assert not report_of(message_of()).envelope.is_utf8


def test_report_asks_for_nothing_itself() -> None:
    assert report_of(asked(DSNRequest("FULL", b"x", ("FAILURE",)))).envelope.dsn is None


@settings(max_examples=150, deadline=None)
@given(
    st.text(max_size=20),
    st.binary(max_size=120),
    st.lists(st.binary(max_size=80) | st.binary(max_size=80).map(b"utf-8;".__add__), max_size=5),
)
def test_whatever_was_asked_a_report_comes_out(
    returned: str, envelope_id: bytes, original_recipients: list[bytes]
) -> None:
    request = DSNRequest(returned, envelope_id, (), tuple(original_recipients))
    dsn = report_of(asked(request), (0, REFUSED), (3, REFUSED))
    groups = parts_of(parts_of(parse(dsn.content or b""))[1])
    assert len(groups) == 3
    known = {"Reporting-MTA", "Original-Envelope-Id", "Arrival-Date"}
    assert {name for name in groups[0] if not name.startswith("X-Postfix")} <= known
