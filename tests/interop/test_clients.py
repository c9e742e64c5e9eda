"""Mail clients that people use, through a running server, to a receiver."""

import asyncio
import shutil
import smtplib
import subprocess
from collections.abc import Iterator
from email.message import EmailMessage
from pathlib import Path

import aiosmtplib
import pytest

from tests.support.daemon import Server, running
from tests.support.mailbox import Mailbox, without_received

pytestmark = pytest.mark.interop

SENDER = "sender@source.test"


@pytest.fixture(scope="module")
def mailbox() -> Iterator[Mailbox]:
    with Mailbox() as mailbox:
        yield mailbox


@pytest.fixture(scope="module")
def server(mailbox: Mailbox, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running(tmp_path_factory.mktemp("server"), relay_host=mailbox.next_hop) as server:
        yield server


def arrived(mailbox: Mailbox, words: bytes) -> bytes:
    """Content of the message with these words, our Received field checked and taken off."""
    received, content = without_received(mailbox.wait_for(words).content)
    assert b"by fastmta.test" in received
    return content


@pytest.mark.parametrize(
    "body",
    [
        b"Subject: plain one\r\n\r\nhello\r\n",
        b"Subject: dots one\r\n\r\n.\r\n..\r\n.dot\r\nend\r\n",
        b"Subject: empty one\r\n\r\n",
        b"Subject: eight-bit one\r\n\r\n" + bytes(range(128, 256)) + b"\r\n",
        b"Subject: long one\r\n\r\n" + b"x" * 990 + b"\r\n",
    ],
    ids=["plain", "dots", "empty", "eight-bit", "long-line"],
)
def test_smtplib_content_arrives_octet_for_octet(
    server: Server, mailbox: Mailbox, body: bytes
) -> None:
    with smtplib.SMTP("127.0.0.1", server.port) as client:
        client.sendmail(SENDER, ["someone@sink.test"], body)
    assert arrived(mailbox, body.split(b"\r\n", 1)[0]) == body


def test_smtplib_many_messages_on_one_connection(server: Server, mailbox: Mailbox) -> None:
    message = EmailMessage()
    message["From"] = SENDER
    message["To"] = "a@sink.test, b@sink.test"
    message.set_content("many")
    with smtplib.SMTP("127.0.0.1", server.port) as client:
        for number in range(20):
            del message["Subject"]
            message["Subject"] = f"many {number}."
            client.send_message(message)
    for number in range(20):
        found = mailbox.wait_for(b"Subject: many %d." % number)
        assert sorted(found.forward_paths) == [b"a@sink.test", b"b@sink.test"]


def test_smtplib_refused_recipient_does_not_end_the_transaction(
    server: Server, mailbox: Mailbox
) -> None:
    with smtplib.SMTP("127.0.0.1", server.port) as client:
        recipients = ["not an address@", "good@sink.test"]
        refused = client.sendmail(SENDER, recipients, b"Subject: half good\r\n\r\nx\r\n")
    assert list(refused) == ["not an address@"]
    assert mailbox.wait_for(b"half good").forward_paths == (b"good@sink.test",)


def test_aiosmtplib_concurrent_sessions(server: Server, mailbox: Mailbox) -> None:
    async def send(number: int) -> None:
        message = EmailMessage()
        message["From"] = SENDER
        message["To"] = "someone@sink.test"
        message["Subject"] = f"asynchronous {number}."
        message.set_content("hello")
        # In clear: it checks certificates, and the server's own is signed by nobody else.
        await aiosmtplib.send(message, hostname="127.0.0.1", port=server.port, start_tls=False)

    async def send_all() -> None:
        await asyncio.gather(*(send(number) for number in range(10)))

    asyncio.run(send_all())
    for number in range(10):
        assert b"hello" in arrived(mailbox, b"Subject: asynchronous %d." % number)


@pytest.mark.parametrize("options", [[], ["--pipeline"]], ids=["step-by-step", "pipelined"])
def test_swaks(server: Server, mailbox: Mailbox, tmp_path: Path, options: list[str]) -> None:
    if shutil.which("swaks") is None:
        pytest.skip("needs swaks")
    subject = f"swaks {len(options)}."
    done = subprocess.run(
        [
            "swaks",
            *("--server", f"127.0.0.1:{server.port}", "--from", SENDER),
            *("--to", "one@sink.test,two@sink.test", "--header", f"Subject: {subject}"),
            *options,
        ],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "250 2.0.0 Ok: queued as" in done.stdout
    found = mailbox.wait_for(subject.encode())
    assert sorted(found.forward_paths) == [b"one@sink.test", b"two@sink.test"]
