"""LMTP and submission listeners, and what of an envelope arrives at the receiver."""

from __future__ import annotations

import email
import re
import smtplib
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from fastmta.lab import free_port
from tests.support.client import Client, until
from tests.support.daemon import Server, running
from tests.support.postfix import running_postfix
from tests.support.receiver import EHLO_REPLY, Act, Receiver
from tests.support.sasl import user_line
from tests.support.tls import client_context, issue

OFFERING = EHLO_REPLY.replace(b"250 ENHANCED", b"250-DSN\r\n250-SMTPUTF8\r\n250 ENHANCED")
FIELDS = ("Date", "Message-ID", "From")


@dataclass
class Site:
    server: Server
    receiver: Receiver
    lmtp: int
    submission: int

    def submit(self) -> Client:
        client = Client(self.submission)
        assert client.start_tls(client_context()).startswith("250")
        assert client.log_in("anna", "secret").startswith("235")
        return client


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    directory = tmp_path_factory.mktemp("kinds")
    (directory / "users").write_text(user_line("anna", "secret") + "\n")
    (directory / "users").chmod(0o600)
    ports = [free_port(), free_port()]
    with (
        Receiver({"EHLO": Act(OFFERING)}) as receiver,
        running(
            directory,
            relay_host=f"[127.0.0.1]:{receiver.port}",
            tls__certificate=issue(directory / "server.pem", "fastmta.test"),
            auth__accounts_file=str(directory / "users"),
            limits__recipients=100,
            limits__message_octets=200_000,
            listen__lmtp__bind=f"127.0.0.1:{ports[0]}",
            listen__lmtp__kind="lmtp",
            listen__submission__bind=f"127.0.0.1:{ports[1]}",
            listen__submission__kind="submission",
        ) as server,
    ):
        yield Site(server, receiver, *ports)


# LMTP (RFC 2033).


def test_lhlo_is_the_only_hello(site: Site) -> None:
    with Client(site.lmtp, greets=False) as client:
        assert client.reply() == "220 fastmta.test LMTP fastmta"
        for command in ("HELO c.example", "EHLO c.example"):
            assert client.say(command) == "500 5.5.2 Error: command not recognized"
        assert client.say("MAIL FROM:<a@b.example>") == "503 5.5.1 Error: send LHLO first"
        offered = client.say("LHLO c.example").split("\n")
        assert {"250-PIPELINING", "250-8BITMIME", "250-CHUNKING", "250-DSN"} <= set(offered)
        assert "250-STARTTLS" not in offered
    with Client(site.server.port) as client:
        assert client.say("LHLO c.example") == "500 5.5.2 Error: command not recognized"


@pytest.mark.parametrize("verb", ["DATA", "BDAT"])
def test_a_reply_for_each_recipient(site: Site, verb: str) -> None:
    names = [f"{verb.lower()}-{n}@dest.example" for n in range(3)]
    with Client(site.lmtp, hello="LHLO") as client:
        client.transaction(*names, names[0])  # one of them twice: it was accepted twice
        if verb == "DATA":
            assert client.say("DATA").startswith("354")
            client.raw(b"Subject: x\r\n\r\nbody\r\n.\r\nNOOP\r\n")
        else:
            client.raw(b"BDAT 12\r\nSubject: x\r\nBDAT 8 LAST\r\n\r\nbody\r\nNOOP\r\n")
            assert client.reply() == "250 2.0.0 Ok: 12 bytes"
        replies = [client.reply() for _ in range(4)]
        assert len(set(replies)) == 1
        assert re.fullmatch(r"250 2\.0\.0 Ok: (20 bytes )?queued as \w+", replies[0])
        assert client.reply() == "250 2.0.0 Ok"
    arrived = site.receiver.arrived(names[0])
    assert arrived.forward_paths == [name.encode() for name in names]
    assert b"with LMTP id" in arrived.content


@pytest.mark.parametrize("verb", ["DATA", "BDAT"])
def test_a_refusal_for_each_recipient(site: Site, verb: str) -> None:
    line = b"x" * 76 + b"\r\n"
    with Client(site.lmtp, hello="LHLO") as client:
        client.transaction("a@dest.example", "b@dest.example")
        content = b"Subject: a\0b\r\n\r\n"
        if verb == "DATA":
            assert client.say("DATA").startswith("354")
            client.raw(content + b".\r\n")
        else:
            client.raw(b"BDAT %d LAST\r\n" % len(content) + content)
        for _ in range(2):
            assert client.reply() == "550 5.6.0 Error: NUL octet in message"
        assert client.say("NOOP") == "250 2.0.0 Ok"
        client.transaction("a@dest.example", "b@dest.example", "c@dest.example")
        if verb == "DATA":
            assert client.say("DATA").startswith("354")
            client.raw(line * 2600 + b".\r\n")
            for _ in range(3):
                assert client.reply() == "552 5.3.4 Error: message too large"
        assert client.say("RSET") == "250 2.0.0 Ok"


def test_no_recipient_no_content(site: Site) -> None:
    """RFC 2033 4.2: without a recipient DATA fails, and there is nothing to reply for."""
    with Client(site.lmtp, hello="LHLO") as client:
        client.say("MAIL FROM:<a@b.example>")
        assert client.say("RCPT TO:<@>").startswith("501")
        assert client.say("DATA") == "554 5.5.1 Error: no valid recipients"
        client.raw(b"BDAT 6 LAST\r\nNOOP\r\n")
        assert client.reply() == "554 5.5.1 Error: no valid recipients"
        assert client.say("NOOP") == "250 2.0.0 Ok"


def test_pythons_lmtp_client(site: Site) -> None:
    with smtplib.LMTP("127.0.0.1", site.lmtp) as client:
        for name in ("py1@dest.example", "py2@dest.example"):
            assert client.sendmail("a@b.example", [name], b"Subject: x\r\n\r\nbody\r\n") == {}
            assert site.receiver.arrived(name).content.endswith(b"Subject: x\r\n\r\nbody\r\n")


@pytest.mark.interop
def test_postfix_delivers_to_us_by_lmtp(site: Site) -> None:
    names = [f"pf{n}@dest.example" for n in range(3)]
    route = {"default_transport": f"lmtp:inet:127.0.0.1:{site.lmtp}"}
    with running_postfix(**route) as postfix:
        with smtplib.SMTP("127.0.0.1", postfix.port) as client:
            assert client.sendmail("a@b.example", names, b"Subject: x\r\n\r\n.dot\r\n") == {}
        arrived = site.receiver.arrived(names[0])
        until(lambda: postfix.log_text().count("status=sent (250 2.0.0 Ok: queued as") == 3)
    assert arrived.forward_paths == [name.encode() for name in names]
    assert b"with LMTP id" in arrived.content
    assert arrived.content.endswith(b"\r\n\r\n.dot\r\n"), "behind fields that Postfix added"


# Submission (RFC 6409).


@pytest.mark.parametrize("verb", ["DATA", "BDAT"])
@pytest.mark.parametrize("missing", [*FIELDS, "all", "none"])
def test_submission_adds_what_is_missing(site: Site, verb: str, missing: str) -> None:
    given = {
        "Date": "Thu, 1 Jan 1970 00:00:00 +0000",
        "Message-ID": "<own@client.example>",
        "From": "Anna <anna@client.example>",
    }
    if missing == "all":
        given.clear()
    given.pop(missing, None)
    content = "".join(f"{name}: {value}\r\n" for name, value in given.items())
    content += "Subject: Date: none\r\n\r\nFrom: body\r\n"
    path = f"{missing.lower()}-{verb.lower()}@dest.example"
    with site.submit() as client:
        if verb == "DATA":
            queued = client.send(path, content=content, reverse_path="anna@source.example")
        else:
            client.transaction(path, reverse_path="anna@source.example")
            client.raw(f"BDAT {len(content)} LAST\r\n{content}".encode())
            queued = client.reply()
        assert queued.startswith("250"), queued
    queue_id = queued.split()[-1]
    message = email.message_from_bytes(site.receiver.arrived(path).content)
    for name in FIELDS:
        assert len(message.get_all(name, [])) == 1, name
        if name in given:
            assert message[name] == given[name]
    if "From" not in given:
        assert message["From"] == "<anna@source.example>"
    if "Message-ID" not in given:
        assert queue_id in message["Message-ID"]
        line = f"{queue_id}: message-id={message['Message-ID']}\n"
        until(lambda: line in site.server.log_text())
    assert site.receiver.arrived(path).content.endswith(content.partition("Subject")[2].encode())


def test_other_listeners_add_nothing(site: Site) -> None:
    for port, hello, path in (
        (site.server.port, "EHLO", "plain-relay@dest.example"),
        (site.lmtp, "LHLO", "plain-lmtp@dest.example"),
    ):
        with Client(port, hello=hello) as client:
            assert client.send(path, content="Subject: x\r\n\r\nbody\r\n").startswith("250")
        message = email.message_from_bytes(site.receiver.arrived(path).content)
        assert not {name.lower() for name in FIELDS} & {name.lower() for name in message}


# What comes in with an envelope goes out with it.


def test_smtputf8_and_delivery_reports_arrive(site: Site) -> None:
    with Client(site.server.port) as client:
        mail = "MAIL FROM:<ünal@пример.example> SMTPUTF8 BODY=8BITMIME RET=HDRS ENVID=QQ+2B1"
        assert client.say(mail) == "250 2.1.0 Ok"
        for rcpt in (
            "RCPT TO:<用户@例子.example> NOTIFY=SUCCESS,DELAY ORCPT=utf-8;用户@例子.example",
            "RCPT TO:<plain@dest.example> NOTIFY=NEVER",
            "RCPT TO:<third@dest.example> ORCPT=rfc822;first+40dest.example",
        ):
            assert client.say(rcpt) == "250 2.1.5 Ok", rcpt
        assert client.say("DATA").startswith("354")
        client.raw("Subject: тест\r\n\r\n本文\r\n.\r\n".encode())
        assert client.reply().startswith("250")
    arrived = site.receiver.arrived("plain@dest.example")
    assert arrived.reverse_path == "ünal@xn--e1afmkfd.example".encode()
    assert set(arrived.mail_parameters.split(b" ")) >= {
        b"SMTPUTF8",
        b"BODY=8BITMIME",
        b"RET=HDRS",
        b"ENVID=QQ+2B1",
    }
    assert arrived.forward_paths[0] == "用户@xn--fsqu00a.example".encode()
    first, second, third = (set(each.split(b" ")) for each in arrived.rcpt_parameters)
    assert first == {b"NOTIFY=SUCCESS,DELAY", "ORCPT=utf-8;用户@例子.example".encode()}
    assert second >= {b"NOTIFY=NEVER"}
    assert b"ORCPT=rfc822;first+40dest.example" in third
    assert b"with UTF8SMTP id" in arrived.content
    assert arrived.content.endswith("Subject: тест\r\n\r\n本文\r\n".encode())


def test_the_next_transaction_begins_without_parameters(site: Site) -> None:
    with Client(site.server.port) as client:
        client.say("MAIL FROM:<a@b.example> SMTPUTF8 RET=FULL ENVID=left BODY=8BITMIME")
        client.say("RCPT TO:<ü@dest.example> NOTIFY=NEVER")
        client.say("RSET")
        assert client.say("MAIL FROM:<ü@b.example>").startswith("553 5.6.7")
        assert client.send("clean@dest.example").startswith("250")
    arrived = site.receiver.arrived("clean@dest.example")
    assert not {b"SMTPUTF8", b"RET=FULL", b"ENVID=left"} & set(arrived.mail_parameters.split(b" "))
    assert not any(b"NEVER" in each for each in arrived.rcpt_parameters)


def test_limits_are_said_and_kept(site: Site) -> None:
    with Client(site.server.port) as client:
        offered = client.say("EHLO c.example")
        assert "LIMITS MAILMAX=10000 RCPTMAX=100" in offered
        assert "250-SIZE 200000\n" in offered
        assert client.say("MAIL FROM:<a@b.example> SIZE=200001").startswith("552 5.3.4")
        assert client.say("MAIL FROM:<a@b.example> SIZE=200000").startswith("250")
        codes = [client.say(f"RCPT TO:<r{n}@dest.example>")[:9] for n in range(102)]
        assert codes == ["250 2.1.5"] * 100 + ["452 4.5.3"] * 2
