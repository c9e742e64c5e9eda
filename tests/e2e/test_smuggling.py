"""The smuggling table through the whole server: what one DATA held is never two messages."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest

from tests.support.client import Client
from tests.support.daemon import running
from tests.support.receiver import Receiver

VECTORS = Path(__file__).parent.parent / "vectors" / "smuggling.toml"
SMUGGLED = (
    b"MAIL FROM:<evil@client.example>\r\nRCPT TO:<victim@dest.example>\r\nDATA\r\n"
    b"Subject: smuggled\r\n\r\nevil\r\n.\r\nQUIT\r\n"
)


def sequences() -> list[bytes]:
    cases: list[dict[str, Any]] = tomllib.loads(VECTORS.read_text("utf-8"))["case"]
    return [
        case.get("before", "first").encode("latin-1", "ignore")
        + case["sequence"].encode("latin-1", "ignore")
        for case in cases
        if not case.get("ends_data")
    ]


@pytest.mark.parametrize("line_endings", ["normalize", "reject"])
def test_nothing_is_smuggled_and_nothing_odd_leaves(tmp_path: Path, line_endings: str) -> None:
    accepted = 0
    with (
        Receiver() as receiver,
        running(
            tmp_path,
            relay_host=f"[127.0.0.1]:{receiver.port}",
            listen__smtp__line_endings=line_endings,
        ) as server,
    ):
        for sequence in sequences():
            with Client(server.port) as client:
                client.envelope("first@dest.example")
                client.raw(sequence + SMUGGLED)
                reply = client.reply()
                assert reply.startswith(("250 2.0.0 Ok: queued", "550 5.")), (sequence, reply)
                accepted += reply.startswith("250")
                assert client.reply()[:3] in ("221", ""), sequence  # QUIT, or we closed
        with Client(server.port) as client:
            assert client.send("last@dest.example").startswith("250")
        receiver.wait_for_transactions(accepted + 1, 15.0)
    assert len(receiver.transactions) == accepted + 1
    assert accepted >= (12 if line_endings == "normalize" else 3), "some are plain content"
    for transaction in receiver.transactions:
        assert transaction.reverse_path == b"sender@source.example"
        assert transaction.forward_paths in ([b"first@dest.example"], [b"last@dest.example"])
        odd = transaction.wire_content.replace(b"\r\n", b"")
        assert b"\r" not in odd
        assert b"\n" not in odd
