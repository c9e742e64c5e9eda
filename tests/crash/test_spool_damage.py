"""Torn ends and rot: a torn end is dropped; rot is copied, named, and harms only itself."""

import os
import shutil
import struct
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from fastmta.event import Notice, Severity
from fastmta.message import Message, RecipientState
from fastmta.spool import SpoolFormat
from fastmta.spool._log import checksum
from tests.support.spool import DEFERRED, FAILED, SMALL, Shard, copy_crashed, delete_index

HOP = b"smtp:one.example"


@pytest.fixture
def tmp_path(tmp_path: Path) -> Iterator[Path]:
    """In memory where that is possible: here files are copied, damaged and read, never timed."""
    if not os.path.isdir("/dev/shm"):
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(prefix="spool-damage-", dir="/dev/shm") as place:
        yield Path(place)


@pytest.fixture
def shard(tmp_path: Path) -> Iterator[Shard]:
    with Shard(tmp_path / "spool") as opened:
        yield opened


def segment_of(root: Path, shard: Shard, position: int) -> tuple[Path, int]:
    """File and offset of a position, in the copy at `root`."""
    segment = shard.spool._logs.hot.find(position)
    assert segment is not None
    return root / "shard-00" / "hot" / os.path.basename(segment.path), position - segment.base


def overwrite(root: Path, shard: Shard, position: int, octets: bytes) -> None:
    path, offset = segment_of(root, shard, position)
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(octets)


def peek(root: Path, shard: Shard, position: int, count: int) -> bytes:
    path, offset = segment_of(root, shard, position)
    return path.read_bytes()[offset : offset + count]


def flip(root: Path, shard: Shard, position: int) -> None:
    octet = peek(root, shard, position, 1)[0]
    overwrite(root, shard, position, bytes([octet ^ 0x40]))


def reopen(root: Path) -> Shard:
    return Shard(root, SMALL)


def errors(shard: Shard) -> list[Notice]:
    return [
        event
        for event in shard.events
        if isinstance(event, Notice) and event.severity is Severity.ERROR
    ]


def add_messages(shard: Shard, count: int, size: int) -> list[Message]:
    messages = [shard.make(content=bytes([65 + at % 26]) * size) for at in range(count)]
    assert shard.accept(*messages) == [None] * count
    return messages


@pytest.mark.parametrize("damage", ["zeros", "garbage", "ones"])
def test_last_group_torn_at_every_sector(shard: Shard, tmp_path: Path, damage: str) -> None:
    """Cut the last group everywhere: what was before survives, and recovery is idempotent."""
    first = add_messages(shard, 3, 500)
    start = shard.spool._writer.end
    last = add_messages(shard, 12, 400)
    end = shard.spool._writer.end
    assert end - start == 8192
    source = copy_crashed(shard, tmp_path / "source")
    delete_index(source)
    filler = {"zeros": b"\0", "ones": b"\xff", "garbage": b"\x5a\x01\x00\xc3"}[damage]
    for cut in range(start, end, 512):
        target = tmp_path / "torn"
        shutil.copytree(source, target)
        overwrite(target, shard, cut, (filler * 8192)[: end - cut])
        with reopen(target) as torn:
            kept = set(torn.recovered)
        expected = {message.id for message in first}
        expected |= {m.id for m in last if m.position + 64 + 400 + 200 <= cut}
        assert expected <= kept <= {message.id for message in first + last}
        assert errors(torn) == []
        assert not list((target / "shard-00" / "quarantine").iterdir())
        delete_index(target)
        with reopen(target) as again:
            assert set(again.recovered) == kept
            fresh = again.accept_new()
        delete_index(target)
        with reopen(target) as third:
            assert set(third.recovered) == kept | {fresh.id}
            assert errors(third) == []
        shutil.rmtree(target)


def test_torn_group_keeps_only_what_stands_before_the_damage(shard: Shard, tmp_path: Path) -> None:
    """A STATE never survives without the DSN that stands before it in its group."""
    message = shard.accept_new()
    dsn = shard.make(b"sender@origin.example", reverse_path=b"", content=b"d" * 6000)
    assert shard.record(message, RecipientState(0, FAILED, 1), dsn=dsn) is None
    target = copy_crashed(shard, tmp_path / "torn")
    delete_index(target)
    flip(target, shard, dsn.position + 3000)
    with reopen(target) as torn:
        assert list(torn.recovered) == [message.id]
        assert torn.recovered[message.id].states == {}


@pytest.mark.parametrize("with_index", [True, False])
@pytest.mark.parametrize("where", [0, 4, 8, 16, 24, 40, 70, 2000])
def test_rot_in_an_old_record_is_named_and_alone(
    shard: Shard, tmp_path: Path, where: int, with_index: bool
) -> None:
    """Any octet of a record that was acknowledged: its neighbours survive."""
    messages = add_messages(shard, 5, 3000)
    victim = messages[2]
    later = shard.accept_new()
    if with_index:
        for message in (*messages, later):
            shard.spool.release(message)
        shard.commit()
    target = copy_crashed(shard, tmp_path / "rotten")
    flip(target, shard, victim.position + where)
    with reopen(target) as rotten:
        fetched, _ = rotten.fetch(HOP)
        assert [m.id for m in fetched] == [m.id for m in (*messages, later) if m is not victim]
        assert rotten.spool.live_count == 5
        notices = errors(rotten)
        assert len(notices) == (2 if with_index else 1)  # when scanned, and when fetched
        assert all(str(victim.position) in notice.text for notice in notices)
        if with_index:
            assert notices[1].queue_id == victim.id
        elif not 32 <= where < 48:
            assert victim.id.decode() in notices[0].text
        assert list((target / "shard-00" / "quarantine").iterdir())
        for message in fetched:
            rotten.deliver(message)
    with reopen(target) as again:
        assert again.recovered == {}
        assert errors(again) == []


@pytest.mark.parametrize("where", [0, 8, 24, 32, 48, 52])
def test_rot_in_a_batch_record_loses_nothing(shard: Shard, tmp_path: Path, where: int) -> None:
    groups = [add_messages(shard, 3, 3000) for _ in range(4)]
    target = copy_crashed(shard, tmp_path / "rotten")
    delete_index(target)
    flip(target, shard, groups[1][0].position - 56 + where)
    with reopen(target) as rotten:
        assert set(rotten.recovered) == {m.id for group in groups for m in group}
        assert len(errors(rotten)) == 1


def test_rot_in_a_state_record_reopens_only_that_message(shard: Shard, tmp_path: Path) -> None:
    one, two = shard.accept_new(), shard.accept_new()
    position = shard.spool._writer.end + 56
    assert shard.record(one, RecipientState(0, DEFERRED, 3, 7)) is None
    shard.deliver(two)
    target = copy_crashed(shard, tmp_path / "rotten")
    delete_index(target)
    flip(target, shard, position + 40)
    with reopen(target) as rotten:
        assert list(rotten.recovered) == [one.id]
        assert rotten.recovered[one.id].states == {}
        assert len(errors(rotten)) == 1


def test_many_pages_of_rot_over_several_groups(shard: Shard, tmp_path: Path) -> None:
    groups = [add_messages(shard, 2, 3000) for _ in range(8)]
    start, end = groups[2][0].position - 56, groups[5][0].position - 56
    target = copy_crashed(shard, tmp_path / "rotten")
    delete_index(target)
    overwrite(target, shard, start, b"\0" * (end - start))
    with reopen(target) as rotten:
        kept = {m.id for group in groups[:2] + groups[5:] for m in group}
        assert set(rotten.recovered) == kept
        assert len(errors(rotten)) == 1
    copies = list((target / "shard-00" / "quarantine").iterdir())
    assert [copy.stat().st_size for copy in copies] == [end - start]


def test_the_index_proves_the_end_of_the_log(shard: Shard, tmp_path: Path) -> None:
    """Damage of the very last group is rot, not a torn end, when the index had seen it whole."""
    message = shard.accept_new()
    shard.spool.release(message)
    shard.commit()
    target = copy_crashed(shard, tmp_path / "rotten")
    flip(target, shard, message.position + 40)
    with reopen(target) as rotten:
        assert len(errors(rotten)) == 1
        assert rotten.fetch(HOP) == ([], None)
        assert rotten.spool.live_count == 0


@pytest.mark.parametrize("filler", [b"\0", b"\x5a"])
@pytest.mark.parametrize("which", ["middle", "last"])
def test_lost_header_of_a_segment_is_made_good(
    shard: Shard, tmp_path: Path, filler: bytes, which: str
) -> None:
    """A segment's first group tells where it belongs, if a gap or the checkpoint asks for it."""
    messages = [shard.accept_new(content=b"x" * 100_000) for _ in range(7)]
    for message in messages:
        shard.spool.release(message)
    shard.commit()
    segments = list(shard.spool._logs.hot)
    assert len(segments) >= 3
    at = 1 if which == "middle" else len(segments) - 1
    target = copy_crashed(shard, tmp_path / "rotten")
    overwrite(target, shard, segments[at].base, filler * 4096)
    if which == "middle":
        delete_index(target)
    with reopen(target) as rotten:
        fetched, _ = rotten.fetch(HOP)
        assert [m.id for m in fetched] == [m.id for m in messages]


def test_damaged_index_is_moved_aside_and_rebuilt(shard: Shard, tmp_path: Path) -> None:
    message = shard.accept_new()
    shard.spool.release(message)
    shard.commit()
    target = copy_crashed(shard, tmp_path / "broken")
    (target / "shard-00" / "index" / "data.mdb").write_bytes(b"\x5a" * 40_960)
    with reopen(target) as rebuilt:
        assert list(rebuilt.recovered) == [message.id]
        assert (target / "shard-00" / "index.bad-1").is_dir()
        assert any("index.bad-1" in str(event) for event in rebuilt.events)


def test_segment_of_a_newer_format_refuses_to_start(shard: Shard, tmp_path: Path) -> None:
    shard.accept_new()
    target = copy_crashed(shard, tmp_path / "newer")
    header = bytearray(peek(target, shard, 0, 4096))
    struct.pack_into("<I", header, 8, 3)
    struct.pack_into("<I", header, 64, checksum(bytes(header[:64])))
    overwrite(target, shard, 0, bytes(header))
    with pytest.raises(SpoolFormat, match="format 3"):
        reopen(target)
