"""The smuggling table through the whole server: what one content held is never two messages.

Each sequence stands in DATA, in one BDAT and across the border of two, in clear and within TLS
(each write is a record of its own), where odd line ends are refused and where they are repaired.
What arrives at the receiver is looked at octet by octet.
"""

from __future__ import annotations

import itertools
import re
import time
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from fastmta.lab import free_port
from tests.support.client import Client
from tests.support.daemon import running
from tests.support.long import LongRun
from tests.support.receiver import Receiver, Transaction
from tests.support.tls import client_context, issue
from tests.support.wire import VECTORS, chunked, pieces_of

SMUGGLED = (
    b"MAIL FROM:<evil@client.example>\r\nRCPT TO:<victim@dest.example>\r\nDATA\r\n"
    b"Subject: smuggled\r\n\r\nevil\r\n"
)
BEHIND = 6  # cuts are tried up to so many octets behind the sequence
MODES = ("normalize", "reject")
LAYERS = ("clear", "tls")


@dataclass
class Case:
    """One sequence of the table, in octets."""

    name: str
    before: bytes
    sequence: bytes
    ends_data: bool
    violations: list[str]
    normalized: bytes | None

    @property
    def content(self) -> bytes:
        """What stands between the command and the true end."""
        return self.before + self.sequence + SMUGGLED

    @property
    def cuts(self) -> range:
        return range(1, len(self.before) + len(self.sequence) + BEHIND)


@dataclass
class Laboratory:
    """A server with a listener for each mode, and what each message must be when it arrives."""

    receiver: Receiver
    ports: dict[str, int]
    expected: dict[bytes, bytes] = field(default_factory=dict)  # forward-path: end of the content
    numbers: Iterator[int] = field(default_factory=itertools.count)

    def connect(self, mode: str, layer: str) -> Client:
        client = Client(self.ports[mode])
        if layer == "tls":
            assert client.start_tls(client_context()).startswith("250")
        return client

    def expect(self, content: bytes) -> str:
        """A new recipient whose content must end so."""
        path = f"first{next(self.numbers)}@dest.example"
        self.expected[path.encode()] = content
        return path


def load() -> list[Case]:
    def octets(text: str) -> bytes:
        return text.encode("latin-1")

    table: list[dict[str, Any]] = tomllib.loads((VECTORS / "smuggling.toml").read_text())["case"]
    return [
        Case(
            case["name"],
            octets(case.get("before", "first")),
            octets(case["sequence"]),
            case.get("ends_data", False),
            case["violations"],
            octets(case["normalized"]) if "normalized" in case else None,
        )
        for case in table
    ]


CASES = load()


@pytest.fixture(scope="module")
def laboratory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Laboratory]:
    directory = tmp_path_factory.mktemp("smuggling")
    strict = free_port()
    with (
        Receiver() as receiver,
        running(
            directory,
            relay_host=f"[127.0.0.1]:{receiver.port}",
            tls__certificate=issue(directory / "server.pem", "fastmta.test"),
            listen__smtp__line_endings="normalize",
            listen__strict__bind=f"127.0.0.1:{strict}",
            listen__strict__line_endings="reject",
        ) as server,
    ):
        laboratory = Laboratory(receiver, {"normalize": server.port, "reject": strict})
        yield laboratory
        receiver.wait_for_transactions(len(laboratory.expected), 30.0)
    judge(receiver, laboratory.expected)


def judge(receiver: Receiver, expected: dict[bytes, bytes]) -> None:
    """Exactly the messages that were acknowledged, each with its content, and nothing odd."""
    arrived: dict[bytes, Transaction] = {}
    for transaction in receiver.transactions:
        assert transaction.reverse_path == b"sender@source.example"
        (path,) = transaction.forward_paths
        assert path not in arrived
        arrived[path] = transaction
        odd = transaction.wire_content.replace(b"\r\n", b"")
        assert b"\r" not in odd
        assert b"\n" not in odd
        assert transaction.content.endswith(expected[path]), (path, transaction.content)
    assert arrived.keys() == expected.keys()
    for session in receiver.sessions:
        without_lines = session.octets.replace(b"\r\n", b"")
        assert b"\r" not in without_lines
        assert b"\n" not in without_lines
        assert not any(b"evil@" in line or b"victim@" in line for line in session.commands)


def repaired(octets: bytes) -> bytes:
    """What is made of odd line ends: a lone LF becomes CR LF, a lone CR a space."""
    octets = re.sub(rb"(?<!\r)\n", b"\r\n", octets)
    return re.sub(rb"\r(?!\n)", b" ", octets)


def write(client: Client, pieces: list[bytes], pause_s: float) -> None:
    for piece in pieces:
        client.raw(piece)
        if pause_s:
            time.sleep(pause_s)


def by_data(
    laboratory: Laboratory, mode: str, layer: str, case: Case, cuts: list[int], pause_s: float = 0.0
) -> None:
    """DATA, the octets cut there, CR LF . CR LF."""
    may_pass = not case.violations or (mode == "normalize" and case.normalized is not None)
    path = f"nobody{next(laboratory.numbers)}@dest.example"
    if may_pass:
        stored = case.normalized or b""
        path = laboratory.expect(stored if case.ends_data else stored + SMUGGLED)
    with laboratory.connect(mode, layer) as client:
        client.envelope(path)
        octets = case.content + b".\r\nQUIT\r\n"
        write(client, pieces_of(octets, cuts), pause_s)
        reply = client.reply()
        assert reply.startswith("250 2.0.0 Ok: queued" if may_pass else "550 5.6."), reply
        if case.ends_data:  # whatever follows is commands by right: a DATA without its 354
            replies = list(iter(client.reply, ""))
            assert replies[-1] in (
                "554 5.5.0 Error: SMTP protocol synchronization",
                "500 5.5.2 Error: bare <CR> or <LF> received",
            )
            return
        is_closing = not may_pass and "NUL" not in case.violations
        assert client.reply()[:3] == ("" if is_closing else "221")


def by_chunks(
    laboratory: Laboratory, mode: str, layer: str, case: Case, cuts: list[int], pause_s: float = 0.0
) -> None:
    """BDAT, a new one at each cut. Nothing ends it but its size; the dots stay as they are."""
    content = case.content
    is_nul = b"\0" in content
    may_pass = content == repaired(content) or mode == "normalize"
    may_pass = may_pass and not is_nul
    path = f"nobody{next(laboratory.numbers)}@dest.example"
    if may_pass:
        path = laboratory.expect(repaired(content))
    with laboratory.connect(mode, layer) as client:
        client.transaction(path)
        write(client, [chunked(content, cuts)], pause_s)
        replies = [client.reply()]
        while replies[-1].endswith("bytes"):
            replies.append(client.reply())
        if may_pass:
            assert re.fullmatch(r"250 2.0.0 Ok: \d+ bytes queued as \w+", replies[-1]), replies
            assert len(replies) == len(cuts) + 1
            assert client.say("QUIT").startswith("221")
            return
        assert replies[-1].startswith("550 5.6."), replies
        if not is_nul:
            assert client.is_cut()


def in_one_chunk(
    laboratory: Laboratory, mode: str, layer: str, case: Case, cuts: list[int], pause_s: float = 0.0
) -> None:
    """One BDAT whose octets come in pieces."""
    content = case.content
    may_pass = b"\0" not in content and (content == repaired(content) or mode == "normalize")
    path = f"nobody{next(laboratory.numbers)}@dest.example"
    if may_pass:
        path = laboratory.expect(repaired(content))
    with laboratory.connect(mode, layer) as client:
        client.transaction(path)
        command = b"BDAT %d LAST\r\n" % len(content)
        write(client, [command, *pieces_of(content, cuts)], pause_s)
        reply = client.reply()
        assert reply.startswith("250 2.0.0 Ok: " if may_pass else "550 5.6."), reply
        is_closing = not may_pass and "NUL" not in case.violations
        assert client.is_cut() if is_closing else client.say("QUIT").startswith("221")


Way = Callable[[Laboratory, str, str, Case, list[int], float], None]
WAYS: dict[str, Way] = {"data": by_data, "chunk": in_one_chunk, "chunks": by_chunks}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("mode", MODES)
def test_nothing_is_smuggled(laboratory: Laboratory, mode: str, layer: str, way: str) -> None:
    for index, case in enumerate(CASES):
        behind = len(case.before) + len(case.sequence)
        WAYS[way](laboratory, mode, layer, case, [behind], 0.0)
        cut = case.cuts[index % len(case.cuts)]  # elsewhere in each case
        WAYS[way](laboratory, mode, layer, case, [cut], 0.002)


@pytest.mark.parametrize("layer", LAYERS)
def test_octet_by_octet(laboratory: Laboratory, layer: str) -> None:
    for case in CASES:
        WAYS["data"](laboratory, "normalize", layer, case, list(case.cuts), 0.0)


@pytest.mark.long
@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("mode", MODES)
def test_every_split(laboratory: Laboratory, mode: str, layer: str, long_run: LongRun) -> None:
    for seed in long_run.seeds():
        count = 0
        for case, way in itertools.product(CASES, WAYS.values()):
            for cut in case.cuts:
                way(laboratory, mode, layer, case, [cut], 0.001 * (1 + seed % 3))
                count += 1
        long_run.record(seed, splits=count)
