"""Records tests/vectors/spool-format-2.tar.xz: a spool from before DSN parameters were kept.

    python -m tests.unit.spool.record_fixture TARGET.tar.xz

Run in a checkout of the release that is to be kept, before a field or a record is added;
`test_fixtures.py` opens what it makes and says what is in it.
"""

import os
import sys
import tarfile
import tempfile
from pathlib import Path

from fastmta.message import ClientIdentity, Envelope, Message, RecipientState
from fastmta.spool import SpoolOptions, clerk, ledger, trimmer
from tests.support.spool import DEFERRED, DELIVERED, HELD, NOW_NS, Shard

OPTIONS = SpoolOptions(segment_octets=64 * 1024)
CLIENT = ClientIdentity("192.0.2.1", "client.example", b"client.example", "ESMTP", "joe")
PATHS = (b"u@one.example", b"v@two.example")


def _make(shard: Shard, number: int) -> Message:
    content = b"Subject: %d\r\n\r\ntext\r\n" % number
    envelope = Envelope(b"sender@origin.example", PATHS, CLIENT, number % 2 == 0, "tenant")
    return Message(shard.spool.new_id(), envelope, content, NOW_NS)


def _settle(shard: Shard) -> None:
    """Let index and trimmer go as far as they get."""
    for _ in range(20):
        shard.commit()
        shard.trim()


def fill(shard: Shard) -> None:
    """Message 1 waits in the cold log; 2 is partly delivered, 3 held, 4 large, 5 untouched."""
    messages = [_make(shard, number) for number in range(1, 6)]
    large = messages[3]
    large.content = None
    large.file = shard.store_big(large.id, b"Subject: 4\r\n\r\n", (b"x" * 78 + b"\r\n") * 8000)
    large.size_octets = large.file.size_octets
    for message in messages[:2]:
        assert shard.accept(message) == [None]
        later = RecipientState(1, DEFERRED, 1, NOW_NS, "try later")
        changes = [later] if message is messages[0] else [RecipientState(0, DELIVERED, 1), later]
        assert shard.record(message, *changes) is None
        shard.spool.release(message)
    for _ in range(20):  # mail that comes and goes, so that the first segments are trimmed
        shard.deliver(shard.accept_new(content=b"x" * 9_000))
        _settle(shard)
    for message in messages[2:]:
        assert shard.accept(message) == [None]
    held = [RecipientState(index, HELD) for index in (0, 1)]
    assert shard.record(messages[2], *held) is None
    for message in messages[2:]:
        shard.spool.release(message)
    shard.commit()


def main() -> None:
    """Make the spool and pack it."""
    clerk.COMMIT_GAP_S = ledger.AGE_S = trimmer.PAUSE_S = 0.0
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory) / "spool-format-2"
        with Shard(root, OPTIONS) as shard:
            fill(shard)
            assert len(shard.spool._logs.cold), "nothing went to the cold log"
        for spare in root.rglob("*.seg"):
            assert spare.stat().st_size == OPTIONS.segment_octets
        os.chdir(directory)
        with tarfile.open(sys.argv[1], "w:xz") as archive:
            archive.add(root.name)


if __name__ == "__main__":
    main()
