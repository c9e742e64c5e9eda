"""Reports through the whole server: of success, of delay, of failure, and the postmaster's."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from fastmta.lab import free_port
from tests.support.client import Client, until
from tests.support.daemon import Server, running
from tests.support.mailbox import Mailbox
from tests.support.report_checker import Report, read_report

SENDER = "ann@sender.example"


@pytest.fixture(scope="module")
def mailbox() -> Iterator[Mailbox]:
    with Mailbox() as box:
        yield box


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, mailbox: Mailbox) -> Iterator[Server]:
    """All mail goes to a receiver without DSN, that for two domains to nobody and to nothing."""
    environment = {
        "FASTMTA_ROUTE__1__RECIPIENT": "late.example",
        "FASTMTA_ROUTE__1__TO": f"[127.0.0.1]:{free_port()}",
        "FASTMTA_ROUTE__2__RECIPIENT": "gone.example",
        "FASTMTA_ROUTE__2__TO": "discard:",
        "FASTMTA_ROUTE__3__RECIPIENT": "kept.example",
        "FASTMTA_ROUTE__3__TO": "hold:",
    }
    with running(
        tmp_path_factory.mktemp("server"),
        relay_host=mailbox.next_hop,
        environment=environment,
        notify__postmaster="boss@office.example",
        notify__classes=["bounce", "protocol"],
        notify__delay_s=1.0,
    ) as running_one:
        yield running_one


def send(server: Server, recipient: str, subject: str, mail: str = "", rcpt: str = "") -> None:
    with Client(server.port) as client:
        assert client.say(f"MAIL FROM:<{SENDER}>{mail}").startswith("250")
        assert client.say(f"RCPT TO:<{recipient}>{rcpt}").startswith("250")
        assert client.say("DATA").startswith("354")
        assert client.say(f"Subject: {subject}\r\n\r\nwords\r\n.").startswith("250")


def report(mailbox: Mailbox, words: bytes, to: str = SENDER) -> Report:
    """The report with these words that came for `to`."""

    def found() -> list[bytes]:
        return [
            one.content
            for one in list(mailbox.messages)
            if words in one.content and to.encode() in one.forward_paths
        ]

    until(lambda: bool(found()), 20.0)
    (content,) = found()
    return read_report(content)


def test_a_receiver_without_dsn_is_reported_as_relayed(server: Server, mailbox: Mailbox) -> None:
    send(server, "bob@there.example", "relayed-one", " RET=FULL ENVID=e1", " NOTIFY=SUCCESS")
    found = report(mailbox, b"relayed-one")
    assert found.message["original-envelope-id"] == "e1"
    (one,) = found.recipients
    assert (one["action"], one["status"][0]) == ("relayed", "2")
    assert found.original_kind == b"text/rfc822-headers"  # RFC 3461 4.3: a success needs no more


def test_what_ends_here_is_reported_as_delivered(server: Server, mailbox: Mailbox) -> None:
    send(server, "bob@gone.example", "delivered-one", "", " NOTIFY=SUCCESS,FAILURE")
    (one,) = report(mailbox, b"delivered-one").recipients
    assert one["action"] == "delivered"


def test_success_is_not_reported_to_who_did_not_ask(server: Server, mailbox: Mailbox) -> None:
    send(server, "bob@gone.example", "silent-one", " ENVID=e2")
    send(server, "bob@gone.example", "loud-one", "", " NOTIFY=SUCCESS")
    report(mailbox, b"loud-one")
    assert not [one for one in mailbox.messages if b"silent-one" in one.content]


def test_late_mail_is_told_of_once(server: Server, mailbox: Mailbox) -> None:
    send(server, "bob@late.example", "late-one")
    found = report(mailbox, b"late-one")
    (one,) = found.recipients
    assert one["action"] == "delayed"
    assert "will-retry-until" in one


def test_a_failure_goes_to_the_sender_and_its_copy_to_the_postmaster(
    server: Server, mailbox: Mailbox
) -> None:
    send(server, "bob@reply-550.test", "failed-one", " RET=FULL")
    found = report(mailbox, b"failed-one")
    assert found.original_kind == b"message/rfc822"
    assert b"words" in found.original
    copy = report(mailbox, b"failed-one", "boss@office.example")
    assert copy.original_kind == b"text/rfc822-headers"
    assert copy.recipients[0]["action"] == found.recipients[0]["action"] == "failed"


def test_held_mail_waits_without_a_word(server: Server, mailbox: Mailbox) -> None:
    send(server, "bob@kept.example", "kept-one")
    until(lambda: ": hold: <bob@kept.example>" in server.log_text(), 20.0)
    assert not [one for one in mailbox.messages if b"kept-one" in one.content]


@pytest.mark.long
def test_the_postmaster_hears_of_broken_clients(server: Server, mailbox: Mailbox) -> None:
    with Client(server.port) as client:
        for _ in range(25):
            if not client.say("WHAT IS THIS"):
                break
    until(
        lambda: any(
            b"boss@office.example" in one.forward_paths and b"too many errors" in one.content
            for one in list(mailbox.messages)
        ),
        40.0,
    )
