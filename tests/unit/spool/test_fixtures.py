"""Spools as released formats wrote them: read, trimmed on, and side by side with new records."""

from __future__ import annotations

import tarfile
from pathlib import Path

import pytest

from fastmta.message import ClientIdentity, Envelope, Message, RecipientState
from fastmta.spool import SpoolOptions
from fastmta.spool.layout import Layout
from fastmta.spool.verify import verify_shard
from tests.support.spool import DEFERRED, DELIVERED, HELD, NOW_NS, Shard, delete_index
from tests.unit.spool import record_fixture

VECTORS = Path(__file__).parents[2] / "vectors"
OPTIONS = SpoolOptions(segment_octets=64 * 1024)
HOPS = (b"smtp:one.example", b"smtp:two.example")
LATER = RecipientState(1, DEFERRED, 1, NOW_NS, "try later")
DONE = RecipientState(0, DELIVERED, 1)
HELD_BOTH = {0: RecipientState(0, HELD), 1: RecipientState(1, HELD)}
ALL_HELD = {0: RecipientState(0, HELD)}


def unpack(name: str, target: Path) -> Path:
    """A copy of the spool that the archive holds."""
    with tarfile.open(VECTORS / f"{name}.tar.xz") as archive:
        # Ours, modes included; releases of Python without filters ignore this.
        archive.extraction_filter = getattr(tarfile, "fully_trusted_filter", None)
        archive.extractall(target)
    return target / name


@pytest.fixture(params=[False, True], ids=["index", "logs alone"])
def old(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """The newest format as the release before DSN parameters wrote it."""
    root = unpack("spool-format-2", tmp_path)
    if request.param:
        delete_index(root)
    return root


def waiting(shard: Shard) -> dict[bytes, Message]:
    """Everything that can be fetched, with what is held, by the message's subject."""
    found: dict[bytes, Message] = {}
    for hop in HOPS:
        for message in shard.fetch(hop, NOW_NS)[0]:
            found[message.id] = message
    return found


def released(shard: Shard, messages: dict[bytes, Message]) -> None:
    for message in messages.values():
        shard.spool.release(message)


def check_format_2(shard: Shard) -> None:
    """The five messages of `record_fixture`, with nothing that was not there then."""
    ids = sorted(shard.recovered)
    assert [int(id[-2:]) for id in ids[:2]] == [1, 2]
    first, second, held, large, last = (shard.recovered[id] for id in ids)
    assert [found.states for found in (first, second, held, large, last)] == [
        {1: LATER},
        {0: DONE, 1: LATER},
        HELD_BOTH,
        {},
        {},
    ]
    messages = waiting(shard)
    assert sorted(messages) == [ids[0], ids[1], ids[3], ids[4]]
    for number, id in enumerate(ids, 1):
        if id not in messages:
            continue
        client = ClientIdentity("192.0.2.1", "client.example", b"client.example", "ESMTP", "joe")
        assert messages[id].envelope == Envelope(
            b"sender@origin.example",
            record_fixture.PATHS,
            client,
            number % 2 == 0,
            "tenant",
            is_utf8=False,
            dsn=None,
        )
        assert messages[id].envelope.client.tls == ""
        if number != 4:
            assert messages[id].content == b"Subject: %d\r\n\r\ntext\r\n" % number
    assert messages[ids[3]].file is not None
    assert messages[ids[3]].size_octets == 14 + 80 * 8000
    released(shard, messages)


def test_the_release_before_dsn_parameters(old: Path) -> None:
    report = verify_shard(Layout(str(old), 0))
    assert report.is_sound
    assert report.records["FOLD"] > 0
    for _ in range(2):  # as found, and as we left it
        with Shard(old, OPTIONS) as shard:
            check_format_2(shard)


def test_old_records_move_and_new_ones_stand_beside_them(
    old: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The trimmer copies records of both releases; each is read as it was written."""
    monkeypatch.setattr("fastmta.spool.clerk.COMMIT_GAP_S", 0.0)
    monkeypatch.setattr("fastmta.spool.ledger.AGE_S", 0.0)
    monkeypatch.setattr("fastmta.spool.trimmer.PAUSE_S", 0.0)
    with Shard(old, OPTIONS) as shard:
        before = {found.id: found for found in shard.recovered.values()}
        freed = shard.spool.statistics.segments_freed
        for _ in range(60):
            shard.deliver(shard.accept_new(content=b"x" * 9_000))
            for _ in range(4):
                shard.commit()
                shard.trim()
        assert shard.spool.statistics.segments_freed > freed + 4
        assert shard.index().keys() == before.keys()
    assert verify_shard(Layout(str(old), 0)).is_sound
    delete_index(old)
    with Shard(old, OPTIONS) as shard:
        check_format_2(shard)


def test_the_first_format(tmp_path: Path) -> None:
    root = unpack("spool-format-1", tmp_path)
    with Shard(root, OPTIONS) as shard:
        states = [found.states for _, found in sorted(shard.recovered.items())]
        later = RecipientState(1, DEFERRED, 1, NOW_NS, "try later")
        assert states == [{0: DONE, 1: later}, ALL_HELD, {}]
        client = ClientIdentity("192.0.2.1", "client.example", b"client.example")
        paths = (b"u@one.example", b"v@two.example")
        messages = waiting(shard)
        assert len(messages) == 3
        for message in messages.values():
            assert message.envelope == Envelope(b"sender@origin.example", paths, client)
            assert len(message.content or b"") == 28
        released(shard, messages)
    assert (root / "format").read_bytes() == b"2\n"
