"""The in-doubt table and what is made of it at the next start."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fastmta.event import Event, Notice
from fastmta.spool import doubt
from fastmta.spool.doubt import ATTEMPT, NO_SLOT, REFUSED, SLOTS_FIRST, DoubtTable
from fastmta.spool.inquiry import FILES_KEPT, NOTICES_MAX, Candidates, candidates, tell
from fastmta.spool.layout import Layout
from tests.support.spool import Shard, copy_crashed, delete_index

IDS = [b"%016d" % at for at in range(3 * SLOTS_FIRST)]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "doubt"


def opened(path: Path, events: list[Event] | None = None) -> DoubtTable:
    return DoubtTable(str(path), [].append if events is None else events.append)


def test_what_was_begun_and_not_ended_is_left(path: Path) -> None:
    table = opened(path)
    table.start(7)
    slots = [table.begin(id) for id in IDS[:5]]
    table.end(slots[1])
    table.end(slots[3])
    table.begin(IDS[9], REFUSED)
    table.abandon()
    again = opened(path)
    assert again.left.ids == {IDS[0]: ATTEMPT, IDS[2]: ATTEMPT, IDS[4]: ATTEMPT, IDS[9]: REFUSED}
    assert not again.left.was_clean
    assert not again.left.was_rebooted
    own = again.begin(IDS[20])
    again.abandon()  # before anybody looked: nothing is forgotten
    third = opened(path)
    assert set(third.left.ids) == {IDS[0], IDS[2], IDS[4], IDS[9], IDS[20]}
    third.forget_left()
    assert third.begin(IDS[21]) >= 0
    third.abandon()
    assert set(opened_once(path)) == {IDS[21]}
    assert own >= 0


def opened_once(path: Path) -> dict[bytes, int]:
    table = opened(path)
    try:
        return table.left.ids
    finally:
        table.abandon()


def test_a_clean_end_leaves_nothing_but_what_was_cut_off(path: Path) -> None:
    table = opened(path)
    table.end(table.begin(IDS[0]))
    table.close()
    table = opened(path)
    assert (table.left.ids, table.left.was_clean) == ({}, True)
    table.begin(IDS[1])
    table.close()
    table = opened(path)
    assert (table.left.ids, table.left.was_clean) == ({IDS[1]: ATTEMPT}, True)
    table.abandon()


def test_it_grows_and_slots_keep_their_numbers(path: Path) -> None:
    table = opened(path)
    slots = [table.begin(id) for id in IDS]
    assert len(set(slots)) == len(IDS)
    for at in slots[::2]:
        table.end(at)
    table.abandon()
    assert set(opened_once(path)) == set(IDS[1::2])


def test_a_machine_that_stopped_is_remembered_until_it_is_dealt_with(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = opened(path)
    table.begin(IDS[0])
    table.abandon()
    monkeypatch.setattr(doubt, "kernel_boot_id", lambda: b"another-boot-of-the-machine")
    for _ in range(2):
        table = opened(path)
        assert table.left.was_rebooted
        assert not table.left.was_clean
        table.start(8)
        table.abandon()
    table = opened(path)
    table.forget_left()
    table.abandon()
    table = opened(path)
    assert not table.left.was_rebooted
    table.close()


def test_without_room_there_is_no_table_and_no_harm(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    events: list[Event] = []
    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", full)
        table = opened(path, events)
        assert table.begin(IDS[0]) == NO_SLOT
        table.end(NO_SLOT)
        table.forget_left()
        table.close()
    assert len(events) == 1
    assert path.stat().st_size == 0
    table = opened(path, events)
    slots = [table.begin(id) for id in IDS[:SLOTS_FIRST]]
    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", full)
        assert table.begin(IDS[-1]) == NO_SLOT
    assert len(events) == 2
    table.end(slots[0])
    assert table.begin(IDS[-1]) >= 0
    table.abandon()
    assert set(opened_once(path)) == {*IDS[1:SLOTS_FIRST], IDS[-1]}


def test_octets_of_something_else_are_not_believed(path: Path) -> None:
    path.write_bytes(b"x" * 30_000)
    assert opened_once(path) == {}


def test_a_wrong_slot_is_refused(path: Path) -> None:
    table = opened(path)
    with pytest.raises(ValueError, match="16 octets"):
        table.begin(b"short")
    with pytest.raises(ValueError, match="slot"):
        table.end(10**6)
    table.abandon()


def test_kill_leaves_what_was_stored(path: Path) -> None:
    """Stores into the map need no call to survive the process."""
    script = f"""
import os, signal
from fastmta.spool.doubt import DoubtTable
table = DoubtTable({str(path)!r}, print)
table.end(table.begin(b"%016d" % 1))
table.begin(b"%016d" % 2)
os.kill(os.getpid(), signal.SIGKILL)
"""
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == -9
    assert opened_once(path) == {b"%016d" % 2: ATTEMPT}


def test_an_attempt_costs_little(path: Path) -> None:
    table = opened(path)
    best_s = 1.0
    for _ in range(5):
        began_s = time.perf_counter()
        for id in IDS[:1000]:
            table.end(table.begin(id))
        best_s = min(best_s, (time.perf_counter() - began_s) / 1000)
    table.abandon()
    assert best_s < 5e-6  # ten times what is wanted: this machine may be busy


def test_lists_are_kept_bounded(tmp_path: Path) -> None:
    layout = Layout(str(tmp_path), 0)
    os.makedirs(layout.shard)
    events: list[Event] = []
    doubtful: Candidates = {b"%016d" % at: "why" for at in range(NOTICES_MAX + 5)}
    for boot in range(1, FILES_KEPT + 4):
        events.clear()
        path = tell(layout, boot, doubtful, events.append)
    names = sorted(os.listdir(layout.shard))
    assert len(names) == FILES_KEPT
    assert "in-doubt-3.txt" not in names
    assert Path(path).read_text().count("\n") == NOTICES_MAX + 5
    assert len(events) == NOTICES_MAX + 1
    assert isinstance(events[0], Notice)
    assert events[0].queue_id == b"%016d" % 0


def test_the_last_group_is_in_doubt_after_a_crash_only(tmp_path: Path) -> None:
    with Shard(tmp_path / "spool") as shard:
        old = shard.accept_new()
        shard.spool.release(old)
        shard.commit()
        last = [shard.make(), shard.make()]
        shard.accept(*last)
        crashed = Layout(str(copy_crashed(shard, tmp_path / "crashed")), 0)
    assert set(found_by(crashed)) == {message.id for message in last}
    assert found_by(Layout(str(tmp_path / "spool"), 0)) == {}


def test_after_power_loss_what_is_recent_is_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    second_ns = 10**9
    with Shard(tmp_path / "spool") as shard:
        now_ns = time.time_ns()
        ages_s = (100, 40, 20, 1, 0)
        made = [shard.make(arrived_at_ns=now_ns - age * second_ns) for age in ages_s]
        for message in made:
            shard.accept(message)
            shard.spool.release(message)
        shard.commit()
        crashed = Layout(str(copy_crashed(shard, tmp_path / "crashed")), 0)
    assert found_by(crashed) == {}
    monkeypatch.setattr(doubt, "kernel_boot_id", lambda: b"another")
    found = found_by(crashed)
    assert list(found) == [message.id for message in made[2:]]
    assert all("possibly" in reason for reason in found.values())


def found_by(layout: Layout) -> Candidates:
    table = DoubtTable(layout.doubt, print)
    try:
        return candidates(layout, table.left)
    finally:
        table.abandon()


def test_only_what_lives_is_listed(tmp_path: Path) -> None:
    with Shard(tmp_path / "spool") as shard:
        tried, refused, final, waiting = (shard.accept_new() for _ in range(4))
        shard.spool.doubt.begin(tried.id)
        shard.spool._on_untold(refused)
        shard.spool.doubt.begin(final.id)
        shard.spool._on_untold(shard.make())
        shard.deliver(final)
        for message in (tried, refused, waiting):
            shard.spool.release(message)
        shard.commit()
        crashed = copy_crashed(shard, tmp_path / "crashed")
    with Shard(crashed) as again:
        assert again.spool.has_candidates
        (ids,) = again.wait(again.spool.review_doubt)
        assert ids == [tried.id, refused.id]
        (path,) = (crashed / "shard-00").glob("in-doubt-*.txt")
        lines = path.read_text().split("\n")
        assert lines[0].startswith(f"{tried.id.decode()} an attempt was under way")
        assert lines[1].startswith(f"{refused.id.decode()} its record was written, but its client")
        notices = [each for each in again.events if isinstance(each, Notice) and each.queue_id]
        assert [each.queue_id for each in notices] == [tried.id, refused.id]
        again.spool.doubt.forget_left()
    with Shard(crashed) as third:
        assert not third.spool.has_candidates


def test_the_list_waits_for_an_index_that_is_being_rebuilt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Shard(tmp_path / "spool") as shard:
        tried = shard.accept_new()
        shard.spool.doubt.begin(tried.id)
        shard.spool.release(tried)
        crashed = copy_crashed(shard, tmp_path / "crashed")
    delete_index(crashed)
    monkeypatch.setattr("fastmta.spool.opening.REBUILT_AT_ONCE_OCTETS", 0)
    with Shard(crashed) as again:
        (ids,) = again.wait(again.spool.review_doubt)
        assert ids == [tried.id]
