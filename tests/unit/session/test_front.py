"""XCLIENT and XFORWARD: who may say them, what they change, and what they do not carry over."""

from __future__ import annotations

import ipaddress
from typing import Any

from fastmta.event import MessageReceived
from fastmta.session import SessionSettings, State
from fastmta.session.settings import Networks
from fastmta.smtp.tls import TlsFacts
from tests.support.session import HOSTNAME, Dialog, FakeAuthenticate, FakeHook, accepting

FRONT = "192.0.2.10"
NETWORK = Networks((ipaddress.ip_network("192.0.2.0/28"),))
SETTINGS = SessionSettings(HOSTNAME, xclient=NETWORK, xforward=NETWORK, has_auth=True, has_tls=True)


def dialog(address: str = FRONT, **more: Any) -> Dialog:
    return Dialog(address, SETTINGS, ["ours.example"], **more).hello()


def relayed(it: Dialog) -> str:
    it.send(b"EHLO c\r\n")
    it.send(b"MAIL FROM:<>\r\n")
    return it.codes(b"RCPT TO:<x@elsewhere.example>\r\n")[0]


def test_both_are_offered_to_listed_peers_only() -> None:
    lines = dialog().send(b"EHLO c\r\n")
    assert any(line.startswith("250-XCLIENT NAME ADDR") for line in lines)
    assert any(line.startswith("250-XFORWARD NAME ADDR") for line in lines)
    it = dialog("192.0.2.99")
    assert not [line for line in it.send(b"EHLO c\r\n") if "XCLIENT" in line]
    assert it.codes(b"XCLIENT ADDR=127.0.0.1\r\n") == ["550"]
    assert it.codes(b"XFORWARD ADDR=127.0.0.1\r\n") == ["550"]
    assert relayed(it) == "554"


def test_the_client_is_another_one_from_the_greeting_on() -> None:
    it = dialog()
    lines = it.send(b"XCLIENT ADDR=203.0.113.7 NAME=app.example HELO=app PORT=4711\r\n")
    assert lines == [f"220 {HOSTNAME} ESMTP fastmta"]
    assert it.session.state is State.CONNECTED
    assert it.session.client == "app.example[203.0.113.7]"
    assert it.session.peer == ("203.0.113.7", 4711)
    it.send(b"EHLO front\r\n")
    it.send(b"MAIL FROM:<a@b.example>\r\nRCPT TO:<c@ours.example>\r\nDATA\r\n")
    it.send(b"\r\n.\r\n")
    content = it.accept.messages[0].content or b""
    assert content.startswith(b"Received: from app (app.example [203.0.113.7])\r\n")


def test_rights_are_those_of_the_client_that_is_named() -> None:
    it = dialog()
    it.send(b"XCLIENT ADDR=127.0.0.1\r\n")
    assert relayed(it) == "250"
    it.send(b"RSET\r\n")
    it.send(b"XCLIENT ADDR=203.0.113.7\r\n")
    assert relayed(it) == "554"


def test_a_login_of_the_front_end_is_not_its_clients() -> None:
    it = dialog(authenticate=FakeAuthenticate([accepting()]))
    assert it.codes(b"AUTH PLAIN AAAA\r\n") == ["235"]
    it.send(b"XCLIENT ADDR=203.0.113.7\r\n")
    assert it.session.login == ""
    assert relayed(it) == "554"
    it.send(b"RSET\r\n")
    it.send(b"XCLIENT LOGIN=alice\r\n")
    assert relayed(it) == "250"
    it.send(b"RSET\r\n")
    it.send(b"XCLIENT LOGIN=[UNAVAILABLE]\r\n")
    assert relayed(it) == "554"


def test_a_certificate_of_the_front_end_is_not_its_clients() -> None:
    known = "ab" * 32
    it = dialog(fingerprints=[known])
    it.start_tls(TlsFacts("TLSv1.3", "X", 256, "", known))
    it.send(b"XCLIENT ADDR=203.0.113.7\r\n")
    assert relayed(it) == "554"


def test_a_hook_hears_that_the_client_is_another_one() -> None:
    hook = FakeHook(stages=frozenset())
    it = dialog(hook=hook)
    it.send(b"XCLIENT ADDR=203.0.113.7\r\n")
    assert "renamed" in hook.told


def test_faults_change_nothing_and_a_transaction_forbids_it() -> None:
    it = dialog()
    for argument in (b"", b"ADDR", b"ADDR=1.2.3", b"FOO=bar", b"ADDR=1.2.3.4 ADDR=1.2.3.5"):
        assert it.codes(b"XCLIENT " + argument + b"\r\n") == ["501"]
    assert it.session.client == f"unknown[{FRONT}]"
    it.send(b"MAIL FROM:<a@b.example>\r\n")
    assert it.codes(b"XCLIENT ADDR=1.2.3.4\r\n") == ["503"]
    assert it.codes(b"XFORWARD ADDR=1.2.3.4\r\n") == ["503"]


def test_octets_behind_xclient_end_the_session() -> None:
    it = dialog()
    assert it.codes(b"XCLIENT ADDR=1.2.3.4\r\nEHLO c\r\n") == ["554"]
    assert it.session.is_closing


def test_xforward_is_for_the_log_of_one_message() -> None:
    it = dialog()
    it.send(b"XFORWARD NAME=app.example ADDR=203.0.113.7\r\n")
    assert it.codes(b"XFORWARD IDENT=ABC123\r\n") == ["250"]
    for _ in range(2):
        it.send(b"MAIL FROM:<a@b.example>\r\nRCPT TO:<c@ours.example>\r\nDATA\r\n")
        assert it.codes(b"\r\n.\r\n") == ["250"]
    origins = [event.origin for event in it.events if isinstance(event, MessageReceived)]
    assert origins == [", orig_queue_id=ABC123, orig_client=app.example[203.0.113.7]", ""]
    assert it.session.client == f"unknown[{FRONT}]"


def test_the_log_counts_xclient_as_postfix_does() -> None:
    it = dialog()
    it.send(b"XCLIENT ADDR=203.0.113.7\r\n")
    assert it.session.ended("").verbs["xclient"] == (0, 1)


def test_what_was_said_of_the_client_in_clear_does_not_count_within_tls() -> None:
    it = dialog()
    it.send(b"XFORWARD NAME=evil.example ADDR=203.0.113.7\r\n")
    it.send(b"XCLIENT ADDR=127.0.0.1 LOGIN=alice HELO=evil PORT=1\r\n")
    it.start_tls()
    assert it.session.client == f"unknown[{FRONT}]"
    assert it.session.peer == (FRONT, 0)
    assert it.session.forwarded is None
    assert relayed(it) == "554"
