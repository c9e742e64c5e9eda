"""Postfix delivers through us, and we deliver through Postfix."""

import re
import smtplib
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from fastmta.lab.loopback import wait_until
from tests.support.daemon import Server, running
from tests.support.mailbox import Mailbox, without_received
from tests.support.postfix import Postfix, running_postfix

pytestmark = pytest.mark.interop

SENDER = "sender@source.test"
COUNT = 200
REFUSING = {
    "smtpd_recipient_restrictions": "check_recipient_access inline:{"
    "{gone@sink.test = 550 5.1.1 no such user}, {full@sink.test = 452 4.2.2 mailbox full}}, "
    "permit_mynetworks, reject"
}


@pytest.fixture(scope="module")
def mailbox() -> Iterator[Mailbox]:
    with Mailbox() as mailbox:
        yield mailbox


@pytest.fixture(scope="module")
def behind(mailbox: Mailbox) -> Iterator[Postfix]:
    """A Postfix that takes our mail."""
    with running_postfix(relay_host=mailbox.next_hop, **REFUSING) as postfix:
        yield postfix


@pytest.fixture(scope="module")
def server(behind: Postfix, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Our server, which delivers through that Postfix."""
    directory = tmp_path_factory.mktemp("server")
    with running(directory, relay_host=f"[127.0.0.1]:{behind.port}") as server:
        yield server


def send(port: int, recipient: str, content: bytes) -> None:
    with smtplib.SMTP("127.0.0.1", port) as client:
        client.sendmail(SENDER, [recipient], content)


def load(port: int, count: int, *options: str) -> None:
    subprocess.run(
        [
            "smtp-source",
            *("-s", "10", "-l", "2000", "-m", str(count), "-f", SENDER),
            *("-t", "load@sink.test", "-M", "source.test", *options, f"127.0.0.1:{port}"),
        ],
        check=True,
        timeout=120,
    )


def test_we_deliver_through_postfix(server: Server, behind: Postfix, mailbox: Mailbox) -> None:
    body = (
        b"Subject: through postfix\r\nMessage-ID: <1@x>\r\nDate: x\r\nFrom: a@b\r\n\r\n.\r\n..a\r\n"
    )
    send(server.port, "someone@sink.test", body)
    content = mailbox.wait_for(b"through postfix").content
    of_postfix, rest = without_received(content)
    of_ours, rest = without_received(rest)
    assert b"by postfix.test" in of_postfix
    assert b"by fastmta.test" in of_ours
    assert rest == body
    sent = re.compile(
        r"to=<someone@sink\.test>, relay=127\.0\.0\.1\[127\.0\.0\.1\]:\d+, .*dsn=2\.0\.0,"
        r" status=sent \(250 2\.0\.0 Ok: queued as \w+\)"
    )
    wait_until(lambda: bool(sent.search(server.log_text())), 10, "our log line")


def test_refusal_by_postfix_bounces_to_the_sender(server: Server, mailbox: Mailbox) -> None:
    send(server.port, "gone@sink.test", b"Subject: to nobody\r\n\r\nhello\r\n")
    report = mailbox.wait_for(b"to nobody")
    assert report.reverse_path == b""
    assert report.forward_paths == (SENDER.encode(),)
    assert b"multipart/report" in report.content
    assert b"Final-Recipient: rfc822; gone@sink.test" in report.content
    assert b"Status: 5.1.1" in report.content
    bounced = (
        r"status=bounced \(host 127\.0\.0\.1\[127\.0\.0\.1\] said: 550 5\.1\.1 .*"
        r"\(in reply to RCPT TO command\)\)"
    )
    wait_until(lambda: bool(re.search(bounced, server.log_text())), 10, "our log line")


def test_temporary_refusal_by_postfix_defers(server: Server) -> None:
    send(server.port, "full@sink.test", b"Subject: too full\r\n\r\nhello\r\n")
    deferred = r"to=<full@sink\.test>.*dsn=4\.2\.2, status=deferred \(host .* said: 452 4\.2\.2"
    wait_until(lambda: bool(re.search(deferred, server.log_text())), 10, "our log line")


def test_load_through_us_and_postfix_arrives_once(server: Server, mailbox: Mailbox) -> None:
    before = len(mailbox.messages)
    load(server.port, COUNT, "-d")
    mailbox.wait(before + COUNT, 60)
    wait_until(lambda: server.log_text().count("<load@sink.test>") >= COUNT, 20, "our log")
    assert len([one for one in mailbox.messages if b"load@sink.test" in one.forward_paths]) == COUNT


def test_postfix_delivers_through_us(mailbox: Mailbox, tmp_path: Path) -> None:
    with (
        running(tmp_path / "server", relay_host=mailbox.next_hop) as server,
        running_postfix(relay_host=f"[127.0.0.1]:{server.port}") as postfix,
    ):
        before = len(mailbox.messages)
        load(postfix.port, COUNT)
        messages = mailbox.wait(before + COUNT, 60)[before:]
        wait_until(
            lambda: postfix.log_text().count("status=sent (250 2.0.0 Ok: queued as ") >= COUNT,
            20,
            "Postfix's log",
        )
        assert "status=deferred" not in postfix.log_text()
        wait_until(  # it takes mail out after it has logged it
            lambda: postfix.command("postqueue", "-p").strip() == "Mail queue is empty",
            20,
            "Postfix's queue",
        )
    for message in messages:
        of_ours, rest = without_received(message.content)
        of_postfix, _ = without_received(rest)
        assert b"by fastmta.test" in of_ours
        assert b"by postfix.test" in of_postfix
    assert len(mailbox.messages) == before + COUNT
