"""Debian's log summariser reads our lines and comes to the same totals as our counters."""

import re
import shutil
import subprocess
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
from fastmta.journal import LineRenderer, Origin

PFLOGSUMM = shutil.which("pflogsumm") or shutil.which("/usr/sbin/pflogsumm")
CLIENT = "client.example[192.0.2.7]"
RELAY = "mx.example[192.0.2.9]:25"
VERBS = {"ehlo": (1, 1), "mail": (3, 3), "rcpt": (3, 3), "data": (3, 3), "quit": (1, 1)}
SIZE_OCTETS = 1500

OUTCOMES = {
    "sent": ("2.0.0", "250 2.0.0 Ok: queued as 4F7Kq2"),
    "deferred": ("4.2.2", "host mx.example[192.0.2.9] said: 452 4.2.2 full (in reply to RCPT TO)"),
    "bounced": ("5.1.1", "host mx.example[192.0.2.9] said: 550 5.1.1 no (in reply to RCPT TO)"),
}


def message(number: int, kinds: list[str]) -> list[Event]:
    """A message to one recipient that meets `kinds` one after the other."""
    queue_id = b"0001abcdEFGH%04d" % number
    events: list[Event] = [MessageReceived(queue_id, CLIENT, b"<%d@client.example>" % number)]
    for attempt, kind in enumerate(kinds):
        events.append(MessageActive(queue_id, b"s%d@example.com" % (number % 5), SIZE_OCTETS, 1))
        status, text = OUTCOMES[kind]
        to = b"r%d@example.org" % (number % 7)
        delays = (0.1 * number, 0.0, 0.02, 0.3)
        events.append(RecipientTried(queue_id, to, RELAY, delays, status, kind, text, attempt + 1))
        if kind == "bounced":
            events.append(BounceQueued(queue_id, b"0001abcdEFGH9%03d" % number))
    events.append(MessageRemoved(queue_id))
    return events


def all_events() -> list[Event]:
    events: list[Event] = [ClientConnected(CLIENT)]
    for number in range(20):
        events += message(number, ["sent"])
    for number in range(20, 23):
        events += message(number, ["deferred", "deferred", "sent"])
    for number in range(23, 27):
        events += message(number, ["bounced"])
    for number in range(5):
        to = b"r%d@elsewhere.example" % number
        reply = f"554 5.7.1 <{to.decode()}>: Relay access denied"
        events.append(CommandRefused(CLIENT, "RCPT", reply, b"", b"s@x.example", to, helo=b"h"))
    events.append(MessageExpired(b"0001abcdEFGH0099", b"s@example.com"))
    events.append(ClientDisconnected(CLIENT, VERBS))
    events.append(ClientDisconnected(CLIENT, VERBS, "lost connection", "DATA", 120))
    return events


@pytest.mark.interop
def test_pflogsumm_finds_our_totals(tmp_path: Path) -> None:
    if PFLOGSUMM is None:
        pytest.skip("needs pflogsumm")
    renderer = LineRenderer(Origin("relay.example", "postfix", 42))
    path = tmp_path / "mail.log"
    path.write_bytes(renderer.render(all_events(), 1762153200)[0])
    run = subprocess.run(
        [PFLOGSUMM, "--smtpd-stats", str(path)], capture_output=True, text=True, check=True
    )
    assert run.stderr == ""
    section = run.stdout.partition("Grand Totals")[2].partition("Per-Hour")[0]
    lines = [re.sub(r" +", " ", line).strip() for line in section.split("\n")]
    counters = renderer.counters
    assert {
        f"{counters.accepted} received",
        f"{counters.delivered} delivered",
        f"3 deferred ({counters.deferred} deferrals)",
        f"{counters.bounced} bounced",
        f"{counters.rejected} rejected (17%)",
        f"{27 * SIZE_OCTETS} bytes received",
        "5 senders",
        "7 recipients",
        f"{counters.connections} connections",
    } <= set(lines)
    assert (counters.accepted, counters.delivered, counters.deferred) == (27, 23, 6)
    assert "6 4.2.2 full (in reply to RCPT TO" in re.sub(r" +", " ", run.stdout)
