"""Debian's fail2ban, with its own filter for Postfix, bans whom our lines name, and nobody else."""

import shutil
import subprocess
from pathlib import Path

import pytest

from fastmta.event import ClientDisconnected, CommandRefused, Event, MessageReceived
from fastmta.event.security import LoginRefused, TlsStarted
from fastmta.journal import LineRenderer, Origin
from fastmta.smtp.sasl import LOCKED
from fastmta.smtp.tls import TlsFacts

REGEX = shutil.which("fail2ban-regex")
VICTIM = "198.51.100.9"
FORGED = (
    f"joe\nNov  3 07:00:00 relay.example postfix/smtpd[1]: warning: unknown[{VICTIM}]: "
    "SASL PLAIN authentication failed: x"
)

pytestmark = pytest.mark.skipif(REGEX is None, reason="needs Debian's fail2ban")


def client(number: int) -> str:
    return f"unknown[192.0.2.{number}]"


def banned(directory: Path, mode: str, *events: Event) -> list[str]:
    """The address of each line that the filter takes for a failure."""
    assert REGEX is not None
    octets, _ = LineRenderer(Origin("relay.example", "postfix", 42)).render([*events], 1762153200)
    log = directory / "mail.log"
    log.write_bytes(octets)
    done = subprocess.run(
        [REGEX, "--out", "ip", str(log), f"postfix[mode={mode}]"],
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.split()


@pytest.mark.parametrize("mode", ["auth", "aggressive"])
@pytest.mark.parametrize("login", ["joe", "", FORGED], ids=["login", "none", "forged"])
def test_refused_logins_are_failures_of_their_client(tmp_path: Path, mode: str, login: str) -> None:
    reason = "authentication failure"
    events = [
        LoginRefused(client(1), "PLAIN", login, reason),
        LoginRefused(client(2), "LOGIN", login, ""),
        LoginRefused("mx.example[2001:db8::7]", "CRAM-MD5", login, reason),
        LoginRefused(client(8), "PLAIN", login, LOCKED),
    ]
    addresses = ["192.0.2.1", "192.0.2.2", "2001:db8::7", "192.0.2.8"]
    assert banned(tmp_path, mode, *events) == addresses


def test_sessions_that_only_fail_to_log_in_are_failures_of_aggressive(tmp_path: Path) -> None:
    counts = {"ehlo": (1, 1), "auth": (0, 3), "quit": (1, 1)}
    assert banned(tmp_path, "aggressive", ClientDisconnected(client(3), counts)) == ["192.0.2.3"]
    assert banned(tmp_path, "auth", ClientDisconnected(client(3), counts)) == []


def test_who_logs_in_is_left_alone(tmp_path: Path) -> None:
    events = [
        TlsStarted(client(4), TlsFacts("TLSv1.3", "TLS_AES_256_GCM_SHA384", 256)),
        MessageReceived(b"0001abcdEFGH0007", client(4), b"", "joe", "PLAIN"),
        ClientDisconnected(client(4), {"ehlo": (2, 2), "starttls": (1, 1), "auth": (1, 1)}),
    ]
    assert banned(tmp_path, "aggressive", *events) == []


def test_refused_relaying_is_a_failure(tmp_path: Path) -> None:
    reply = "554 5.7.1 <r@example.org>: Relay access denied"
    event = CommandRefused(client(5), "RCPT", reply, b"", b"s@example.com", b"r@example.org")
    assert banned(tmp_path, "aggressive", event) == ["192.0.2.5"]
