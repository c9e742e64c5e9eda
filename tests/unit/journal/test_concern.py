"""Which lines of the log a postmaster may want to see, and the line of a recipient on hold."""

from __future__ import annotations

import pytest

from fastmta.event import (
    BounceQueued,
    ClientDisconnected,
    CommandRefused,
    Event,
    MessageActive,
    Notice,
    RecipientTried,
    Severity,
)
from fastmta.event.hold import RecipientHeld
from fastmta.event.security import LoginRefused
from fastmta.journal import Journal, LineRenderer, Origin
from fastmta.journal.concern import concern_of

ORIGIN = Origin("relay.example", "postfix", 42)
CLIENT = "c.example[192.0.2.7]"
QUEUE_ID = b"0001abcdEFGH0007"


@pytest.mark.parametrize(
    ("event", "concern"),
    [
        (Notice("spool", "disk full", Severity.ERROR), "resource"),
        (Notice("spool", "no room for a segment", Severity.WARNING), "resource"),
        (Notice("spool", "the index was rebuilt"), ""),
        (Notice("qmgr", "outcomes cannot be recorded", Severity.FATAL), "resource"),
        (Notice("qmgr", "site x: no delivery", Severity.WARNING), ""),
        (Notice("master", "a worker died", Severity.ERROR), "software"),
        (Notice("smtpd", "a defect", Severity.FATAL), "software"),
        (Notice("master", "the clock was set", Severity.WARNING), ""),
        (Notice("bounce", "not stored", Severity.WARNING), ""),
        (CommandRefused(CLIENT, "RCPT", "554 5.7.1 <u@x>: Relay access denied"), "policy"),
        (CommandRefused(CLIENT, "RCPT", "452 4.3.1 Insufficient system storage"), "resource"),
        (CommandRefused(CLIENT, "MAIL", "552 5.3.4 too big"), "policy"),  # as in Postfix
        (CommandRefused(CLIENT, "DATA", "503 5.5.1 bad sequence"), "protocol"),
        (CommandRefused(CLIENT, "END-OF-MESSAGE", "554 5.6.0 bare LF"), "data"),
        (CommandRefused(CLIENT, "RCPT", ""), "policy"),
        (ClientDisconnected(CLIENT, {}, "too many errors"), "protocol"),
        (ClientDisconnected(CLIENT, {}, "lost connection"), ""),
        (ClientDisconnected(CLIENT, {}), ""),
        (LoginRefused(CLIENT, "PLAIN", "joe", "bad password"), "policy"),
        (MessageActive(QUEUE_ID, b"", 1, 1), ""),
        (BounceQueued(QUEUE_ID, QUEUE_ID), ""),
    ],
)
def test_class(event: Event, concern: str) -> None:
    assert concern_of(event) == concern


def test_line_that_is_heeded_is_that_of_the_log() -> None:
    heard: list[tuple[str, str]] = []
    renderer = LineRenderer(ORIGIN, lambda kind, line: heard.append((kind, line)))
    events: list[Event] = [
        Notice("master", "quiet"),
        Notice("spool", "x\ny\xff", Severity.ERROR, QUEUE_ID),
        CommandRefused(CLIENT, "RCPT", "554 5.7.1 <u@x>: no"),
        RecipientTried(QUEUE_ID, b"r@x", "none", (0, 0, 0, 0), "2.0.0", "sent", "ok"),
    ]
    octets, count = renderer.render(events, 1762153200)
    assert count == 4
    lines = octets.decode("ascii").split("\n")
    assert heard == [("resource", lines[1]), ("policy", lines[2])]
    assert "error: 0001abcdEFGH0007: x?y?" in lines[1]


def test_journal_hands_them_over_at_the_flush() -> None:
    class Output:
        def write(self, octets: bytes, line_count: int) -> None:
            pass

        def take_lost(self) -> None:
            pass

        def reopen(self) -> None:
            pass

        def close(self, deadline_s: float) -> int:
            return 0

    heard: list[str] = []
    journal = Journal(Output(), lambda: 1762153200.0, ORIGIN, lambda kind, line: heard.append(kind))
    journal.emit(Notice("spool", "x", Severity.ERROR))
    assert heard == []
    journal.flush()
    assert heard == ["resource"]


def test_line_of_a_recipient_on_hold() -> None:
    renderer = LineRenderer(ORIGIN)
    held = RecipientHeld(QUEUE_ID, b"s@home", b"r@x\n", "the route says so\r\n")
    octets, _ = renderer.render([held], 1762153200)
    assert octets.endswith(
        b"postfix/qmgr[42]: 0001abcdEFGH0007: hold: <r@x?>: the route says so??; from=<s@home>\n"
    )
    counters = renderer.counters
    assert (counters.held, counters.bounced, counters.deferred) == (1, 0, 0)
