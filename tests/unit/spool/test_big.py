"""Large contents: written while they come in, checked before they go out, gone when final."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from fastmta.event import Notice, Severity
from fastmta.message import ContentFile, Message
from fastmta.spool import big, bigread, sweep
from fastmta.spool._log import checksum
from fastmta.spool.bigread import ContentDamaged
from fastmta.spool.spill import ALL_OCTETS_MAX, SPILL_OCTETS_MAX
from tests.support.spool import Shard, delete_index

PIECES = [b"Subject: x\r\n\r\n", b"a" * 300_000, b"b" * 7, b"c" * 300_000 + b"\r\n"]
WHOLE = b"".join(PIECES)
HOP = b"smtp:one.example"


@pytest.fixture
def shard(tmp_path: Path) -> Iterator[Shard]:
    with Shard(tmp_path / "spool") as opened:
        yield opened


def files(shard: Shard) -> list[str]:
    """Names in big/, once its thread has done all it was asked for."""
    shard.wait(lambda done: shard.spool.contents.ask(lambda: shard.spool.contents.tell(done)))
    return sorted(os.listdir(shard.root / "shard-00" / "big"))


def quarantined(shard: Shard) -> list[str]:
    return sorted(os.listdir(shard.root / "shard-00" / "quarantine"))


def read(shard: Shard, file: ContentFile) -> bytes:
    """The content as a delivery reads it; raises what it is told."""
    source, problem = shard.wait(lambda done: shard.spool.contents.open(file, done))
    if isinstance(problem, Exception):
        raise problem
    assert isinstance(source, bigread.BigSource)
    stream = source.stream()
    pieces: list[bytes] = []
    while True:
        octets, problem = shard.wait(stream.read)
        if isinstance(problem, Exception):
            raise problem
        assert isinstance(octets, bytes)
        if not octets:
            source.close()
            return b"".join(pieces)
        assert len(octets) <= bigread.PIECE_OCTETS
        pieces.append(octets)


def fetched(shard: Shard) -> list[Message]:
    return shard.fetch(HOP)[0]


def reopened(shard: Shard, *, without_index: bool = False) -> Shard:
    shard.close()
    if without_index:
        delete_index(shard.root)
    return Shard(shard.root)


def test_a_content_is_what_was_written_and_goes_when_final(shard: Shard) -> None:
    message = shard.accept_big(*PIECES)
    file = message.file
    assert file is not None
    assert (file.size_octets, file.checksum) == (len(WHOLE), checksum(WHOLE))
    name = f"{file.boot:x}-{message.id.decode()}"
    assert files(shard) == [name]
    assert os.path.basename(file.path) == name
    assert os.stat(file.path).st_mode & 0o777 == 0o600
    assert read(shard, file) == WHOLE
    shard.deliver(message)
    assert files(shard) == []


@pytest.mark.parametrize("without_index", [False, True])
def test_it_survives_a_start_and_the_sweep_leaves_it(shard: Shard, without_index: bool) -> None:
    first, second = shard.accept_big(*PIECES), shard.accept_big(b"other\r\n")
    again = reopened(shard, without_index=without_index)
    with again:
        assert again.sweep() == 0
        assert len(files(again)) == 2
        found = {message.id: message for message in fetched(again)}
        assert set(found) == {first.id, second.id}
        file = found[first.id].file
        assert file == first.file
        assert file is not None
        assert read(again, file) == WHOLE
        again.deliver(found[first.id])
        assert len(files(again)) == 1


def test_the_sweep_takes_orphans_of_earlier_starts_only(shard: Shard) -> None:
    live = shard.accept_big(*PIECES)
    orphan = shard.spool.new_id()
    shard.store_big(orphan, b"no record follows\r\n")
    again = reopened(shard)
    with again:
        running = again.spool.new_id()
        again.store_big(running, b"its record is on the way\r\n")
        for name in ("README", "zz-" + orphan.decode(), "1-short"):
            (again.root / "shard-00" / "big" / name).write_text("not ours")
        assert again.sweep() <= 1  # the one at the start may have been quicker
        names = files(again)
        assert not any(orphan.decode() in name for name in names if name[0] != "z")
        assert any(live.id.decode() in name for name in names)
        assert any(running.decode() in name for name in names)
        assert len(names) == 5
        texts = [event.text for event in again.events if isinstance(event, Notice)]
        # The sweep of the start may have come upon the same one at the same time.
        assert {text for text in texts if "large contents" in text} == {
            "1 large contents of earlier starts had no message: removed"
        }


def test_the_sweep_goes_in_steps(shard: Shard, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweep, "SWEEP_STEP", 3)
    kept = [shard.accept_big(b"%d\r\n" % number) for number in range(4)]
    for _ in range(7):
        shard.store_big(shard.spool.new_id(), b"x\r\n")
    shard.close()
    with Shard(shard.root) as again:
        again.sweep()
        assert len(files(again)) == len(kept)


def damage_record(shard: Shard, message: Message) -> None:
    """Its record in the log, wherever that is, is no record any more."""
    (path, offset), *others = [
        (path, path.read_bytes().find(message.id))
        for path in (shard.root / "shard-00" / "hot").iterdir()
        if message.id in path.read_bytes()
    ]
    assert others == []
    with path.open("r+b") as file:
        file.seek(offset + len(message.id))
        file.write(b"\xff\xff\xff")


def test_the_content_of_a_record_that_is_damaged_later_is_kept(shard: Shard) -> None:
    lost = shard.accept_big(*PIECES)
    shard.spool.release(lost)
    shard.commit()
    damage_record(shard, lost)
    assert fetched(shard) == []
    files(shard)
    assert lost.file is not None
    name = f"big-{lost.file.boot:x}-{lost.id.decode()}"
    assert name in quarantined(shard)
    with reopened(shard) as again:
        again.sweep()
        assert files(again) == []
        assert (again.root / "shard-00" / "quarantine" / name).read_bytes() == WHOLE


def test_orphans_are_kept_when_the_log_is_damaged(shard: Shard) -> None:
    """The record that names a content may be what is damaged."""
    lost = shard.accept_big(*PIECES)
    shard.accept_new()  # proves that the first group was durable
    shard.close()
    delete_index(shard.root)
    damage_record(shard, lost)
    with Shard(shard.root) as again:
        again.sweep()
        assert files(again) == []
        name = f"big-{lost.file.boot:x}-{lost.id.decode()}" if lost.file else ""
        assert name in quarantined(again)
        assert (again.root / "shard-00" / "quarantine" / name).read_bytes() == WHOLE


@pytest.mark.parametrize("damage", ["flipped", "shorter", "longer", "missing"])
def test_damage_is_found_before_the_first_octet(shard: Shard, damage: str) -> None:
    message = shard.accept_big(*PIECES)
    assert message.file is not None
    path = Path(message.file.path)
    octets = bytearray(path.read_bytes())
    octets[400_000] ^= 1
    changed = {"flipped": bytes(octets), "shorter": WHOLE[:-1], "longer": WHOLE + b"x"}
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(changed[damage])
    with pytest.raises(ContentDamaged, match=message.id.decode()):
        read(shard, message.file)
    kept = quarantined(shard)
    assert kept == ([] if damage == "missing" else ["big-" + path.name])
    assert shard.spool.contents.head(message.file, 100) == b""
    shard.deliver(message)
    assert files(shard) == []
    assert quarantined(shard) == kept


def test_damage_on_the_way_keeps_the_last_piece_back(shard: Shard) -> None:
    file = shard.store_big(shard.spool.new_id(), *PIECES)
    source, _ = shard.wait(lambda done: shard.spool.contents.open(file, done))
    assert isinstance(source, bigread.BigSource)
    with open(file.path, "r+b") as out:
        out.seek(10)
        out.write(b"!")
    stream = source.stream()
    got = b""
    problem: object = None
    while problem is None:
        octets, problem = shard.wait(stream.read)
        assert isinstance(octets, bytes)
        got += octets
    assert isinstance(problem, ContentDamaged)
    assert len(got) < len(WHOLE)


def test_an_abandoned_content_leaves_nothing(shard: Shard) -> None:
    for count in range(3):
        spill = shard.spool.begin_big(shard.spool.new_id(), lambda: None)
        for piece in PIECES[:count]:
            spill.write(piece)
        spill.abandon()
    assert files(shard) == []
    assert shard.spool.contents.unwritten == 0


@pytest.mark.parametrize("step", ["open", "writev", "fdatasync", "directory"])
def test_an_error_is_told_at_the_end_and_leaves_no_file(
    shard: Shard, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    real = {"open": os.open, "writev": os.writev, "fdatasync": os.fdatasync}

    def fails(*values: object, **named: object) -> object:
        here = threading.current_thread().name == "spool-big"
        if here and (step != "open" or str(values[0]).find("/big/") > 0):
            raise OSError(errno.ENOSPC, "No space left on device")
        return real[step](*values, **named)  # type: ignore[operator]  # functions of os

    if step == "directory":
        monkeypatch.setattr(big, "sync_directory", fails)
    else:
        monkeypatch.setattr(os, step, fails)
    with pytest.raises(OSError, match="No space"):
        shard.store_big(shard.spool.new_id(), *PIECES)
    monkeypatch.undo()
    assert files(shard) == []
    assert shard.spool.contents.unwritten == 0
    shard.accept_big(*PIECES)


def test_a_failure_of_ours_is_told_as_well(shard: Shard, monkeypatch: pytest.MonkeyPatch) -> None:
    """A session waits for the answer, and every content needs the thread."""

    def fails(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(os, "writev", fails)
    with pytest.raises(OSError, match="MemoryError"):
        shard.store_big(shard.spool.new_id(), *PIECES)
    monkeypatch.undo()
    assert files(shard) == []
    shard.spool.contents.ask(fails)
    message = shard.accept_big(*PIECES)
    notices = [event for event in shard.events if isinstance(event, Notice)]
    assert [notice.severity for notice in notices] == [Severity.ERROR]
    assert message.file is not None
    monkeypatch.setattr(os, "preadv", fails)
    with pytest.raises(MemoryError):
        read(shard, message.file)
    monkeypatch.undo()
    assert read(shard, message.file) == WHOLE


def test_a_slow_disk_is_told_to_the_writer(shard: Shard) -> None:
    """What is not written yet is bounded; the writer hears when it may go on."""
    contents = shard.spool.contents
    is_free = threading.Event()
    contents.ask(lambda: (is_free.wait(10.0), None)[1])
    told: list[int] = []
    spill = contents.begin(shard.spool.new_id(), lambda: told.append(contents.unwritten))
    while not spill.is_behind:
        spill.write(b"x" * 100_000)
    assert contents.unwritten < SPILL_OCTETS_MAX + 100_000
    others = []
    while contents.unwritten < ALL_OCTETS_MAX:
        other = contents.begin(shard.spool.new_id(), lambda: told.append(contents.unwritten))
        other.write(b"y" * 300_000)
        others.append(other)
    assert others[-1].is_behind
    assert not others[0].is_behind
    is_free.set()
    files(shard)
    assert not spill.is_behind
    assert not others[-1].is_behind
    assert len(told) == 2
    assert all(unwritten <= ALL_OCTETS_MAX // 2 for unwritten in told)
    for one in (spill, *others):
        one.abandon()


def test_ends_share_one_flush_of_the_directory(
    shard: Shard, monkeypatch: pytest.MonkeyPatch
) -> None:
    flushed: list[str] = []
    monkeypatch.setattr(big, "sync_directory", flushed.append)
    is_free = threading.Event()
    shard.spool.contents.ask(lambda: (is_free.wait(10.0), None)[1])
    done: list[ContentFile | None] = []
    for _ in range(5):
        spill = shard.spool.begin_big(shard.spool.new_id(), lambda: None)
        spill.write(b"x\r\n")
        spill.finish(lambda file, problem: done.append(file))
    is_free.set()
    assert len(files(shard)) == 5
    files(shard)
    assert len(done) == 5
    assert None not in done
    assert len(flushed) == 1


def test_a_file_that_cannot_be_removed_is_noted(
    shard: Shard, monkeypatch: pytest.MonkeyPatch
) -> None:
    message = shard.accept_big(*PIECES)

    def refuse(path: str) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "unlink", refuse)
    shard.deliver(message)
    assert len(files(shard)) == 1
    monkeypatch.undo()
    files(shard)
    notices = [event for event in shard.events if isinstance(event, Notice)]
    assert [notice.severity for notice in notices] == [Severity.WARNING]
    assert message.id.decode() in notices[0].text
    with reopened(shard) as again:
        again.sweep()
        assert files(again) == []


def test_the_head_is_read_of_what_is_known_to_be_whole(shard: Shard) -> None:
    message = shard.accept_big(*PIECES)
    assert message.file is not None
    assert shard.spool.contents.head(message.file, 20) == WHOLE[:20]
    with reopened(shard) as again:
        (found,) = fetched(again)
        assert found.file is not None
        assert again.spool.contents.head(found.file, 20) == b""
        assert read(again, found.file) == WHOLE
        assert again.spool.contents.head(found.file, 20) == WHOLE[:20]
