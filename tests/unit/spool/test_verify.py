"""Verify names exactly what recovery would call damaged, and changes nothing."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import random
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from fastmta.cli import main
from fastmta.message import Message, RecipientState
from fastmta.spool import survey, verify
from fastmta.spool.bigverify import pending_of
from fastmta.spool.layout import Layout
from fastmta.spool.recovery import scan_segment
from fastmta.spool.segment import LogKind
from fastmta.spool.verdict import Report
from fastmta.spool.verify import verify_shard
from tests.support.spool import DEFERRED, Shard, copy_crashed

HEADER = 4096


@pytest.fixture
def shard(tmp_path: Path) -> Iterator[Shard]:
    with Shard(tmp_path / "spool") as opened:
        yield opened


def verified(root: Path) -> Report:
    return verify_shard(Layout(str(root), 0))


def add(shard: Shard, count: int, size: int = 3000) -> list[Message]:
    messages = [shard.make(content=b"%d" % (at % 10) * size) for at in range(count)]
    assert shard.accept(*messages) == [None] * count
    return messages


def flip(path: Path, offset: int, mask: int = 0x40) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        octet = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([octet ^ mask]))


def hot_file(root: Path, shard: Shard, position: int) -> tuple[Path, int]:
    segment = shard.spool._logs.find(position)
    assert segment is not None
    return root / "shard-00" / "hot" / os.path.basename(segment.path), position - segment.base


def snapshot(root: Path) -> dict[str, tuple[int, int]]:
    files = (path for path in root.rglob("*") if path.is_file())
    return {str(path): (path.stat().st_mtime_ns, path.stat().st_size) for path in files}


def test_a_sound_shard_is_counted_and_not_touched(shard: Shard) -> None:
    messages = add(shard, 400)
    for message in messages[300:]:
        shard.deliver(message)
    shard.accept_big(b"x" * 900_000)
    in_use = verified(shard.root)
    assert in_use.is_in_use
    shard.close()
    before = snapshot(shard.root)
    report = verified(shard.root)
    assert report.is_sound
    assert not report.is_in_use
    assert in_use.is_sound
    assert report.remarks == []
    assert {kind: report.records[kind] for kind in ("MSG", "STATE", "REF")} == {
        "MSG": 400,
        "STATE": 100,
        "REF": 1,
    }
    assert report.records == in_use.records
    assert report.big == 1
    assert report.segments > 4
    assert snapshot(shard.root) == before


def test_every_hole_is_one_that_recovery_finds(shard: Shard, tmp_path: Path) -> None:
    """Random damage all over the files: the same regions, by the same rule."""
    add(shard, 300, 700)
    shard.deliver(add(shard, 1)[0])
    target = copy_crashed(shard, tmp_path / "rotten")
    chance = random.Random(5)
    names = sorted((target / "shard-00" / "hot").iterdir())
    whole = {name: name.read_bytes() for name in names}
    found_any = 0
    for _ in range(40):
        for name in names:
            name.write_bytes(whole[name])
            for _ in range(chance.randrange(3)):
                flip(name, chance.randrange(HEADER, len(whole[name])), 1 << chance.randrange(8))
        expected = set()
        log = survey.survey(Layout(str(target), 0), LogKind.HOT)
        for segment, proven, limit in log.extents(0):
            data = memoryview(Path(segment.path).read_bytes())
            for hole in scan_segment(data, segment, proven, limit).holes:
                expected.add((segment.path, hole.start, hole.end - hole.start))
        report = verified(target)
        assert {(each.file, each.offset, each.octets) for each in report.damage} == expected
        found_any += len(expected)
    assert found_any > 20


@pytest.mark.parametrize("where", [0, 4, 8, 16, 24, 70, 2000])
def test_rot_is_named(shard: Shard, tmp_path: Path, where: int) -> None:
    messages = add(shard, 5)
    add(shard, 1)
    victim = messages[2]
    target = copy_crashed(shard, tmp_path / "rotten")
    path, offset = hot_file(target, shard, victim.position)
    flip(path, offset + where)
    report = verified(target)
    (problem,) = report.damage
    assert (problem.file, problem.offset) == (str(path), offset)
    assert problem.position == victim.position
    assert problem.queue_id == victim.id.decode()
    assert problem.kind == ("MSG" if where != 24 else problem.kind)
    assert "send it again" in problem.advice or where == 24
    assert report.records["MSG"] == 5


def test_the_index_proves_the_last_group_of_an_idle_shard(shard: Shard, tmp_path: Path) -> None:
    message = add(shard, 1)[0]
    shard.spool.release(message)
    shard.commit()
    target = copy_crashed(shard, tmp_path / "rotten")
    path, offset = hot_file(target, shard, message.position)
    flip(path, offset + 40)
    assert len(verified(target).damage) == 1


def test_a_torn_end_is_no_damage(shard: Shard, tmp_path: Path) -> None:
    add(shard, 3)
    last = add(shard, 3)[1]
    target = copy_crashed(shard, tmp_path / "torn")
    (target / "shard-00" / "index" / "data.mdb").unlink()
    path, offset = hot_file(target, shard, last.position)
    flip(path, offset + 40)
    report = verified(target)
    assert report.is_sound
    assert "torn group" in report.remarks[0]


def test_a_lost_header_and_a_missing_segment(shard: Shard, tmp_path: Path) -> None:
    add(shard, 300)
    target = copy_crashed(shard, tmp_path / "rotten")
    paths = [Path(segment.path).name for segment in shard.spool._logs.hot]
    hot = target / "shard-00" / "hot"
    (target / "shard-00" / "index" / "data.mdb").unlink()
    flip(hot / paths[1], 20)
    report = verified(target)
    assert [problem.text for problem in report.damage] == [
        "the header is lost; the first group tells the segment's place"
    ]
    assert report.records["MSG"] == 300
    (hot / paths[2]).unlink()
    report = verified(target)
    assert any("is missing" in problem.text for problem in report.damage)


def test_large_contents_are_read(shard: Shard, tmp_path: Path) -> None:
    kept, gone = shard.accept_big(b"x" * 900_000), shard.accept_big(b"y" * 900_000)
    shard.deliver(gone)
    shard.wait(lambda done: shard.spool.contents.ask(lambda: shard.spool.contents.tell(done)))
    target = copy_crashed(shard, tmp_path / "copy")
    report = verified(target)
    assert report.is_sound
    assert report.big == 1
    assert kept.file is not None
    path = target / "shard-00" / "big" / os.path.basename(kept.file.path)
    flip(path, 500_000)
    (problem,) = verified(target).damage
    assert problem.text == "the content of a waiting message is damaged"
    assert problem.queue_id == kept.id.decode()
    path.write_bytes(b"x" * 899_999)
    assert "has 899999 octets" in verified(target).damage[0].text
    path.unlink()
    assert "is missing" in verified(target).damage[0].text


def test_what_the_disk_does_not_give_is_not_called_damage(
    shard: Shard, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(shard, 300)
    victim = next(iter(shard.spool._logs.hot)).path
    shard.close()
    true_open = survey.opened
    refused: list[str] = []

    @contextlib.contextmanager
    def bad_open(path: str) -> Iterator[int]:
        if path == victim:
            refused.append(path)
            raise OSError(errno.EIO, "Input/output error", path)
        with true_open(path) as fd:
            yield fd

    monkeypatch.setattr(verify, "opened", bad_open)
    report = verified(shard.root)
    assert refused
    assert report.damage == []
    (problem,) = report.unreadable
    assert (problem.file, problem.text) == (victim, "cannot be read: Input/output error")


def test_verify_under_load_finds_nothing(tmp_path: Path) -> None:
    """Segments fill, are voided and taken into use again while they are read."""
    with Shard(tmp_path / "spool") as shard:
        reports: list[Report] = []
        stop = threading.Event()

        def verify() -> None:
            while not stop.is_set():
                reports.append(verified(shard.root))

        thread = threading.Thread(target=verify)
        thread.start()
        try:
            until_s = time.monotonic() + 2.0
            while time.monotonic() < until_s:
                for message in add(shard, 20, 2000):
                    shard.deliver(message)
        finally:
            stop.set()
            thread.join()
        assert shard.spool.statistics.segments_freed > 0
    assert len(reports) > 5
    assert [problem for report in reports for problem in report.damage] == []
    assert [problem for report in reports for problem in report.unreadable] == []


@pytest.fixture
def config(shard: Shard, tmp_path: Path) -> Path:
    path = tmp_path / "fastmta.toml"
    path.write_text(f'hostname = "relay.example"\n[spool]\ndirectory = "{shard.root}"\n')
    return path


def test_commands(shard: Shard, config: Path) -> None:
    messages = add(shard, 5)
    add(shard, 1)
    runner = CliRunner()

    def run(*words: str) -> tuple[int, str]:
        result = runner.invoke(main, ["spool", *words, "-c", str(config)])
        return result.exit_code, result.output

    status, text = run("verify")
    assert status == 0
    assert "shard 0: 1 segments" in text
    assert "6 MSG: sound" in text
    status, text = run("info")
    assert status == 0
    assert "shard 0: in use" in text
    status, text = run("info", "-o", "json", "--shard", "0")
    (told,) = json.loads(text)["shards"]
    assert told["is_in_use"]
    assert told["live"] is None
    shard.close()
    (told,) = json.loads(run("info", "-o", "json")[1])["shards"]
    assert (told["live"], told["is_in_use"], told["hot"]["segments"]) == (6, False, 1)
    assert told["live_octets"] == 6 * 3000
    path, offset = hot_file(shard.root, shard, messages[0].position)
    flip(path, offset + 99)
    status, text = run("verify")
    assert status == 1
    assert f"{path}: offset {offset}: position {messages[0].position}: damaged" in text
    assert f"message {messages[0].id.decode()}" in text
    status, text = run("verify", "-o", "json")
    assert status == 1
    assert json.loads(text)["shards"][0]["damage"][0]["queue_id"] == messages[0].id.decode()
    assert run("verify", "--shard", "7")[0] == 75
    assert run("verify", "--set", f"spool.directory={config}.not")[0] == 75


def test_states_are_folded_to_tell_who_waits(shard: Shard) -> None:
    waiting, final = shard.accept_new(b"a@one.example", b"b@one.example"), shard.accept_new()
    shard.record(waiting, RecipientState(0, DEFERRED, 1, 5))
    shard.deliver(final)
    other = shard.accept_new()
    found = pending_of(Layout(str(shard.root), 0), {waiting.id, final.id})
    assert found == {waiting.id: 2, final.id: 0}
    assert other.id not in found
