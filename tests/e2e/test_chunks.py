"""BDAT (RFC 3030) through the whole server: every order of commands, in clear and within TLS."""

from __future__ import annotations

import contextlib
import fnmatch
import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from fastmta.lab.loopback import wait_until
from tests.support.client import Client, until
from tests.support.daemon import Server, running
from tests.support.memory import watching
from tests.support.receiver import Receiver
from tests.support.tls import client_context, issue
from tests.support.wire import VECTORS

MIB = 1024 * 1024
STRANGER = "127.0.0.9"  # whose odd line ends are not repaired
LAYERS = ("clear", "tls")
LINE = "x" * 76 + "\r\n"


@dataclass
class Case:
    name: str
    octets: str
    more: str
    replies: list[str]
    is_closed: bool
    content: list[str]

    def wire(self, text: str, path: str) -> bytes:
        envelope = f"MAIL FROM:<a@b.example>\r\nRCPT TO:<{path}>\r\n"
        text = text.replace("ENVELOPE", envelope)
        text = re.sub(r"\{line \* (\d+)\}", lambda found: LINE * int(found[1]), text)
        text = re.sub(r"\{(.) \* (\d+)\}", lambda found: found[1] * int(found[2]), text)
        return text.encode("latin-1")


def load() -> list[Case]:
    table: list[dict[str, Any]] = tomllib.loads((VECTORS / "chunk-sessions.toml").read_text())[
        "case"
    ]
    return [
        Case(
            each["name"],
            each["octets"],
            each.get("more", ""),
            each["replies"],
            each.get("is_closed", False),
            each.get("content", []),
        )
        for each in table
    ]


CASES = load()


@dataclass
class Site:
    server: Server
    receiver: Receiver
    expected: dict[bytes, list[bytes]] = field(default_factory=dict)

    def connect(self, layer: str = "clear", source: str = STRANGER) -> Client:
        client = Client(self.server.port, source=source)
        if layer == "tls":
            assert client.start_tls(client_context()).startswith("250")
        return client

    def arrived(self, path: bytes) -> list[bytes]:
        return [
            each.content
            for each in list(self.receiver.transactions)
            if each.forward_paths == [path]
        ]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """What was acknowledged arrives, and nothing else: looked at when all tests are done."""
    directory = tmp_path_factory.mktemp("chunks")
    with (
        Receiver() as receiver,
        running(
            directory,
            relay_host=f"[127.0.0.1]:{receiver.port}",
            relay__trusted_networks=["127.0.0.1/32"],
            relay__domains=["dest.example"],
            tls__certificate=issue(directory / "server.pem", "fastmta.test"),
            limits__message_octets=100_000,
            limits__errors_soft=50,
            limits__errors_hard=60,
        ) as server,
    ):
        site = Site(server, receiver)
        yield site
        count = sum(map(len, site.expected.values()))
        receiver.wait_for_transactions(count, 20.0)
        with site.connect() as client:  # what else was on its way would have come by then
            assert client.send("last@dest.example").startswith("250")
        receiver.wait_for_transactions(count + 1, 20.0)
    for path, contents in site.expected.items():
        found = [content.partition(b"(UTC)\r\n")[2] for content in site.arrived(path)]
        assert found == contents, path
    assert len(receiver.transactions) == count + 1


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_session(site: Site, case: Case, layer: str) -> None:
    cuts = ("whole", "half") if "{" in case.octets else ("whole", "half", "octets")
    for number, cut in enumerate(cuts):
        path = f"{case.name}-{layer}-{number}@dest.example"
        with site.connect(layer) as client:
            converse(client, case, path, cut)
        if case.content:
            site.expected[path.encode()] = [each.encode("latin-1") for each in case.content]


def converse(client: Client, case: Case, path: str, cut: str) -> None:
    octets = case.wire(case.octets, path)
    size = {"whole": len(octets), "half": len(octets) // 2 + 1, "octets": 1}[cut]
    with contextlib.suppress(OSError if case.is_closed else ()):  # it need not wait for the rest
        for begin in range(0, len(octets), size):
            client.raw(octets[begin : begin + size])
    expected = list(case.replies)
    envelopes = case.octets.count("ENVELOPE")
    for index, pattern in enumerate(expected):
        reply = client.reply()
        while envelopes and reply in ("250 2.1.0 Ok", "250 2.1.5 Ok"):
            reply = client.reply()
        assert fnmatch.fnmatchcase(reply, pattern.replace("[", "[[]")), (cut, reply, pattern)
        if index == 0 and case.more:
            client.raw(case.wire(case.more, path))
    if case.is_closed:
        assert client.is_cut()
    else:
        assert client.say("NOOP") == "250 2.0.0 Ok"


@pytest.mark.parametrize("layer", LAYERS)
def test_a_client_that_leaves_within_a_chunk_or_between_two(site: Site, layer: str) -> None:
    for octets in (b"BDAT 100 LAST\r\nSubject: x\r\n", b"BDAT 12\r\nSubject: x\r\n", b"BDAT 5 LA"):
        with site.connect(layer) as client:
            client.transaction("left@dest.example")
            client.raw(octets)
    with site.connect(layer) as client:
        path = f"stayed-{layer}@dest.example"
        client.transaction(path)
        client.raw(b"BDAT 12\r\nSubject: x\r\nBDAT 2 LAST\r\n\r\n")
        assert client.reply() == "250 2.0.0 Ok: 12 bytes"
        assert client.reply().startswith("250 2.0.0 Ok: 14 bytes queued")
    site.expected[path.encode()] = [b"Subject: x\r\n\r\n"]
    until(lambda: "lost connection after BDAT (" in site.server.log_text())


def test_chunks_of_one_octet_by_the_thousand(site: Site) -> None:
    """The first hundred may be small; then the session is at its end, and its memory free."""
    with site.connect() as client:
        client.transaction("tiny@dest.example")
        client.raw(b"BDAT 1\r\nx" * 20_000)
        for _ in range(100):
            assert client.reply() == "250 2.0.0 Ok: 1 bytes"
        assert client.reply() == "554 5.5.1 Error: too many small chunks"
        assert client.is_cut()
    until(lambda: "reject: BDAT from" in site.server.log_text())


def test_chunks_of_a_kilobyte_may_be_many(site: Site) -> None:
    line = LINE.encode()
    chunk = b"BDAT 780\r\n" + line * 10
    with site.connect("tls") as client:
        client.transaction("many@dest.example")
        client.raw(chunk * 120 + b"BDAT 0 LAST\r\n")
        for _ in range(120):
            assert client.reply() == "250 2.0.0 Ok: 780 bytes"
        assert client.reply().startswith("250 2.0.0 Ok: 93600 bytes queued as")
    site.expected[b"many@dest.example"] = [line * 1200]


# Large messages.


@pytest.mark.parametrize("layer", LAYERS)
def test_twenty_megabytes_in_chunks_are_never_in_memory(tmp_path: Path, layer: str) -> None:
    line = b"0123456789abcdef" * 4 + b"\r\n"
    chunk = line * 1000
    count = 20_000_000 // len(chunk)
    with (
        Receiver() as receiver,
        running(
            tmp_path,
            relay_host=f"[127.0.0.1]:{receiver.port}",
            tls__certificate=issue(tmp_path / "server.pem", "fastmta.test"),
        ) as server,
    ):
        (worker,) = server.workers()
        with Client(server.port) as client:
            if layer == "tls":
                client.start_tls(client_context())
            client.transaction("large@dest.example")
            client.raw(b"BDAT 14\r\nSubject: x\r\n\r\n")
            assert client.reply() == "250 2.0.0 Ok: 14 bytes"
            with watching(worker) as peak:
                before = peak.anonymous_octets
                for _ in range(count):
                    client.raw(b"BDAT %d\r\n" % len(chunk) + chunk)
                    assert client.reply() == f"250 2.0.0 Ok: {len(chunk)} bytes"
                client.raw(b"BDAT 0 LAST\r\n")
                total = 14 + count * len(chunk)
                assert client.reply().startswith(f"250 2.0.0 Ok: {total} bytes queued as")
            assert peak.anonymous_octets < before + 100 * MIB
        receiver.wait_for_transactions(1, 30.0)
        wait_until(lambda: "removed" in server.log_text(), 15.0, "the end of the delivery")
    (one,) = receiver.transactions
    assert one.content.endswith(b"Subject: x\r\n\r\n" + chunk * count)
