"""A backup of a spool under load opens to a state that the spool had while it was copied."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from fastmta.cli import main
from fastmta.message import RecipientStatus
from fastmta.spool import SpoolOptions, backup, survey
from fastmta.spool.backup import Target, back_up
from fastmta.spool.layout import Layout
from fastmta.spool.segment import HEADER_OCTETS
from fastmta.spool.verify import verify_shard
from tests.support.spool import SMALL, Shard
from tests.support.spool_child import DOMAINS, content_of

BACKUPS = 4
CATCH_UP_S = 0.4  # what the child says is read with some delay
FAR_NS = 1 << 62  # everything is due by then


class Child:
    """A process that loads a shard, and all that it has said so far."""

    def __init__(self, root: Path) -> None:
        words = [sys.executable, "-m", "tests.support.spool_child", "load", str(root), "7"]
        self.process = subprocess.Popen(words, stdout=subprocess.PIPE)
        self.said: list[list[Any]] = []
        self._thread = threading.Thread(target=self._listen)
        self._thread.start()

    def _listen(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.said.append(json.loads(line))

    def end(self) -> None:
        self.process.kill()
        self.process.wait()
        self._thread.join()
        assert self.process.stdout is not None
        self.process.stdout.close()


def is_final(status: int) -> bool:
    return RecipientStatus(status).is_final


def check(copy: Path, before: list[list[Any]], during: list[list[Any]]) -> int:
    """Hold the copy against what was promised before the backup and what was begun by its end."""
    accepted = {said[1] for said in before if said[0] == "accepted"}
    touched = {said[1] for said in during if said[0] == "mark"}
    told: dict[str, list[Any]] = {}
    final: dict[str, set[int]] = {}  # recipients that were final, durably, before the start
    for said in before:
        if said[0] == "mark":
            told[said[1]] = said[2]
        elif said[0] == "marked":
            indices = {index for index, status, _ in told[said[1]] if is_final(status)}
            final.setdefault(said[1], set()).update(indices)
    begun = touched | set(told)
    with Shard(copy, SMALL) as opened:
        live = opened.recovered
        missing = {id for id in accepted - begun if id.encode() not in live}
        assert not missing, f"{len(missing)} of {len(accepted)} are not in the copy"
        for id, found in live.items():
            for index in final.get(id.decode(), ()):
                state = found.states.get(index)
                assert state is not None
                assert state.status.is_final, "an outcome of before the backup was forgotten"
        contents = {}
        for domain in DOMAINS:
            after = b""
            while True:
                hop = b"smtp:" + domain
                messages, _ = opened.fetch(hop, FAR_NS, after, 1000)
                contents.update({message.id: message.content for message in messages})
                if len(messages) < 1000:
                    break
                after = opened.spool.order_key(messages[-1], hop)
        assert all(content == content_of(id) for id, content in contents.items())
        return len(accepted - begun)


def test_backup_under_load(tmp_path: Path) -> None:
    child = Child(tmp_path / "spool")
    sure = moved = 0
    try:
        while len(child.said) < 2000:
            assert child.process.poll() is None
            time.sleep(0.02)
        for number in range(BACKUPS):
            before = list(child.said)
            place = tmp_path / f"copy-{number}"
            place.mkdir(mode=0o700)
            report = back_up(Layout(str(tmp_path / "spool"), 0), str(place), lambda text: None)
            assert report.is_sound, report
            moved += report.records.get("FOLD", 0)
            time.sleep(CATCH_UP_S)
            sure += check(place, before, child.said[len(before) :])
            shutil.rmtree(place)
    finally:
        child.end()
    assert moved > 0, "nothing was trimmed while the backups were made: this proves nothing"
    assert sure > 100, "nothing waited while the backups were made: this proves nothing"


@pytest.mark.parametrize("listings", [6, 12, 13, 20])
def test_segments_begun_while_they_are_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, listings: int
) -> None:
    """A listing reads a spare, and has then the segment after the one that the spare became."""
    true_opened, met = survey.opened, 0
    with Shard(tmp_path / "spool", SpoolOptions(segment_octets=64 * 1024)) as shard:
        kept = [shard.accept_new(content=b"k" * 40_000) for _ in range(4)]

        @contextlib.contextmanager
        def opened(path: str) -> Iterator[int]:
            nonlocal met
            spares = shard.spool._keeper._spares
            is_next = bool(spares) and spares[0].path == path
            with true_opened(path) as fd:
                header = os.pread(fd, HEADER_OCTETS, 0)
                yield fd
            if is_next and met < listings and not any(header):
                met += 1
                kept.extend(shard.accept_new(content=b"k" * 40_000) for _ in range(2))
                while len(spares) < 2:
                    shard.turn()

        monkeypatch.setattr(survey, "opened", opened)
        place = tmp_path / "copy"
        place.mkdir()
        report = back_up(Layout(str(shard.root), 0), str(place), lambda text: None)
        assert met == listings
        assert report.is_sound, report
    with Shard(place) as opened_copy:
        assert sorted(opened_copy.recovered) == sorted(message.id for message in kept)


def test_backup_of_large_contents(tmp_path: Path) -> None:
    with Shard(tmp_path / "spool") as shard:
        kept = shard.accept_big(b"k" * 700_000)
        gone = shard.accept_big(b"g" * 700_000)
        shard.deliver(gone)
        place = tmp_path / "copy"
        place.mkdir()
        assert back_up(Layout(str(shard.root), 0), str(place), lambda text: None).is_sound
        assert kept.file is not None
        name = os.path.basename(kept.file.path)
    copied = place / "shard-00" / "big" / name
    assert copied.read_bytes() == b"k" * 700_000
    assert copied.stat().st_nlink == 1
    with Shard(place) as opened:
        assert list(opened.recovered) == [kept.id]
        assert opened.spool.new_id() != kept.id
        fresh = opened.accept_new()
    assert fresh.id > kept.id


def test_large_contents_that_come_and_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While one is copied, all others that are not kept go and as many come."""
    true_copy, met = backup._copy_octets, 0
    with Shard(tmp_path / "spool") as shard:
        kept = shard.accept_big(b"k" * 600_000)
        passing = [shard.accept_big(b"p" * 600_000) for _ in range(2)]

        def copy_octets(fd: int, path: str, count: int, size: int) -> None:
            nonlocal met
            true_copy(fd, path, count, size)
            if "/big/" in path and met < 30:
                met += 1
                for message in list(passing):
                    shard.deliver(message)
                passing[:] = [shard.accept_big(b"p" * 600_000) for _ in range(2)]

        monkeypatch.setattr(backup, "_copy_octets", copy_octets)
        place = tmp_path / "copy"
        place.mkdir()
        report = back_up(Layout(str(shard.root), 0), str(place), lambda text: None)
        assert report.is_sound, report
    with Shard(place) as opened:
        assert kept.id in opened.recovered


def test_damage_is_copied_and_told(tmp_path: Path) -> None:
    with Shard(tmp_path / "spool") as shard:
        victim, other = shard.accept_new(), shard.accept_new()
        segment = shard.spool._logs.find(victim.position)
        assert segment is not None
        os.pwrite(segment.fd, b"\xff\xff", victim.position - segment.base + 60)
        place = tmp_path / "copy"
        place.mkdir()
        report = back_up(Layout(str(shard.root), 0), str(place), lambda text: None)
        assert [problem.queue_id for problem in report.damage] == [victim.id.decode()]
    with Shard(place) as opened:
        assert list(opened.recovered) == [other.id]


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "fastmta.toml"
    path.write_text(f'hostname = "relay.example"\n[spool]\ndirectory = "{tmp_path / "spool"}"\n')
    return path


def test_command_refuses_and_leaves_nothing_half(tmp_path: Path, config: Path) -> None:
    runner = CliRunner()

    def run(target: Path, *words: str) -> tuple[int, str]:
        words = ("spool", "backup", str(target), "-c", str(config), *words)
        result = runner.invoke(main, words)
        return result.exit_code, result.output

    with Shard(tmp_path / "spool") as shard:
        message = shard.accept_new()
        status, text = run(tmp_path / "copy")
        assert status == 0, text
        assert "copied and verified" in text
        assert run(tmp_path / "copy")[0] == 75
        assert run(tmp_path / "spool" / "copy")[0] == 75
        assert run(tmp_path / "absent" / "copy")[0] == 75
        (tmp_path / "spool" / "shard-00" / "hot").chmod(0o700)
        assert run(tmp_path / "other", "--shard", "3")[0] == 75
        assert not (tmp_path / "other.partial").exists()
        (tmp_path / "new.partial").mkdir()
        assert run(tmp_path / "new")[0] == 75
    assert verify_shard(Layout(str(tmp_path / "copy"), 0)).is_sound
    with Shard(tmp_path / "copy") as opened:
        assert list(opened.recovered) == [message.id]


def test_a_failed_backup_is_removed(tmp_path: Path, config: Path, monkeypatch: Any) -> None:
    with Shard(tmp_path / "spool") as shard:
        shard.accept_new()

        def fail(*_: object) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("fastmta.spool.backup._copy_octets", fail)
        words = ["spool", "backup", str(tmp_path / "copy"), "-c", str(config)]
        assert CliRunner().invoke(main, words).exit_code == 75
    assert not (tmp_path / "copy").exists()
    assert not (tmp_path / "copy.partial").exists()
    with pytest.raises(Exception, match="inside the spool"):
        Target(str(tmp_path / "spool"), str(tmp_path / "spool" / "x"))
