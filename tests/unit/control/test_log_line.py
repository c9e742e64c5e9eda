"""Lines of the log are read back as what was written, in both forms; the filter on them."""

from __future__ import annotations

import time
from typing import Any

import msgspec
import pytest

from fastmta.control.linefilter import LineFilter, LineFilterError
from fastmta.control.logjson import LogLine
from fastmta.control.logline import Stamps, parse_line
from fastmta.control.story import Told, tell
from fastmta.control.tracing import is_meant, parse_subject
from fastmta.event import (
    BounceQueued,
    ClientConnected,
    CommandRefused,
    Event,
    MessageActive,
    MessageExpired,
    MessageReceived,
    MessageRemoved,
    Notice,
    RecipientTried,
    Severity,
)
from fastmta.event.hold import RecipientHeld
from fastmta.event.pickup import MessagePickedUp
from fastmta.journal import LineRenderer, Origin
from fastmta.journal.record import RecordRenderer

ID = b"25UFIll200000001"
NOW_S = 1_795_640_000
ORIGIN = Origin("relay.example", "postfix", 42)
DELAYS = (0.5, 0.25, 1.0, 2.0)
TRIED = RecipientTried(
    ID, b"to@x.example", "mx[192.0.2.1]:25", DELAYS, "4.2.2", "deferred", "452 full (later)", 3
)
EVENTS: list[tuple[Event, str, dict[str, Any]]] = [
    (ClientConnected("c[192.0.2.9]"), "connect", {"client": "c[192.0.2.9]"}),
    (
        MessageReceived(ID, "c[192.0.2.9]", b"<a@b>", "joe", "PLAIN"),
        "received",
        {"client": "c[192.0.2.9]", "login": "joe", "method": "PLAIN"},
    ),
    (
        MessageActive(ID, b"s@x", 1_234, 2),
        "queued",
        {"sender": "s@x", "size_octets": 1_234, "recipients": 2},
    ),
    (
        TRIED,
        "attempt",
        {
            "recipient": "to@x.example",
            "relay": "mx[192.0.2.1]:25",
            "outcome": "deferred",
            "status": "4.2.2",
            "reply": "452 full (later)",
            "connection_use": 3,
        },
    ),
    (MessageRemoved(ID), "removed", {}),
    (BounceQueued(ID, b"25UFIll2000000X9"), "bounce", {"bounce_id": "25UFIll2000000X9"}),
    (MessageExpired(ID, b"s@x"), "expired", {"sender": "s@x"}),
    (
        RecipientHeld(ID, b"s@x", b"to@x", "see why"),
        "held",
        {"recipient": "to@x", "reply": "see why", "sender": "s@x"},
    ),
    (Notice("postsuper", "placed on hold", queue_id=ID), "operation", {}),
    (Notice("qmgr", "something", Severity.WARNING, ID), "notice", {"severity": "warning"}),
    (
        CommandRefused("c[192.0.2.9]", "RCPT", "554 5.7.1 <t@x>: no; really", b"", b"s@x", b"t@x"),
        "rejected",
        {"client": "c[192.0.2.9]", "sender": "s@x", "recipient": "t@x"},
    ),
]


def written(event: Event, is_json: bool) -> list[LogLine]:
    if is_json:
        octets, _ = RecordRenderer(ORIGIN).render([event], NOW_S)
    else:
        octets, _ = LineRenderer(ORIGIN).render([event], NOW_S)
    stamps = Stamps(float(NOW_S))
    lines = [parse_line(line, stamps) for line in octets.split(b"\n") if line]
    return [line for line in lines if line is not None]


@pytest.mark.parametrize("is_json", [False, True], ids=["postfix", "json"])
@pytest.mark.parametrize(("event", "name", "facts"), EVENTS, ids=[one[1] for one in EVENTS])
def test_what_was_written_is_read(
    event: Event, name: str, facts: dict[str, Any], is_json: bool
) -> None:
    line = written(event, is_json)[0]
    assert (line.event, line.time_s) == (name, NOW_S)
    assert {key: line.facts.get(key) for key in facts} == facts
    assert line.id == (ID.decode() if hasattr(event, "queue_id") and event.queue_id else "")


@pytest.mark.parametrize("is_json", [False, True], ids=["postfix", "json"])
def test_a_story_is_the_same_from_both_forms(is_json: bool) -> None:
    events = [EVENTS[1][0], EVENTS[2][0], TRIED, EVENTS[4][0]]
    lines = [Told(line, "log") for event in events for line in written(event, is_json)]
    (story,) = tell([ID.decode()], lines, [])
    assert [event["event"] for event in story["events"]] == [
        *("received", "queued", "attempt", "removed"),
    ]
    assert story["message_id"] == "<a@b>"
    assert story["login"] == "joe"
    assert story["events"][2]["delays_s"] == list(DELAYS)
    assert story["events"][2]["delay_s"] == pytest.approx(sum(DELAYS), abs=0.1)


@pytest.mark.parametrize("is_json", [False, True], ids=["postfix", "json"])
def test_a_notice_in_a_story_is_its_text(is_json: bool) -> None:
    notice = Notice("qmgr", "something", Severity.WARNING, ID)
    events = [MessagePickedUp(ID, 33, b"www"), EVENTS[1][0], notice]
    lines = [Told(line, "log") for event in events for line in written(event, is_json)]
    (story,) = tell([ID.decode()], lines, [])
    told = [(one["program"], one["text"]) for one in story["events"] if one["event"] == "notice"]
    assert [program for program, _ in told] == ["pickup", "qmgr"]
    assert told[0][1] == "uid=33 from=<www>"
    assert told[1][1].endswith("something")


def test_years_are_those_that_make_sense() -> None:
    end_s = time.mktime((2026, 1, 2, 12, 0, 0, 0, 0, -1))
    stamps = Stamps(end_s)
    assert time.localtime(stamps.read("Dec 31 23:59:59"))[:3] == (2025, 12, 31)
    assert time.localtime(stamps.read("Jan  2 11:00:00"))[:4] == (2026, 1, 2, 11)
    assert stamps.read("2026-01-02T03:04:05.5+01:00") == 1_767_319_445.5
    for wrong in ("Foo  1 00:00:00", "Jan 41 00:00:00", "2026-13-01T00:00:00", "Feb 30 99:00:00"):
        assert stamps.read(wrong) == 0.0 or wrong.startswith(("Jan 41", "Feb 30"))


@pytest.mark.parametrize(
    "octets",
    [
        b"",
        b"garbage",
        b"{",
        b"[1]",
        b'{"event": 7}',
        b'{"event": "attempt", "delays": "x", "delay": [], "to": 7}',
        b'{"ts": 1e400, "event": "received", "qid": {}}',
        b"Nov 25 20:00:00 relay postfix/smtp[1]: ",
        b"Nov 25 20:00:00 relay postfix/smtp[99999999999999]: x",
        b"\xff\xfe\x00",
        b"{" * 5_000,
        b"Nov 25 20:00:00 h postfix/smtp[1]: A1B2C3D4E5F6: to=<a>, relay=, delay=1, delays=....",
    ],
)
def test_what_others_wrote_harms_nobody(octets: bytes) -> None:
    line = parse_line(octets, Stamps(0.0))
    assert line is None or isinstance(line.facts, dict)


@pytest.mark.parametrize(
    ("word", "wanted"),
    [
        ("25UFIll200000001", "25UFIll200000001"),
        ("4cZZZZ1jpBz3Qlx", "4cZZZZ1jpBz3Qlx"),
        ("BCDFGHJKLMNPQRST", "BCDFGHJKLMNPQRST"),  # without a digit: one of 30
        ("statistics", ""),
        ("NOQUEUE", ""),
        ("fatal", ""),
    ],
)
def test_what_is_an_id(word: str, wanted: str) -> None:
    line = parse_line(b"Nov 25 20:00:00 h postfix/qmgr[1]: %b: removed" % word.encode(), Stamps(0))
    assert line is not None
    assert line.id == wanted


def line_of(event: Event) -> LogLine:
    return written(event, False)[0]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("", True),
        ("status:deferred", True),
        ("status:sent", False),
        ("status:sent,deferred to:@x.example", True),
        ("to:TO@X.EXAMPLE domain:x.example dest:mx", True),
        ("dest:192.0.2.1", True),
        ("dest:mx2", False),
        ("code:4.2.*", True),
        ('text:"452 full"', True),
        ("program:smtp id:25UFI* qid:*1", True),
        ("from:s@x", False),  # no line has said so yet
        ("client:192.0.2.9", False),
    ],
)
def test_filters(text: str, wanted: bool) -> None:
    assert LineFilter(text).accepts(line_of(TRIED)) is wanted


@pytest.mark.parametrize("is_json", [False, True], ids=["postfix", "json"])
def test_who_was_meant_by_an_alias(is_json: bool) -> None:
    tried = msgspec.structs.replace(TRIED, original_path=b"Team")
    (line,) = written(tried, is_json)
    assert line.facts["original_recipient"] == "Team"
    for name in ("team", "address:TEAM", "to@x.example"):
        assert is_meant(parse_subject(name), line)
    assert not is_meant(parse_subject("none"), written(TRIED, is_json)[0])
    assert not is_meant(parse_subject("tea"), line)
    assert LineFilter("to:team").accepts(line)
    assert LineFilter("to:@x.example").accepts(line)
    assert not LineFilter("to:other").accepts(line)


def test_what_an_earlier_line_said_holds_for_a_later_one() -> None:
    chosen = LineFilter("from:@x client:192.0.2.* status:deferred")
    assert not chosen.accepts(line_of(EVENTS[1][0]))
    assert not chosen.accepts(line_of(EVENTS[2][0]))
    assert chosen.accepts(line_of(TRIED))
    assert LineFilter("from:<>").accepts(line_of(MessageActive(ID, b"", 1, 1)))


@pytest.mark.parametrize("text", ["colour:blue", "to", "to:", ":x", 'text:"open', "a:b " * 40])
def test_filters_that_mean_nothing(text: str) -> None:
    with pytest.raises(LineFilterError):
        LineFilter(text)
