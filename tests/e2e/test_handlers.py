"""Handlers of aiosmtpd through the whole server: filter, sink, and handlers that misbehave."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from fastmta.lab.loopback import LabError
from tests.support.client import Client, until
from tests.support.daemon import Server, running
from tests.support.receiver import Receiver
from tests.support.tls import client_context, issue

LAYERS = ("clear", "tls")
TIMEOUT_S = 1.0
FILTER = """
import asyncio, time

class Filter:
    async def handle_EHLO(self, server, session, envelope, hostname, responses):
        session.host_name = hostname
        return responses

    async def handle_MAIL(self, server, session, envelope, address, options):
        if address.startswith("refused"):
            return "550 5.7.1 not from there"
        envelope.mail_from = address
        envelope.mail_options.extend(options)
        return "250 2.1.0 welcome"

    async def handle_RCPT(self, server, session, envelope, address, options):
        if address.startswith("refused"):
            return "550 5.7.1 not that one"
        if address.startswith("later"):
            return "450 4.2.0 not now"
        if address.startswith("bye"):
            await asyncio.sleep(0.05)
            return "421 4.3.2 go away"
        if address.startswith("raises"):
            raise RuntimeError("on purpose")
        if address.startswith("nonsense"):
            return 42
        if address.startswith("injects"):
            return "250 fine\\r\\n250 and this\\r\\n"
        if address.startswith("hangs"):
            await asyncio.sleep(3600)
        if address.startswith("blocks"):
            time.sleep(3)
        envelope.rcpt_tos.append(address)
        return "250 2.1.5 yes"

    def handle_VRFY(self, server, session, envelope, address):
        return f"252 2.0.0 {session.peer[0]} {session.ssl is not None} {session.host_name}"

    async def handle_DATA(self, server, session, envelope):
        content = envelope.content
        if b"Subject: refuse" in content:
            return "554 5.7.1 not such a thing"
        if b"Subject: raise" in content:
            raise RuntimeError("on purpose")
        if b"Subject: hang" in content:
            await asyncio.sleep(3600)
        if b"Subject: redirect" in content:
            envelope.mail_from = "changed@source.example"
            envelope.rcpt_tos = ["elsewhere@dest.example"]
        if b"Subject: odd" in content:
            content = content.replace(b"\\r\\n", b"\\n") + b".\\nMAIL FROM:<evil@x.example>\\n.\\r"
        envelope.content = b"X-Filter: " + envelope.mail_from.encode() + b"\\r\\n" + content
        return "250 2.0.0 fine"
"""
SINK = """
import json

class Sink:
    def __init__(self, path):
        self._path = path

    def handle_DATA(self, server, session, envelope):
        if b"Subject: refuse" in envelope.content:
            return "552 5.2.2 full"
        with open(self._path, "a") as file:
            file.write(json.dumps([envelope.mail_from, envelope.rcpt_tos,
                                   envelope.content.decode("latin-1")]) + "\\n")
        return "250 2.0.0 it is mine"
"""


@dataclass
class Site:
    server: Server
    receiver: Receiver

    def connect(self, layer: str = "clear") -> Client:
        client = Client(self.server.port)
        if layer == "tls":
            assert client.start_tls(client_context()).startswith("250")
        return client


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A server with the handler above as its filter."""
    directory = tmp_path_factory.mktemp("filter")
    (directory / "e2e_filter.py").write_text(FILTER)
    with (
        Receiver() as receiver,
        running(
            directory,
            relay_host=f"[127.0.0.1]:{receiver.port}",
            tls__certificate=issue(directory / "server.pem", "fastmta.test"),
            limits__errors_soft=40,
            limits__errors_hard=50,
            hooks__aiosmtpd="e2e_filter:Filter",
            hooks__directories=[str(directory)],
            hooks__timeout_s=TIMEOUT_S,
            hooks__threads=2,
        ) as server,
    ):
        yield Site(server, receiver)
        assert b"evil@x.example" not in b"".join(
            line for session in receiver.sessions for line in session.commands
        )


# Filter.


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("verb", ["DATA", "BDAT"])
def test_a_message_as_the_handler_left_it(site: Site, layer: str, verb: str) -> None:
    path = f"good-{layer}-{verb.lower()}@dest.example"
    content = "Subject: x\r\n\r\n.body\r\n"
    with site.connect(layer) as client:
        assert client.say("MAIL FROM:<a@b.example> BODY=8BITMIME") == "250 2.1.0 welcome"
        assert client.say(f"RCPT TO:<{path}>") == "250 2.1.5 yes"
        if verb == "DATA":
            assert client.say("DATA").startswith("354")
            client.raw(content.replace("\r\n.", "\r\n..").encode() + b".\r\n")
        else:
            client.raw(f"BDAT {len(content)} LAST\r\n{content}".encode())
        assert client.reply().startswith("250 2.0.0 Ok: ")
        assert client.say("VRFY x") == f"252 2.0.0 127.0.0.1 {layer == 'tls'} client.example"
    arrived = site.receiver.arrived(path).content
    assert arrived.startswith(b"Received: from client.example")
    assert b"\r\nX-Filter: a@b.example\r\n" in arrived
    assert arrived.endswith(content.encode())


def test_a_handler_that_changes_the_envelope(site: Site) -> None:
    with site.connect() as client:
        content = "Subject: redirect\r\n\r\nbody\r\n"
        assert (
            client.send("first@dest.example", "second@dest.example", content=content)[:3] == "250"
        )
    arrived = site.receiver.arrived("elsewhere@dest.example")
    assert arrived.reverse_path == b"changed@source.example"
    assert arrived.forward_paths == [b"elsewhere@dest.example"]
    assert b"X-Filter: changed@source.example\r\n" in arrived.content


def test_odd_line_ends_that_a_handler_makes_do_not_leave(site: Site) -> None:
    with site.connect() as client:
        assert client.send("odd@dest.example", content="Subject: odd\r\n\r\nbody\r\n")[:3] == "250"
    arrived = site.receiver.arrived("odd@dest.example")
    odd = arrived.wire_content.replace(b"\r\n", b"")
    assert b"\n" not in odd
    assert b"\r" not in odd
    assert b"\r\nMAIL FROM:<evil@x.example>\r\n" in arrived.content


def test_refusals_are_the_handlers_and_leave_nothing(site: Site) -> None:
    with site.connect() as client:
        assert client.say("MAIL FROM:<refused@b.example>") == "550 5.7.1 not from there"
        assert client.say("RCPT TO:<x@dest.example>") == "503 5.5.1 Error: need MAIL command"
        assert client.say("MAIL FROM:<a@b.example>").startswith("250")
        assert client.say("RCPT TO:<refused@dest.example>") == "550 5.7.1 not that one"
        assert client.say("RCPT TO:<later@dest.example>") == "450 4.2.0 not now"
        assert client.say("DATA") == "554 5.5.1 Error: no valid recipients"
        assert client.say("RCPT TO:<one@dest.example>").startswith("250")
        assert client.say("DATA").startswith("354")
        client.raw(b"Subject: refuse\r\n\r\nbody\r\n.\r\n")
        assert client.reply() == "554 5.7.1 not such a thing"
        assert client.say("RCPT TO:<x@dest.example>") == "503 5.5.1 Error: need MAIL command"
        assert client.send("after-refusal@dest.example").startswith("250")
    assert site.receiver.arrived("after-refusal@dest.example")
    assert not any(b"one@dest.example" in each.forward_paths for each in site.receiver.transactions)
    until(lambda: "reject: RCPT from" in site.server.log_text())


def test_a_group_of_commands_is_answered_in_order(site: Site) -> None:
    with site.connect() as client:
        client.raw(
            b"MAIL FROM:<a@b.example>\r\nRCPT TO:<group@dest.example>\r\n"
            b"RCPT TO:<refused@dest.example>\r\nRCPT TO:<raises@dest.example>\r\nDATA\r\n"
        )
        assert [client.reply()[:3] for _ in range(5)] == ["250", "250", "550", "451", "354"]
        client.raw(b"Subject: x\r\n\r\nbody\r\n.\r\nQUIT\r\n")
        assert [client.reply()[:3] for _ in range(2)] == ["250", "221"]
    assert site.receiver.arrived("group@dest.example").forward_paths == [b"group@dest.example"]


def test_the_null_reverse_path(site: Site) -> None:
    with site.connect() as client:
        assert client.send("null@dest.example", reverse_path="").startswith("250")
    assert site.receiver.arrived("null@dest.example").reverse_path == b""


def test_a_handler_that_ends_the_session(site: Site) -> None:
    """Also when it takes its time about it."""
    with site.connect() as client:
        assert client.say("MAIL FROM:<a@b.example>").startswith("250")
        client.raw(b"RCPT TO:<bye@dest.example>\r\n")
        assert client.reply() == "421 4.3.2 go away"
        assert client.is_cut()


@pytest.mark.parametrize("name", ["raises", "nonsense", "injects"])
def test_a_hook_that_is_wrong(site: Site, name: str) -> None:
    with site.connect() as client:
        assert client.say("MAIL FROM:<a@b.example>").startswith("250")
        reply = client.say(f"RCPT TO:<{name}@dest.example>")
        if name == "injects":
            assert reply == "250-fine\n250 and this", "one reply, of two lines"
        else:
            assert reply.startswith("451 4.3.0"), reply
        assert client.say("RCPT TO:<fine@dest.example>") == "250 2.1.5 yes", "the next one goes on"
    if name != "injects":
        until(lambda: "handle_RCPT" in site.server.log_text())


def test_a_content_hook_that_raises(site: Site) -> None:
    with site.connect() as client:
        client.envelope("raised@dest.example")
        client.raw(b"Subject: raise\r\n\r\nbody\r\n.\r\n")
        assert client.reply().startswith("451 4.3.0")
        assert client.send("after-raise@dest.example").startswith("250")
    assert site.receiver.arrived("after-raise@dest.example")
    assert not any(
        b"raised@" in b"".join(each.forward_paths) for each in site.receiver.transactions
    )


@pytest.mark.parametrize("name", ["hangs", "blocks"])
def test_others_do_not_wait_for_a_hook_that_hangs(site: Site, name: str) -> None:
    answers: list[tuple[str, float]] = []

    def wait() -> None:
        with site.connect() as client:
            assert client.say("MAIL FROM:<a@b.example>").startswith("250")
            begin_s = time.monotonic()
            reply = client.say(f"RCPT TO:<{name}@dest.example>")
            answers.append((reply, time.monotonic() - begin_s))

    thread = threading.Thread(target=wait)
    thread.start()
    time.sleep(0.2)
    begin_s = time.monotonic()
    with site.connect() as client:
        assert client.send(f"beside-{name}@dest.example").startswith("250")
    took_s = time.monotonic() - begin_s
    thread.join()
    ((reply, waited_s),) = answers
    assert reply.startswith("451 4.3.0")
    assert TIMEOUT_S * 0.9 < waited_s < TIMEOUT_S + 2
    assert took_s < TIMEOUT_S, "it was served while the other one waited"


def test_a_client_that_leaves_while_a_hook_is_asked(site: Site) -> None:
    for _ in range(3):
        with site.connect() as client:
            client.envelope("left@dest.example")
            client.raw(b"Subject: hang\r\n\r\nbody\r\n.\r\n")
            time.sleep(0.05)
    with site.connect() as client:
        assert client.send("after-hang@dest.example").startswith("250")
    assert site.receiver.arrived("after-hang@dest.example")
    assert not any(
        b"left@dest.example" in each.forward_paths for each in site.receiver.transactions
    )


# Sink.


def test_a_sink_is_the_destination(tmp_path: Path) -> None:
    (tmp_path / "e2e_sink.py").write_text(SINK)
    mails = tmp_path / "mails"
    with (
        Receiver() as receiver,
        running(
            tmp_path,
            relay_host=f"[127.0.0.1]:{receiver.port}",
            workers=2,
            tls__certificate=issue(tmp_path / "server.pem", "fastmta.test"),
            hooks__aiosmtpd="e2e_sink:Sink",
            hooks__arguments=[str(mails)],
            hooks__directories=[str(tmp_path)],
            hooks__mode="sink",
        ) as server,
    ):
        site = Site(server, receiver)
        for layer in LAYERS:
            with site.connect(layer) as client:
                content = f"Subject: {layer}\r\n\r\n..dots\r\n"
                assert (
                    client.send("a@x.example", "b@x.example", content=content)
                    == "250 2.0.0 it is mine"
                )
                client.envelope("c@x.example")
                client.raw(b"Subject: refuse\r\n\r\n.\r\n")
                assert client.reply() == "552 5.2.2 full"
                client.transaction("d@x.example")
                client.raw(b"BDAT 14 LAST\r\nSubject: b\r\n\r\n")
                assert client.reply() == "250 2.0.0 it is mine"
    got = [json.loads(line) for line in mails.read_text().split("\n") if line]
    assert got == [
        entry
        for layer in LAYERS
        for entry in (
            [
                "sender@source.example",
                ["a@x.example", "b@x.example"],
                f"Subject: {layer}\r\n\r\n.dots\r\n",
            ],
            ["sender@source.example", ["d@x.example"], "Subject: b\r\n\r\n"],
        )
    ]
    assert receiver.sessions == [], "nothing goes further"


# Handlers that cannot be had.

BROKEN = {
    "no_such_module:Handler": "cannot import no_such_module",
    "e2e_broken:Missing": 'has no "Missing"',
    "e2e_raising:Handler": "on purpose",
    "e2e_broken:Needy": "cannot make it",
    "e2e_broken:BadEhlo": "handle_EHLO",
    "e2e_syntax:Handler": "cannot import e2e_syntax",
}
MODULES = {
    "e2e_broken": """
class Needy:
    def __init__(self, what): pass
class BadEhlo:
    async def handle_EHLO(self, one): pass
""",
    "e2e_raising": "raise RuntimeError('on purpose')\n",
    "e2e_syntax": "def (:\n",
}


def test_a_bad_handler_stops_the_start_and_names_the_key(tmp_path: Path) -> None:
    for name, text in MODULES.items():
        (tmp_path / f"{name}.py").write_text(text)

    def start(number: int, target: str) -> str:
        settings = {"hooks__aiosmtpd": target, "hooks__directories": [str(tmp_path)]}
        try:
            with running(tmp_path / str(number), **settings):  # type: ignore[arg-type]  # two kinds
                return "it started"
        except LabError as error:
            return str(error)

    with ThreadPoolExecutor(3) as pool:
        said = list(pool.map(start, range(len(BROKEN)), BROKEN))
    for (target, text), problem in zip(BROKEN.items(), said, strict=True):
        assert problem.startswith("fastmta ended with 78: "), problem
        assert "hooks.aiosmtpd" in problem
        assert target in problem
        assert text in problem
        assert "Traceback" not in problem
