"""Shapes of lines, escaping, counts; on the compiled block and on its twin."""

import re
import time
from collections.abc import Iterator
from decimal import ROUND_HALF_UP, Decimal

import pytest

from fastmta.event import (
    BounceQueued,
    ClientConnected,
    ClientDisconnected,
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
from fastmta.event.security import LoginRefused, TlsStarted
from fastmta.journal import LineRenderer, Origin, _line, line, line_py
from fastmta.journal.number import render_delay
from fastmta.smtp.tls import TlsFacts

QUEUE_ID = b"0001abcdEFGH0007"
CLIENT = "client.example[192.0.2.7]"
DELAYS = (0.004, 0.001, 0.012, 1.26)


@pytest.fixture(params=[_line.Block, line_py.Block], ids=["compiled", "twin"])
def renderer(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> LineRenderer:
    monkeypatch.setattr(line, "Block", request.param)
    return LineRenderer(Origin("relay.example", "postfix", 42))


@pytest.fixture(autouse=True)
def utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def lines_of(renderer: LineRenderer, *events: Event) -> list[str]:
    octets, count = renderer.render(list(events), 1762153200)
    lines = octets.decode("ascii").split("\n")
    assert lines.pop() == ""
    assert len(lines) == count
    return [line.removeprefix("Nov  3 07:00:00 relay.example postfix/") for line in lines]


def tried(text: str = "250 2.0.0 Ok", **changes: object) -> RecipientTried:
    fields: dict[str, object] = {
        "queue_id": QUEUE_ID,
        "forward_path": b"r@example.org",
        "remote": "mx.example[192.0.2.9]:25",
        "delays_s": DELAYS,
        "status": "2.0.0",
        "kind": "sent",
        "text": text,
    }
    return RecipientTried(**(fields | changes))  # type: ignore[arg-type]  # a test's short form


def test_an_alias_is_behind_its_address(renderer: LineRenderer) -> None:
    (line,) = lines_of(renderer, tried(original_path=b"r\xc3\xb6ot\n"))
    assert line.startswith(
        "smtp[42]: 0001abcdEFGH0007: to=<r@example.org>, orig_to=<r??ot?>, relay=mx.example"
    )


def test_life_of_a_message(renderer: LineRenderer) -> None:
    assert lines_of(
        renderer,
        ClientConnected(CLIENT),
        MessageReceived(QUEUE_ID, CLIENT, b"<1@client.example>"),
        MessageActive(QUEUE_ID, b"s@example.com", 4312, 2),
        tried(),
        tried(connection_use=2, kind="deferred", status="4.2.2", text="host said: 452 full"),
        MessageRemoved(QUEUE_ID),
        ClientDisconnected(
            CLIENT,
            {"quit": (1, 1), "ehlo": (1, 1), "mail": (1, 1), "rcpt": (2, 2), "data": (1, 1)},
        ),
    ) == [
        "smtpd[42]: connect from client.example[192.0.2.7]",
        "smtpd[42]: 0001abcdEFGH0007: client=client.example[192.0.2.7]",
        "cleanup[42]: 0001abcdEFGH0007: message-id=<1@client.example>",
        "qmgr[42]: 0001abcdEFGH0007: from=<s@example.com>, size=4312, nrcpt=2 (queue active)",
        "smtp[42]: 0001abcdEFGH0007: to=<r@example.org>, relay=mx.example[192.0.2.9]:25, "
        "delay=1.3, delays=0/0/0.01/1.3, dsn=2.0.0, status=sent (250 2.0.0 Ok)",
        "smtp[42]: 0001abcdEFGH0007: to=<r@example.org>, relay=mx.example[192.0.2.9]:25, "
        "conn_use=2, delay=1.3, delays=0/0/0.01/1.3, dsn=4.2.2, status=deferred "
        "(host said: 452 full)",
        "qmgr[42]: 0001abcdEFGH0007: removed",
        "smtpd[42]: disconnect from client.example[192.0.2.7] ehlo=1 mail=1 rcpt=2 data=1 quit=1 "
        "commands=6",
    ]
    counted = {name: count for name, count in renderer.counters.snapshot().items() if count}
    assert counted == {
        "connections": 1,
        "accepted": 1,
        "recipients": 2,
        "content_octets": 4312,
        "delivered": 1,
        "deferred": 1,
        "removed": 1,
    }


def test_what_is_said_of_a_probe_is_no_delivery_and_no_bounce(renderer: LineRenderer) -> None:
    front = "smtp[42]: 0001abcdEFGH0007: to=<r@example.org>, relay=mx.example[192.0.2.9]:25, "
    assert lines_of(
        renderer,
        tried("250 2.1.5 Ok", kind="deliverable", status="2.1.5"),
        tried("host said: 550 no", kind="undeliverable", status="5.1.1"),
    ) == [
        front + "delay=1.3, delays=0/0/0.01/1.3, dsn=2.1.5, status=deliverable (250 2.1.5 Ok)",
        front + "delay=1.3, delays=0/0/0.01/1.3, dsn=5.1.1, status=undeliverable "
        "(host said: 550 no)",
    ]
    assert not any(renderer.counters.snapshot().values())


def test_rare_lines(renderer: LineRenderer) -> None:
    assert lines_of(
        renderer,
        MessageReceived(QUEUE_ID, CLIENT, b"", "joe"),
        MessageReceived(QUEUE_ID, "", b"<dsn@relay.example>"),
        MessageActive(QUEUE_ID, b"", 0, 1),
        tried("Host not found", remote="none", kind="bounced", transport="lmtp"),
        MessageExpired(QUEUE_ID, b"s@example.com"),
        BounceQueued(QUEUE_ID, b"0001abcdEFGH0008"),
        Notice("qmgr", "all well"),
        Notice("spool", "disk full", Severity.ERROR, QUEUE_ID),
    ) == [
        "smtpd[42]: 0001abcdEFGH0007: client=client.example[192.0.2.7], sasl_username=joe",
        "cleanup[42]: 0001abcdEFGH0007: message-id=<>",
        "cleanup[42]: 0001abcdEFGH0007: message-id=<dsn@relay.example>",
        "qmgr[42]: 0001abcdEFGH0007: from=<>, size=0, nrcpt=1 (queue active)",
        "lmtp[42]: 0001abcdEFGH0007: to=<r@example.org>, relay=none, delay=1.3, "
        "delays=0/0/0.01/1.3, dsn=2.0.0, status=bounced (Host not found)",
        "qmgr[42]: 0001abcdEFGH0007: from=<s@example.com>, status=expired, returned to sender",
        "bounce[42]: 0001abcdEFGH0007: sender non-delivery notification: 0001abcdEFGH0008",
        "qmgr[42]: all well",
        "spool[42]: error: 0001abcdEFGH0007: disk full",
    ]
    counters = renderer.counters
    assert (counters.bounced, counters.expired, counters.notifications) == (1, 1, 1)
    assert counters.warnings == 1


def test_lines_of_tls_and_logins(renderer: LineRenderer) -> None:
    facts = TlsFacts("TLSv1.2", "ECDHE-RSA-AES128-GCM-SHA256", 128, "mx.example")
    login = "x" * 300
    assert lines_of(
        renderer,
        TlsStarted(CLIENT, facts),
        LoginRefused(CLIENT, "PLAIN", "joe", "authentication failure"),
        LoginRefused(CLIENT, login, login, ""),
        MessageReceived(QUEUE_ID, CLIENT, b"", "joe", "LOGIN"),
    ) == [
        "smtpd[42]: Anonymous TLS connection established from client.example[192.0.2.7]: TLSv1.2 "
        "with cipher ECDHE-RSA-AES128-GCM-SHA256 (128/128 bits)",
        "smtpd[42]: warning: client.example[192.0.2.7]: SASL PLAIN authentication failed: "
        "authentication failure, sasl_username=joe",
        f"smtpd[42]: warning: client.example[192.0.2.7]: SASL {'x' * 100} authentication failed: "
        f"(reason unavailable), sasl_username={'x' * 100}",
        "smtpd[42]: 0001abcdEFGH0007: client=client.example[192.0.2.7], sasl_method=LOGIN, "
        "sasl_username=joe",
        "cleanup[42]: 0001abcdEFGH0007: message-id=<>",
    ]
    counters = renderer.counters
    assert (counters.tls_sessions, counters.logins_refused, counters.warnings) == (1, 2, 0)


def test_refusals(renderer: LineRenderer) -> None:
    reply = "554 5.7.1 <r@example.org>: Relay access denied"
    assert lines_of(
        renderer,
        CommandRefused(CLIENT, "RCPT", reply, b"", b"s@a.example", b"r@example.org", "SMTP", b"h"),
        CommandRefused(CLIENT, "RCPT", reply, b"", b"", b"r@example.org"),
        CommandRefused(CLIENT, "CONNECT", "421 4.7.0 Too many connections", protocol="SMTP"),
        CommandRefused(CLIENT, "END-OF-MESSAGE", "552 5.3.4 Too big", QUEUE_ID, b"s@a.example"),
    ) == [
        "smtpd[42]: NOQUEUE: reject: RCPT from client.example[192.0.2.7]: 554 5.7.1 "
        "<r@example.org>: Relay access denied; from=<s@a.example> to=<r@example.org> proto=SMTP "
        "helo=<h>",
        "smtpd[42]: NOQUEUE: reject: RCPT from client.example[192.0.2.7]: 554 5.7.1 "
        "<r@example.org>: Relay access denied; from=<> to=<r@example.org> proto=ESMTP",
        "smtpd[42]: NOQUEUE: reject: CONNECT from client.example[192.0.2.7]: 421 4.7.0 Too many "
        "connections; proto=SMTP",
        "smtpd[42]: 0001abcdEFGH0007: reject: END-OF-MESSAGE from client.example[192.0.2.7]: "
        "552 5.3.4 Too big; from=<s@a.example> proto=ESMTP",
    ]
    assert renderer.counters.rejected == 4


def test_broken_sessions(renderer: LineRenderer) -> None:
    assert lines_of(
        renderer,
        ClientDisconnected(CLIENT, {}, "lost connection", "CONNECT"),
        ClientDisconnected(CLIENT, {"data": (0, 1)}, "timeout", "DATA", 1200),
        ClientDisconnected(CLIENT, {"unknown": (0, 20), "rcpt": (1, 3)}, "too many errors", "RCPT"),
    ) == [
        "smtpd[42]: lost connection after CONNECT from client.example[192.0.2.7]",
        "smtpd[42]: disconnect from client.example[192.0.2.7] commands=0/0",
        "smtpd[42]: timeout after DATA (1200 bytes) from client.example[192.0.2.7]",
        "smtpd[42]: disconnect from client.example[192.0.2.7] data=0/1 commands=0/1",
        "smtpd[42]: too many errors after RCPT from client.example[192.0.2.7]",
        "smtpd[42]: disconnect from client.example[192.0.2.7] rcpt=1/3 unknown=0/20 commands=1/23",
    ]
    assert renderer.counters.connections_lost == 3


EVIL = "a\nNov  3 07:00:00 relay.example postfix/qmgr[1]: X: removed\r\x00\t\x1b[2J\x7f\u2028é"
EVIL_OCTETS = EVIL.encode()


@pytest.mark.parametrize(
    "event",
    [
        ClientConnected(EVIL),
        ClientDisconnected(EVIL, {}, EVIL, EVIL),
        CommandRefused(EVIL, EVIL, EVIL, b"", EVIL_OCTETS, EVIL_OCTETS, EVIL, EVIL_OCTETS),
        MessageReceived(EVIL_OCTETS, EVIL, EVIL_OCTETS, EVIL, EVIL),
        TlsStarted(EVIL, TlsFacts(EVIL, EVIL, 1, EVIL, EVIL)),
        LoginRefused(EVIL, EVIL, EVIL, EVIL),
        MessageActive(EVIL_OCTETS, EVIL_OCTETS, 1, 1),
        tried(EVIL, queue_id=EVIL_OCTETS, forward_path=EVIL_OCTETS, remote=EVIL, status=EVIL),
        tried(EVIL, kind=EVIL, transport=EVIL),
        MessageExpired(EVIL_OCTETS, EVIL_OCTETS),
        MessageRemoved(EVIL_OCTETS),
        BounceQueued(EVIL_OCTETS, EVIL_OCTETS, EVIL),
        Notice(EVIL, EVIL, Severity.INFO, EVIL_OCTETS),
    ],
    ids=lambda event: type(event).__name__,
)
def test_nothing_a_peer_says_ends_a_line_or_leaves_ascii(
    renderer: LineRenderer, event: Event
) -> None:
    octets, count = renderer.render([event], 1762153200)
    assert octets.count(b"\n") == count <= 2
    assert octets.endswith(b"\n")
    assert re.fullmatch(rb"(Nov  3 07:00:00 relay\.example postfix/[ -~]+\n){%d}" % count, octets)
    assert b"a?Nov" in octets


def test_one_question_mark_for_each_octet(renderer: LineRenderer) -> None:
    (line,) = lines_of(renderer, MessageActive(QUEUE_ID, "é".encode() + b"@example.com", 1, 1))
    assert "from=<??@example.com>" in line


def test_long_lines_are_cut(renderer: LineRenderer) -> None:
    octets, count = renderer.render([tried("x" * 70_000), MessageRemoved(QUEUE_ID)], 1762153200)
    first, second, _ = octets.split(b"\n")
    assert (len(first), count) == (line_py.LINE_CHARACTERS_MAX, 2)
    assert second.endswith(b": removed")


def test_a_block_larger_than_what_is_kept(renderer: LineRenderer) -> None:
    octets, count = renderer.render([tried("x" * 1800)] * 2000, 1762153200)
    assert (octets.count(b"\n"), count) == (2000, 2000)
    assert renderer.render([], 1762153200) == (b"", 0)
    assert lines_of(renderer, MessageRemoved(QUEUE_ID)) == ["qmgr[42]: 0001abcdEFGH0007: removed"]


def test_an_event_that_cannot_be_rendered_costs_only_its_own_line(renderer: LineRenderer) -> None:
    removed = MessageRemoved(QUEUE_ID)
    broken = MessageActive(QUEUE_ID, "text", 1, 1)  # type: ignore[arg-type]  # that is the point
    strange: Event = object()  # type: ignore[assignment]  # so is this
    lines = lines_of(renderer, removed, broken, strange, removed)
    assert lines[0] == lines[3] == "qmgr[42]: 0001abcdEFGH0007: removed"
    assert lines[1].startswith("master[42]: error: journal: MessageActive cannot be shown: ")
    assert lines[2].startswith("master[42]: error: journal: object cannot be shown: KeyError")


def test_the_stamp_follows_the_clock(renderer: LineRenderer) -> None:
    for second, stamp in ((1762153200, b"Nov  3 07:00:00"), (1763103661, b"Nov 14 07:01:01")):
        assert renderer.render([MessageRemoved(QUEUE_ID)], second)[0].startswith(stamp)


@pytest.mark.parametrize(
    ("delay_s", "text"),
    [
        (-1.0, "0"),
        (0.0, "0"),
        (0.004, "0"),
        (0.0051, "0.01"),
        (0.1, "0.1"),
        (0.996, "1"),
        (1.04, "1"),
        (1.26, "1.3"),
        (9.94, "9.9"),
        (9.97, "10"),
        (10.4, "10"),
        (34.5, "35"),
        (432000.2, "432000"),
    ],
)
def test_delay(renderer: LineRenderer, delay_s: float, text: str) -> None:
    assert render_delay(delay_s) == text
    (line,) = lines_of(renderer, tried(delays_s=(delay_s, 0.0, 0.0, 0.0)))
    assert f"delay={text}, delays={text}/0/0/0, " in line


@pytest.mark.parametrize("scale", [0.000_37, 0.013_7, 0.137, 1.37, 137.0])
def test_delay_against_decimal_arithmetic(scale: float) -> None:
    for step in range(1, 400):
        delay_s = scale * step
        exact = Decimal(delay_s)
        digit = Decimal("0.01") if exact < 1 else Decimal("0.1") if exact < 10 else Decimal(1)
        rounded = exact.quantize(digit, ROUND_HALF_UP)
        assert abs(Decimal(render_delay(delay_s)) - rounded) == 0
        assert re.fullmatch(r"0|[1-9][0-9]*|[0-9]\.[0-9]?[1-9]", render_delay(delay_s))
