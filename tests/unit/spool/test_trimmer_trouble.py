"""The trimmer while something fails: nothing is lost, and it gets on afterwards."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from fastmta.spool.cold import ColdLog
from fastmta.spool.index import Index
from fastmta.spool.problem import SpoolError
from fastmta.spool.rebuild import Rebuild
from tests.support.spool import Shard, copy_crashed, delete_index
from tests.unit.spool.test_trimmer import (
    HOP,
    LATER_NS,
    OPTIONS,
    check_all,
    lose_index,
    old_mail,
    settle,
    shard,
)

__all__ = ["shard"]


def turn(shard: Shard, count: int) -> None:
    for _ in range(count):
        shard.turn()


def test_rebuilding_that_fails_at_first_costs_no_mail(
    shard: Shard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    contents = old_mail(shard, 30)
    shard.commit()
    copy_crashed(shard, tmp_path / "lost")
    delete_index(tmp_path / "lost")
    run, tries = Rebuild.run, []

    def run_or_fail(self: Rebuild, *values: object) -> object:
        tries.append(self)
        if len(tries) == 1:
            raise OSError(28, "No space left on device")
        return run(self, *values)  # type: ignore[arg-type]  # passed on

    monkeypatch.setattr(Rebuild, "run", run_or_fail)
    monkeypatch.setattr("fastmta.spool.opening.REBUILT_AT_ONCE_OCTETS", 0)
    monkeypatch.setattr("fastmta.spool.clerk.REBUILD_AGAIN_S", 0.01)
    with Shard(tmp_path / "lost", OPTIONS) as again:
        assert len(tries) == 2
        settle(again)
        check_all(again, contents)
        assert again.spool.live_count == len(contents)


def test_no_spare_for_a_long_while(
    shard: Shard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each try begins anew: the group does not grow, and what ends meanwhile is not moved."""
    monkeypatch.setattr("fastmta.spool.trimmer.AGAIN_S", 0.0)
    keeper = shard.spool._cold_keeper
    with monkeypatch.context() as patch:
        patch.setattr(keeper, "take", lambda: None)
        contents = old_mail(shard, 60)
        ended = shard.fetch(HOP, LATER_NS)[0]
        for message in ended[:3]:
            turn(shard, 10)
            shard.deliver(message)
            del contents[message.id]
        for message in ended[3:]:
            shard.spool.release(message)
        for _ in range(10):
            shard.loop.run_until_complete(shard._tick())
            turn(shard, 10)
        assert not len(shard.spool._logs.cold)
    settle(shard)
    assert shard.spool.statistics.segments_trimmed > 0
    check_all(shard, contents)
    shard.check_counts()
    live = sum(segment.live for segment in shard.spool._logs.all())
    assert live == len(contents)
    with lose_index(shard, tmp_path / "lost") as again:
        check_all(again, contents)


def test_index_that_fails_between_two_steps(shard: Shard, monkeypatch: pytest.MonkeyPatch) -> None:
    """The segment that was being trimmed is nobody's then, and can be given back."""
    monkeypatch.setattr("fastmta.spool.trimmer.PAUSE_S", 60.0)
    contents = old_mail(shard, 60)
    shard.commit()
    deadline_s = shard.loop.time() + 10
    while not any(segment.pins for segment in shard.spool._logs.hot):
        assert shard.loop.time() < deadline_s
        shard.turn()
    monkeypatch.setattr("fastmta.spool.trimmer.PAUSE_S", 0.0)
    commit, failed = Index.commit, []

    def fail(self: Index, *values: object, **options: object) -> None:
        if not failed:
            failed.append(self)
            raise OSError(5, "Input/output error")
        commit(self, *values, **options)  # type: ignore[arg-type]  # passed on

    monkeypatch.setattr(Index, "commit", fail)
    shard.spool._clerk._submit(shard.spool._clerk._prepare())
    while shard.spool.is_indexed:
        shard.turn()
    while not shard.spool.is_indexed:
        shard.turn()
    settle(shard)
    assert not any(segment.pins for segment in shard.spool._logs.all())
    check_all(shard, contents)


def test_evacuated_segment_with_damage_is_not_evacuated_again(shard: Shard) -> None:
    contents = old_mail(shard, 30)
    shard.commit()
    segments = list(shard.spool._logs.hot)
    suspect = segments[len(segments) // 2]
    messages, _ = shard.fetch(HOP, LATER_NS)
    victim = next(m for m in messages if suspect.base <= m.position < suspect.end)
    for message in messages:
        shard.spool.release(message)
    with Path(suspect.path).open("r+b") as file:
        file.seek(victim.position - suspect.base + 100)
        file.write(b"\xff" * 8)
    suspect.is_suspect = True
    for _ in range(20):
        shard.commit()
        shard.trim()
    before = shard.spool.statistics.segments_trimmed
    for _ in range(20):
        shard.commit()
        shard.trim()
    assert shard.spool.statistics.segments_trimmed < before + 10
    del contents[victim.id]
    check_all(shard, contents)


def test_cold_log_that_fails_once_does_not_end_the_trimming(
    shard: Shard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fastmta.spool.trimmer.AGAIN_S", 0.0)
    monkeypatch.setattr("fastmta.spool.trimmer.FAILED_S", 0.0)
    commit, failed = ColdLog.commit, []

    def fail(self: ColdLog) -> int:
        if not failed:
            failed.append(self)
            raise SpoolError("Input/output error")
        return commit(self)

    monkeypatch.setattr(ColdLog, "commit", fail)
    contents = old_mail(shard, 60)
    settle(shard)
    logs, deadline_s = shard.spool._logs, time.monotonic() + 10
    while logs.octets() > logs.live_octets() / 0.25 + 8 * OPTIONS.segment_octets:
        assert time.monotonic() < deadline_s, "trimming does not go on"
        turn(shard, 5)
        settle(shard)
    assert failed
    assert shard.spool.statistics.segments_trimmed > 0
    check_all(shard, contents)
