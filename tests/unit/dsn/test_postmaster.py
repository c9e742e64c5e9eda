"""What the postmaster is told: by class, seldom, and never about a notice."""

from __future__ import annotations

import email
import email.policy
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastmta.dsn import Bouncer, Digest, NotifyOptions
from fastmta.dsn.digest import FIRST_S, INTERVAL_S, LINES_MAX
from fastmta.message import ClientIdentity, Envelope, Message
from fastmta.message.envelope import DSNRequest
from fastmta.message.report import POSTMASTER_NON_DELIVERY, POSTMASTER_NOTICE
from tests.support.report_checker import check_lines, fields_of
from tests.unit.dsn.test_bouncer import ARRIVED_NS, CONTENT, DSN_ID, NOW_NS, QUEUE_NS, REFUSED
from tests.unit.dsn.test_kinds import LATE, PATHS, POSTMASTER, SENT, UNTIL_NS, read

CLASSES = ("bounce", "2bounce", "delay", "policy", "protocol", "resource", "software", "data")


def bouncer_of(*classes: str, postmaster: bytes = POSTMASTER) -> Bouncer:
    options = NotifyOptions(postmaster=postmaster, classes=frozenset(classes))
    return Bouncer(
        "mail.example", lambda: DSN_ID, lambda: NOW_NS, lambda: QUEUE_NS, options=options
    )


def message_of(reverse_path: bytes, *notify: str) -> Message:
    envelope = Envelope(reverse_path, PATHS, ClientIdentity(), dsn=DSNRequest(notify=notify))
    return Message(b"0000000100000001", envelope, CONTENT, ARRIVED_NS)


NULL, SENDER = b"", b"a@sender.example"


def test_failed_bounce_goes_to_the_postmaster_who_wants_that() -> None:
    report = bouncer_of("2bounce").bounce(message_of(NULL), [(0, REFUSED)])
    assert report is not None
    assert report.kind == POSTMASTER_NON_DELIVERY
    assert report.envelope.forward_paths == (POSTMASTER,)
    found = read(report)
    assert found.fields["subject"] == b"Postmaster Copy: Undelivered Mail"
    assert found.original_kind == b"text/rfc822-headers"
    assert "x-postfix-sender" not in found.message
    assert found.original.startswith(b"Return-Path: <>\r\n")


@pytest.mark.parametrize("notify", [(), ("NEVER",), ("SUCCESS",), ("SUCCESS,FAILURE", "NEVER")])
@pytest.mark.parametrize("classes", [(), CLASSES])
def test_nobody_is_told_that_a_bounce_arrived(
    classes: tuple[str, ...], notify: tuple[str, ...]
) -> None:
    message = message_of(NULL, *notify)
    assert bouncer_of(*classes).bounce(message, [], [(0, SENT)]) is None


@pytest.mark.parametrize("classes", [(), ("bounce", "delay", "resource", "software")])
def test_failed_bounce_is_dropped_otherwise(classes: tuple[str, ...]) -> None:
    bouncer = bouncer_of(*classes)
    assert bouncer.bounce(message_of(NULL), [(0, REFUSED)]) is None
    assert bouncer.copy(message_of(NULL), [(0, REFUSED)]) is None
    assert bouncer.delay(message_of(NULL), [(0, LATE)], UNTIL_NS) is None
    assert bouncer.copy(message_of(NULL), [(0, LATE)], UNTIL_NS) is None


def test_without_a_postmaster_there_are_no_notices() -> None:
    bouncer = bouncer_of(*CLASSES, postmaster=b"")
    assert bouncer.bounce(message_of(NULL), [(0, REFUSED)]) is None
    assert bouncer.copy(message_of(SENDER), [(0, REFUSED)]) is None
    assert bouncer.notice("software", ["x"]) is None


def test_each_class_is_of_its_own() -> None:
    failed, late = [(0, REFUSED)], [(0, LATE)]
    assert bouncer_of("bounce").copy(message_of(SENDER), failed) is not None
    assert bouncer_of("bounce").copy(message_of(SENDER), late, UNTIL_NS) is None
    assert bouncer_of("delay").copy(message_of(SENDER), failed) is None
    assert bouncer_of("delay").copy(message_of(SENDER), late, UNTIL_NS) is not None
    for kind in CLASSES:
        assert bouncer_of(kind).notice(kind, ["x"]) is not None
        assert bouncer_of(*(set(CLASSES) - {kind})).notice(kind, ["x"]) is None


def test_no_notice_about_a_notice_whatever_becomes_of_it() -> None:
    """As it comes back from the spool: nothing but its envelope says what it is."""
    bouncer = bouncer_of(*CLASSES)
    made = [
        bouncer.bounce(message_of(NULL), [(0, REFUSED)]),
        bouncer.copy(message_of(SENDER), [(0, REFUSED)]),
        bouncer.copy(message_of(SENDER), [(0, LATE)], UNTIL_NS),
        bouncer.notice("software", ["x"]),
    ]
    for report in made:
        assert report is not None
        assert report.content is not None
        again = Message(report.id, report.envelope, report.content, report.arrived_at_ns)
        assert again.envelope.reverse_path == NULL
        assert bouncer.bounce(again, [(0, REFUSED)]) is None
        assert bouncer.copy(again, [(0, REFUSED)]) is None
        assert bouncer.delay(again, [(0, LATE)], UNTIL_NS) is None
        assert bouncer.copy(again, [(0, LATE)], UNTIL_NS) is None


def test_the_chain_of_reports_about_reports_ends() -> None:
    """Message, bounce, double bounce, and that is all."""
    bouncer = bouncer_of(*CLASSES)
    message, count = message_of(SENDER), 0
    while (report := bouncer.bounce(message, [(0, REFUSED)])) is not None:
        assert report.content is not None
        message = Message(report.id, report.envelope, report.content, report.arrived_at_ns)
        count += 1
        assert count < 5
    assert count == 2


def test_who_said_never_means_the_postmaster_too() -> None:
    bouncer = bouncer_of(*CLASSES)
    assert bouncer.copy(message_of(SENDER, "NEVER", "NEVER"), [(0, REFUSED)]) is None
    assert bouncer.bounce(message_of(NULL, "NEVER"), [(0, REFUSED)]) is None


def test_notice_shows_lines_of_the_log() -> None:
    evil = "warning: x\r\nBcc: all@example\0\u2028\xff" + "y" * 5_000
    report = bouncer_of("resource").notice("resource", ["disk full", evil], 7)
    assert report is not None
    assert report.kind == POSTMASTER_NOTICE
    assert report.content is not None
    check_lines(report.content)
    assert report.content.isascii()
    assert b"\nBcc:" not in report.content
    parsed = email.message_from_bytes(report.content, policy=email.policy.SMTP)
    assert not parsed.defects
    assert parsed["Subject"] == "Postmaster notice: resource problems at mail.example"
    assert parsed["Auto-Submitted"] == "auto-generated"
    assert parsed["To"] == POSTMASTER.decode()
    text = parsed.get_content()
    assert "disk full\r\n" in text
    assert "(7 more lines are in the log only.)" in text
    fields_of(report.content.partition(b"\r\n\r\n")[0] + b"\r\n")


def test_notice_of_nothing_is_none() -> None:
    assert bouncer_of("software").notice("software", []) is None


# The digest


def test_lines_are_gathered_then_sent_then_kept_for_a_while() -> None:
    digest = Digest(("resource",))
    digest.heed("resource", "one")
    assert digest.take(100.0) == []
    digest.heed("resource", "two")
    assert digest.take(100.0 + FIRST_S - 1) == []
    ((kind, lines, left_out),) = digest.take(100.0 + FIRST_S)
    assert (kind, lines, left_out) == ("resource", ["one", "two"], 0)
    digest.heed("resource", "three")
    now_s = 100.0 + FIRST_S
    assert digest.take(now_s + 1) == []
    assert digest.take(now_s + INTERVAL_S - 1) == []
    assert [one.lines for one in digest.take(now_s + INTERVAL_S)] == [["three"]]
    assert digest.take(now_s + 10 * INTERVAL_S) == []


def test_digest_of_a_storm_is_bounded() -> None:
    digest = Digest(("software", "policy"))
    for number in range(10_000):
        digest.heed("policy", "x" * 70_000 + str(number))
        digest.heed("data", "not gathered")
    digest.take(0.0)
    ((kind, lines, left_out),) = digest.take(FIRST_S)
    assert (kind, len(lines), left_out) == ("policy", LINES_MAX, 10_000 - LINES_MAX)
    assert max(map(len, lines)) < 1_000


def test_classes_do_not_wait_for_one_another() -> None:
    digest = Digest(("software", "policy"))
    digest.heed("policy", "a")
    digest.take(0.0)
    digest.heed("software", "b")
    assert [one.kind for one in digest.take(FIRST_S)] == ["policy"]
    assert [one.kind for one in digest.take(2 * FIRST_S)] == ["software"]


@given(st.lists(st.tuples(st.sampled_from(["heed", "take"]), st.floats(0, 300)), max_size=60))
def test_every_line_is_told_or_counted_and_notices_keep_their_distance(
    steps: list[tuple[str, float]],
) -> None:
    digest = Digest(("policy",))
    now_s, heeded, told = 0.0, 0, 0
    sent_at: list[float] = []
    for what, wait_s in [*steps, ("take", 2 * INTERVAL_S), ("take", 2 * INTERVAL_S)]:
        now_s += wait_s
        if what == "heed":
            digest.heed("policy", "x")
            heeded += 1
            continue
        for one in digest.take(now_s):
            told += len(one.lines) + one.left_out
            sent_at.append(now_s)
    assert told == heeded
    gaps = [later - earlier for earlier, later in itertools.pairwise(sent_at)]
    assert all(gap >= INTERVAL_S for gap in gaps)
