"""What mutants are made of: segments and rows of a real shard with every kind of record."""

from __future__ import annotations

import json
import random
from pathlib import Path

from fastmta.message import ContentFile, RecipientState
from fastmta.spool import SpoolOptions
from tests.support.spool import DEFERRED, DELIVERED, FAILED, HELD, NOW_NS, Shard

SEGMENT_OCTETS = 64 * 1024
OPTIONS = SpoolOptions(segment_octets=SEGMENT_OCTETS)
MESSAGES = 150
SEGMENTS_KEPT = 12


def write_corpus(target: Path, seed: int) -> None:
    """Run a history in a shard below `target` and leave its files there, and its rows as JSON."""
    rng = random.Random(seed)
    with Shard(target / "spool", OPTIONS) as shard:
        for number in range(MESSAGES):
            _one_message(shard, rng, number)
        shard.commit()
        dump = shard.spool._indexer._index.dump()
        hot = [bytes_of for path in _segments(shard) if any(bytes_of := path.read_bytes())]
    rows = {
        name: [[key.hex(), value.hex()] for key, value in list(table.items())[:100]]
        for name, table in dump.items()
    }
    (target / "rows.json").write_text(json.dumps(rows))
    for number, octets in enumerate(hot[:SEGMENTS_KEPT]):
        (target / f"{number:02d}.seg").write_bytes(octets)


def _segments(shard: Shard) -> list[Path]:
    root = shard.root / "shard-00"
    return sorted([*root.glob("hot/*.seg"), *root.glob("cold/*.seg")])


def _one_message(shard: Shard, rng: random.Random, number: int) -> None:
    domains = (b"one.example", b"two.example", b"x" * 240 + b".example")
    count = rng.choice((1, 1, 1, 2, 5, 40))
    paths = [b"u%d@%b" % (index, rng.choice(domains)) for index in range(count)]
    content = rng.randbytes(rng.choice((0, 1, 30, 500, 4000)))
    message = shard.make(*paths, content=content, tenant=rng.choice(("", "t", "é" * 9)))
    if rng.random() < 0.15:
        message.content = None
        message.file = ContentFile(f"/nowhere/{number}", 700_000, rng.getrandbits(32), 1)
        message.size_octets = 700_000
    assert shard.accept(message) == [None]
    for _ in range(rng.choice((0, 1, 1, 3))):
        changes = [
            RecipientState(
                index, rng.choice((DEFERRED, DEFERRED, HELD)), 1, NOW_NS + index, "later"
            )
            for index in range(count)
        ]
        assert shard.record(message, *changes) is None
    if rng.random() < 0.4:
        status = rng.choice((DELIVERED, FAILED))
        states = [RecipientState(index, status, 2, 0, "ü" * 20) for index in range(count)]
        assert shard.record(message, *states) is None
    else:
        shard.spool.release(message)
