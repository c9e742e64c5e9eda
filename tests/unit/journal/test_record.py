"""JSON records: one for each type of event, with the keys that docs/logs.md names."""

import re
from pathlib import Path
from typing import get_args

import msgspec
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
from fastmta.event.hold import RecipientHeld
from fastmta.event.pickup import MessagePickedUp
from fastmta.event.security import LoginRefused, TlsStarted
from fastmta.journal import Origin
from fastmta.journal.record import HEAD, KEYS, TEXT_CHARACTERS_MAX, RecordRenderer
from fastmta.smtp.tls import TlsFacts

DOCS = Path(__file__).parents[3] / "docs" / "logs.md"
CLIENT = "mx.example[2001:db8::7]"
ID, OTHER = b"780pWym00000000K", b"780pWym00000000L"
SAID = "host mx.example[192.0.2.9] said: 452 4.2.2 full (in reply to RCPT TO command)"
EVENTS: tuple[tuple[str, Event, dict[str, object]], ...] = (
    ("connect", ClientConnected(CLIENT, "submission"), {"client": "mx.example", "ip": "2001:db8::7",
     "service": "submission"}),
    ("disconnect", ClientDisconnected(CLIENT, {"data": (0, 1)}, "timeout", "DATA", 120),
     {"verbs": {"data": [0, 1]}, "reason": "timeout", "stage": "DATA", "size": 120}),
    ("reject", CommandRefused(CLIENT, "RCPT", "554 5.7.1 <r@b.example>: no", b"", b"",
     b"r@b.example", helo=b"h", login="joe", mechanism="PLAIN"), {"code": 554, "dsn": "5.7.1",
     "from": "", "to": "r@b.example", "login": "joe", "qid": ""}),
    ("tls", TlsStarted(CLIENT, TlsFacts("TLSv1.3", "X", 256)), {"trust": "Anonymous",
     "tls": "TLSv1.3 with cipher X (256/256 bits)"}),
    ("login_refused", LoginRefused(CLIENT, "PLAIN", "joe", "bad"), {"login": "joe"}),
    ("received", MessageReceived(ID, CLIENT, b"<1@x>", "joe", "PLAIN", "", "smtp", "acme",
     500, 3), {"msgid": "<1@x>", "tenant": "acme", "size": 500, "nrcpt": 3}),
    ("active", MessageActive(ID, b"s@a.example", 12, 2), {"from": "s@a.example", "size": 12}),
    ("attempt", RecipientTried(ID, b"r@b.example", "mx.example[192.0.2.9]:25", (0.1, 0, 0.25, 2),
     "4.2.2", "deferred", SAID, 3, reverse_path=b"s@a.example", next_hop=b"smtp:b.example",
     attempt=4, due_at_ns=1_762_153_300_500_000_000), {"code": 452, "delay": 2.35,
     "delays": [0.1, 0.0, 0.25, 2.0], "attempt": 4, "next": 1762153300.5, "conn_use": 3,
     "dest": "smtp:b.example", "from": "s@a.example"}),
    ("pickup", MessagePickedUp(ID, 1000, b"root"), {"uid": 1000, "from": "root"}),
    ("held", RecipientHeld(ID, b"s@a.example", b"r@b.example", "by rule"), {"reply": "by rule"}),
    ("expired", MessageExpired(ID, b"s@a.example", True), {"forced": True}),
    ("removed", MessageRemoved(ID), {"qid": ID.decode()}),
    ("notification", BounceQueued(ID, OTHER), {"dsn_qid": OTHER.decode()}),
    ("notice", Notice("spool", "full", Severity.ERROR, ID), {"severity": "error"}),
)  # fmt: skip


@pytest.fixture
def renderer() -> RecordRenderer:
    return RecordRenderer(Origin("relay.example", "postfix", 42, 3))


@pytest.mark.parametrize(("kind", "event", "some"), EVENTS, ids=[name for name, _, _ in EVENTS])
def test_record(renderer: RecordRenderer, kind: str, event: Event, some: dict[str, object]) -> None:
    octets, count = renderer.render([event], 1762153200.25)
    assert (count, octets.count(b"\n")) == (1, 1)
    record = msgspec.json.decode(octets)
    assert tuple(record) == HEAD + KEYS[kind]
    assert {key: record[key] for key in some} == some
    head = {"ts": "2025-11-03T07:00:00.250Z", "node": "relay.example", "worker": 3, "event": kind}
    assert {key: record[key] for key in HEAD} == head


def test_every_type_of_event_has_its_record_and_its_test() -> None:
    assert {name for name, _, _ in EVENTS} == KEYS.keys()
    assert {type(event) for _, event, _ in EVENTS} == set(get_args(Event))


def test_the_page_has_the_keys_of_each_event() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (.*?) \|$", DOCS.read_text(), re.MULTILINE)
    shown = {name: tuple(re.findall(r"`(\w+)`", keys)) for name, keys in rows}
    assert {name: shown[name] for name in KEYS if name in shown} == KEYS


EVIL = 'a"\n{"event":"removed"}\r\x00\x1b[2J\x7f\x9b\u2028\udc80é'


@pytest.mark.parametrize(
    "event",
    [
        Notice("smtpd", EVIL),
        LoginRefused(EVIL, EVIL, EVIL, EVIL),
        MessageReceived(ID, EVIL, EVIL.encode("utf-8", "surrogatepass"), EVIL),
        RecipientTried(ID, b"\xff\x9b\n", EVIL, (0, 0, 0, 0), "2.0.0", "sent", EVIL * 9000),
    ],
    ids=lambda event: type(event).__name__,
)
def test_nothing_a_peer_says_ends_a_record(renderer: RecordRenderer, event: Event) -> None:
    octets, _ = renderer.render([event], 0.0)
    assert octets.count(b"\n") == 1
    assert octets.endswith(b"\n")
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029]", octets.decode())
    assert len(octets) < 8 * TEXT_CHARACTERS_MAX


def test_an_event_that_cannot_be_shown_costs_only_its_own_record(renderer: RecordRenderer) -> None:
    broken = MessageActive("text", b"", 1, 1)  # type: ignore[arg-type]  # that is the point
    octets, count = renderer.render([MessageRemoved(ID), broken, MessageRemoved(ID)], 0.0)
    records = [msgspec.json.decode(line) for line in octets.split(b"\n")[:-1]]
    assert [record["event"] for record in records] == ["removed", "notice", "removed"]
    assert count == 3
    assert "MessageActive cannot be shown" in records[1]["text"]
