"""The address vectors over the wire, as RCPT and as MAIL, to us and to Postfix."""

from __future__ import annotations

import contextlib
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from fastmta.lab.loopback import wait_until
from tests.support.client import Client
from tests.support.daemon import running
from tests.support.postfix import running_postfix
from tests.support.receiver import Receiver

pytestmark = pytest.mark.interop

VECTORS = Path(__file__).parent.parent / "vectors" / "addresses.toml"
CASES: list[Mapping[str, Any]] = tomllib.loads(VECTORS.read_text())["case"]
# Comments without an end, which Postfix takes in MAIL and refuses in RCPT (RFC 5322 3.2.2).
ONLY_IN_MAIL = {"isemail-91", "isemail-104", "isemail-108"}
MANY = 1000  # refusals in one session
QUIET = {
    "smtpd_soft_error_limit": str(MANY),
    "smtpd_hard_error_limit": str(MANY),
    "smtpd_junk_command_limit": str(MANY),
    "smtpd_peername_lookup": "no",
    "smtpd_relay_restrictions": "permit_mynetworks, reject",
}
PATIENT = {
    "limits__errors_soft": MANY,
    "limits__errors_hard": MANY,
    "limits__junk_commands": MANY,
}


def codes(port: int, verb: str) -> Iterator[int]:
    """The reply to each case as the argument of that verb; 0 where the server has closed."""
    with contextlib.ExitStack() as stack:
        client = stack.enter_context(Client(port))
        for case in CASES:
            command = verb.encode() + b" " + case["octets"].encode()
            if verb == "MAIL":
                command = command.replace(b"TO:", b"FROM:", 1)
            else:
                assert client.say("MAIL FROM:<>").startswith("250")
            client.raw(command + b"\r\n")
            answer = client.reply()
            yield int(answer[:3] or 0)
            if not answer or client.say("RSET") == "":
                client = stack.enter_context(Client(port))


@pytest.mark.parametrize("verb", ["RCPT", "MAIL"])
def test_what_postfix_refuses_we_refuse(tmp_path: Path, verb: str) -> None:
    with running(tmp_path, **PATIENT) as server, running_postfix(**QUIET) as postfix:
        ours = list(codes(server.port, verb))
        theirs = list(codes(postfix.port, verb))
    wrong = []
    for case, our_code, their_code in zip(CASES, ours, theirs, strict=True):
        is_null = case["octets"] == "TO:<>" and verb == "MAIL"  # a reverse-path may be empty
        is_right = (our_code == 250) == (case["problem"] == "NONE" or is_null)
        if our_code == 250:
            is_right &= their_code == 250
        elif their_code == 250:
            is_right &= "divergence" in case or (verb == "MAIL" and case["name"] in ONLY_IN_MAIL)
        if not is_right:
            wrong.append((case["name"], case["octets"], our_code, their_code))
    assert wrong == []


def test_paths_are_delivered_in_their_canonical_form(tmp_path: Path) -> None:
    accepted = [case for case in CASES if case["problem"] == "NONE"]
    with (
        Receiver() as receiver,
        running(tmp_path, relay_host=f"[127.0.0.1]:{receiver.port}", **PATIENT) as server,
    ):
        with Client(server.port) as client:
            for case in accepted:
                assert client.say("MAIL FROM:<>").startswith("250")
                client.raw(b"RCPT " + case["octets"].encode() + b"\r\n")
                assert client.reply().startswith("250")
                assert client.say("DATA").startswith("354")
                client.raw(b"Subject: %s\r\n\r\n.\r\n" % case["name"].encode())
                assert client.reply().startswith("250")
        wait_until(lambda: len(receiver.transactions) >= len(accepted), 30, "every message")
        commands = [line for session in receiver.sessions for line in session.commands]
    found = {line for line in commands if line.startswith(b"RCPT TO:")}
    for case in accepted:
        path = case["path"].encode()
        if path.endswith(b"@"):
            path += b"fastmta.test"
        assert b"RCPT TO:<" + path + b">" in found, case["name"]
