"""Our lines are those that a real Postfix wrote in the same situations, octet for octet.

`record_golden.py` and `record_security.py` made the files and say what was replaced by constants.
"""

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

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
    RecipientTried,
)
from fastmta.event.security import LoginRefused, TlsStarted
from fastmta.journal import LineRenderer, Origin
from fastmta.smtp.tls import TlsFacts

FOLDER = Path(__file__).parent / "golden"
CLIENT = "unknown[127.0.0.1]"
STRANGER = "unknown[127.0.0.3]"
HOST = "127.0.0.1[127.0.0.1]"
SENDER = b"s@example.com"
BOUNCE_ID = b"<20261103070000.QID@postfix.test>"


def attempt(forward_path: bytes, kind: str, status: str, text: str) -> RecipientTried:
    return RecipientTried(b"QID", forward_path, f"{HOST}:2526", (0, 0, 0, 0), status, kind, text)


def refused(client: str, stage: str, reply: str, forward_path: bytes | None) -> CommandRefused:
    return CommandRefused(
        client, stage, reply, b"", SENDER, forward_path, "ESMTP", b"client.example"
    )


def three_messages() -> Iterator[Event]:
    """The first is sent; the second bounces, the third is deferred and expires: two DSNs."""
    yield ClientConnected(CLIENT)
    said = f"host {HOST} said: "
    where = " (in reply to RCPT TO command)"
    results = (
        attempt(b"good@example.org", "sent", "2.0.0", "250 2.0.0 Ok: queued as GOLDEN"),
        attempt(b"gone@example.org", "bounced", "5.1.1", f"{said}550 5.1.1 no such user{where}"),
        attempt(b"full@example.org", "deferred", "4.2.2", f"{said}452 4.2.2 mailbox full{where}"),
    )
    for result in results:
        yield MessageReceived(b"QID", CLIENT, b"<1@client.example>")
        yield MessageActive(b"QID", SENDER, 1, 1)
        yield result
        if result.kind == "deferred":
            yield MessageExpired(b"QID", SENDER)
        if result.kind != "sent":
            yield MessageReceived(b"QID", "", BOUNCE_ID)
            yield BounceQueued(b"QID", b"QID")
            yield MessageActive(b"QID", b"", 1, 1)
            yield attempt(SENDER, "sent", "2.0.0", "250 2.0.0 Ok: queued as GOLDEN")
            yield MessageRemoved(b"QID")
        yield MessageRemoved(b"QID")
    counts = {"ehlo": (1, 1), "mail": (3, 3), "rcpt": (3, 3), "data": (3, 3), "quit": (1, 1)}
    yield ClientDisconnected(CLIENT, counts)


def troubled_sessions() -> Iterator[Event]:
    yield ClientConnected(STRANGER)
    reply = "454 4.7.1 <r@example.org>: Relay access denied"
    yield refused(STRANGER, "RCPT", reply, b"r@example.org")
    counts = {"ehlo": (1, 1), "mail": (1, 1), "rcpt": (0, 1), "rset": (1, 1), "quit": (1, 1)}
    yield ClientDisconnected(STRANGER, counts)
    yield refused(CLIENT, "MAIL", "552 5.3.4 Message size exceeds fixed limit", None)
    # a refused RCPT had got its queue id before; a message broken off in DATA has one, too
    yield MessageReceived(b"QID", CLIENT, b"not in the log")
    for end in (
        ClientDisconnected(
            CLIENT, {"unknown": (0, 1), "ehlo": (1, 1), "quit": (1, 1), "mail": (0, 1)}
        ),
        ClientDisconnected(CLIENT, {"unknown": (0, 3)}, "too many errors", "UNKNOWN"),
        ClientDisconnected(CLIENT, {"ehlo": (1, 1), "mail": (1, 1)}, "lost connection", "MAIL"),
        ClientDisconnected(
            CLIENT,
            {"ehlo": (1, 1), "mail": (1, 1), "rcpt": (1, 1), "data": (0, 1)},
            "lost connection",
            "DATA",
            1,
        ),
        ClientDisconnected(CLIENT, {}, "timeout", "CONNECT"),
    ):
        yield ClientConnected(CLIENT)
        yield end


TLS = TlsFacts("TLSv1.3", "TLS_AES_256_GCM_SHA384", 256)
TLS_SHOWN = TlsFacts(
    "TLSv1.3", "TLS_AES_256_GCM_SHA384", 256, fingerprint="00" * 32, is_verified=False
)
REFUSED = "Invalid authentication mechanism"


def relayed(client: str = CLIENT, login: str = "", mechanism: str = "") -> Iterator[Event]:
    """One message from 250 to its end."""
    yield MessageReceived(b"QID", client, b"<1@client.example>", login, mechanism)
    yield MessageActive(b"QID", SENDER, 1, 1)
    yield attempt(b"r@example.org", "sent", "2.0.0", "250 2.0.0 Ok: queued as GOLDEN")
    yield MessageRemoved(b"QID")


def session(
    *events: Event, client: str = CLIENT, login: str = "", **verbs: tuple[int, int]
) -> Iterator[Event]:
    """One session with one message; `verbs` besides those that every one has."""
    yield ClientConnected(CLIENT)
    yield from events
    yield from relayed(client, login, "PLAIN" if login else "")
    usual = {"ehlo": (1, 1), "mail": (1, 1), "rcpt": (1, 1), "quit": (1, 1)}
    content = {} if "bdat" in verbs else {"data": (1, 1)}
    yield ClientDisconnected(client, usual | content | verbs)


def secured_sessions() -> Iterator[Event]:
    one, two = (1, 1), (2, 2)
    yield from session()
    yield from session()  # with SMTPUTF8, of which the log says nothing
    yield from session(TlsStarted(CLIENT, TLS), ehlo=two, starttls=one)
    yield from session(TlsStarted(CLIENT, TLS_SHOWN), ehlo=two, starttls=one)
    yield from session(
        LoginRefused(CLIENT, "NONSENSE", "", REFUSED),
        LoginRefused(CLIENT, "PLAIN", "joe", ""),
        LoginRefused(CLIENT, "LOGIN", "joe", ""),
        login="joe",
        auth=(1, 4),
    )
    yield from session(TlsStarted(CLIENT, TLS), login="joe", ehlo=two, starttls=one, auth=one)
    other = "other.example[127.0.0.1]"
    yield from session(client=other, ehlo=two, xclient=(0, 1), bdat=two)


def unwanted_reports() -> Iterator[Event]:
    """Three messages bounce, and only one sender wants to hear of it."""
    yield ClientConnected(CLIENT)
    said = f"host {HOST} said: 550 5.1.1 no such user (in reply to RCPT TO command)"
    for is_wanted in (False, False, True):
        yield MessageReceived(b"QID", CLIENT, b"<1@client.example>")
        yield MessageActive(b"QID", SENDER, 1, 1)
        yield attempt(b"gone@example.org", "bounced", "5.1.1", said)
        if is_wanted:
            yield MessageReceived(b"QID", "", BOUNCE_ID)
            yield BounceQueued(b"QID", b"QID")
            yield MessageActive(b"QID", b"", 1, 1)
            yield attempt(SENDER, "sent", "2.0.0", "250 2.0.0 Ok: queued as GOLDEN")
            yield MessageRemoved(b"QID")
        yield MessageRemoved(b"QID")
    three = (3, 3)
    counts = {"ehlo": (1, 1), "mail": three, "rcpt": three, "data": three, "quit": (1, 1)}
    yield ClientDisconnected(CLIENT, counts)


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("postfix", (three_messages, troubled_sessions)),
        ("postfix-security", (secured_sessions, unwanted_reports)),
    ],
)
def test_lines_are_those_of_postfix(
    monkeypatch: pytest.MonkeyPatch, name: str, parts: tuple[Callable[[], Iterator[Event]], ...]
) -> None:
    monkeypatch.setitem(os.environ, "TZ", "UTC")
    time.tzset()
    renderer = LineRenderer(Origin("relay.example", "postfix", 42))
    events = [event for part in parts for event in part()]
    octets, _ = renderer.render(events, 1762153200)
    ours = [line for line in octets.decode().split("\n") if line and "not in the log" not in line]
    golden = (FOLDER / f"{name}.log").read_text()
    assert sorted(ours) == golden.rstrip("\n").split("\n")
