"""A write that fails in this very process: its descriptor is put on a device that takes nothing."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fastmta.event import Notice, Severity
from fastmta.message import Message, RecipientState
from fastmta.spool import Durability, SpoolError, SpoolOptions
from fastmta.spool.health import RELAPSE_S, TRANSITIONS, Health, HealthState, Signal
from fastmta.spool.segment import Segment
from tests.support.client import until
from tests.support.spool import DEFERRED, DELIVERED, NOW_NS, Shard

OPTIONS = SpoolOptions(segment_octets=64 * 1024, clean_s=0.3)
SIZES = (20_000, 20_000, 50_000, 10, 20_000, 50_000, 10)  # two in the first group, five wait
MARK = RecipientState(0, DEFERRED, 1, NOW_NS, "later")


@pytest.fixture
def shard(tmp_path: Path) -> Iterator[Shard]:
    with Shard(tmp_path / "spool", OPTIONS) as opened:
        until(lambda: len(opened.spool._keeper._spares) >= 2)
        yield opened


@contextmanager
def broken(segment: Segment, device: str = "/dev/full") -> Iterator[None]:
    """Writes of `segment` fail with ENOSPC; with /dev/null they pass, and flushes with EINVAL."""
    whole, other = os.dup(segment.fd), os.open(device, os.O_RDWR)
    os.dup2(other, segment.fd)
    try:
        yield
    finally:
        os.dup2(whole, segment.fd)
        os.close(whole)
        os.close(other)


def used(shard: Shard) -> Segment:
    segment = shard.spool._writer.tail.segment
    assert segment is not None
    return segment


def said(shard: Shard, severity: Severity) -> list[str]:
    return [each.text for each in shard.events if getattr(each, "severity", None) is severity]


def wait_s(shard: Shard, delay_s: float) -> None:
    shard.wait(lambda done: shard.loop.call_later(delay_s, done))


@pytest.mark.parametrize("device", ["/dev/full", "/dev/null"])
def test_mail_and_marks_of_the_group_land_in_the_next_segment(shard: Shard, device: str) -> None:
    old = shard.accept_new()
    failed = used(shard)
    new = [shard.make(content=b"%d" % number) for number in range(3)]
    with broken(failed, device):
        marks: list[SpoolError | None] = []
        shard.spool.record(old, [MARK], lambda message, problem: marks.append(problem))
        assert shard.accept(*new) == [None, None, None]
    assert marks == [None]
    assert not shard.spool.is_healthy
    assert not shard.spool.has_failed
    assert failed.is_suspect
    assert shard.spool.statistics.faults == 1
    assert all(message.position >= failed.end for message in new)
    assert old.position < failed.end
    assert used(shard).previous_end < failed.end
    assert len(said(shard, Severity.ERROR)) == 1
    assert failed.path in said(shard, Severity.ERROR)[0]
    expected = {old.id: {0: MARK}, **{message.id: {} for message in new}}
    shard.close()
    with Shard(shard.root, OPTIONS) as again:
        assert {id: found.states for id, found in again.recovered.items()} == expected
        messages, _ = again.fetch(b"smtp:one.example", 2**62)
        assert {message.content for message in messages} == {b"x\r\n", b"0", b"1", b"2"}


def test_the_spool_comes_clean_by_itself_and_says_so(tmp_path: Path) -> None:
    with Shard(tmp_path / "spool", OPTIONS) as shard:
        told: list[str] = []
        shard.spool._writer._rescue.attach(shard.loop, told.append)
        shard.accept_new()
        with broken(used(shard)):
            shard.accept_new()
        assert len(told) == 1
        assert told[0].startswith("the spool is not healthy: ")
        groups, began_s = shard.spool.statistics.groups, time.monotonic()
        while not shard.spool.is_healthy:
            wait_s(shard, 0.02)
            assert time.monotonic() - began_s < 10
        assert time.monotonic() - began_s >= 0.25
        assert shard.spool.statistics.groups > groups + 10  # empty ones
        assert told[1:] == [""]
        count = shard.spool.statistics.groups
        wait_s(shard, 0.05)
        assert shard.spool.statistics.groups == count  # it stops asking
        shard.accept_new()


def test_a_probe_that_fails_is_a_second_fault_and_latches(shard: Shard) -> None:
    shard.accept_new()
    with broken(used(shard)):
        kept = shard.accept_new()
    with broken(used(shard)):
        wait_s(shard, 0.1)
    assert shard.spool.statistics.faults == 2
    assert "until fastmta is started again" in said(shard, Severity.ERROR)[-1]
    wait_s(shard, 0.5)
    assert not shard.spool.is_healthy
    assert not shard.spool.has_failed
    assert shard.record(kept, MARK) is None  # marks of attempts that were under way


def test_what_waits_keeps_its_order_behind_the_group(shard: Shard) -> None:
    shard.accept_new()
    messages = [shard.make(content=bytes(size)) for size in SIZES]
    with broken(used(shard)):
        assert shard.accept(*messages) == [None] * len(messages)
    assert shard.spool.statistics.faults == 1
    positions = [message.position for message in messages]
    assert positions == sorted(positions)


class Refusing:
    """No segment is ready while `is_empty`."""

    def __init__(self, shard: Shard, monkeypatch: pytest.MonkeyPatch) -> None:
        self.is_empty = True
        self.take = shard.spool._keeper.take
        monkeypatch.setattr(shard.spool._keeper, "take", self)

    def __call__(self) -> Segment | None:
        return None if self.is_empty else self.take()


def test_the_group_waits_for_a_segment(shard: Shard, monkeypatch: pytest.MonkeyPatch) -> None:
    shard.accept_new()
    refusing = Refusing(shard, monkeypatch)
    message = shard.make()
    with broken(used(shard)):

        def ready() -> None:
            refusing.is_empty = False
            shard.spool._writer.keeper_is_ready()

        shard.loop.call_later(0.1, ready)
        assert shard.accept(message) == [None]
    assert any("no segment is ready" in text for text in said(shard, Severity.WARNING))
    assert not shard.spool.has_failed


def test_without_a_segment_all_are_refused(shard: Shard, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastmta.spool.rescue.SPARE_WAIT_S", 0.1)
    old = shard.accept_new()
    Refusing(shard, monkeypatch)
    mark: list[SpoolError | None] = []
    with broken(used(shard)):
        messages = [shard.make(content=bytes(size)) for size in SIZES]
        shard.spool.record(old, [MARK], lambda message, problem: mark.append(problem))
        problems = shard.accept(*messages)
    assert all(isinstance(problem, SpoolError) for problem in (*problems, *mark))
    assert len(mark) == 1
    assert shard.spool.has_failed
    assert old.states == {}
    assert len(said(shard, Severity.FATAL)) == 1
    assert shard.spool._ledger.messages == {old.id: old}
    (late,) = shard.accept(shard.make())
    assert isinstance(late, SpoolError)


def test_a_close_in_the_middle_waits_for_the_end(
    shard: Shard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fastmta.spool.rescue.SPARE_WAIT_S", 0.2)
    shard.accept_new()
    Refusing(shard, monkeypatch)
    problems: list[SpoolError | None] = []
    with broken(used(shard)):
        shard.spool.accept(shard.make(), lambda message, problem: problems.append(problem))
        shard.close()
    assert isinstance(problems[0], SpoolError)


def test_the_second_failure_of_one_group_ends_it(shard: Shard) -> None:
    shard.accept_new()
    spare = shard.spool._keeper._spares[0]
    with broken(used(shard)), broken(spare):
        (problem,) = shard.accept(shard.make())
    assert isinstance(problem, SpoolError)
    assert str(problem).startswith("the log could not be written: ")
    assert shard.spool.has_failed


def test_a_failed_file_is_removed_and_never_used_again(shard: Shard) -> None:
    old = shard.accept_new()
    failed = used(shard)
    inode = os.stat(failed.path).st_ino
    with broken(failed):
        new = shard.accept_new()
    shard.deliver(old)
    shard.deliver(new)
    assert os.path.exists(failed.path)
    for _ in range(100):
        shard.commit()
        if not os.path.exists(failed.path):
            break
        time.sleep(0.02)
    assert inode not in {entry.inode() for entry in os.scandir(os.path.dirname(failed.path))}
    assert failed.path not in {spare.path for spare in shard.spool._keeper._spares}


def test_a_header_that_cannot_be_voided_ends_its_file(shard: Shard) -> None:
    """A void that was not flushed must not be believed: the file goes instead."""
    shard.accept_new()
    segment = shard.spool._keeper._spares.popleft()
    with broken(segment), pytest.raises(OSError, match="No space left"):
        shard.spool._keeper._void(segment)
    shard.spool._keeper._void(segment)
    assert not os.path.exists(segment.path)


def test_without_flushes_a_failed_write_is_the_same(tmp_path: Path) -> None:
    options = SpoolOptions(segment_octets=64 * 1024, durability=Durability.OS)
    with Shard(tmp_path / "spool", options) as shard:
        shard.accept_new()
        with broken(used(shard)):
            message = shard.accept_new()
        ids = set(shard.spool._ledger.messages)
        assert message.id in ids
    with Shard(tmp_path / "spool", options) as shard:
        assert set(shard.recovered) == ids


def test_a_dsn_and_its_mark_stay_together(shard: Shard) -> None:
    old = shard.accept_new(b"a@one.example", b"b@one.example")
    dsn: Message = shard.make(b"s@home.example", reverse_path=b"")
    with broken(used(shard)):
        assert shard.record(old, RecipientState(0, DELIVERED, 1), dsn=dsn) is None
    shard.close()
    with Shard(shard.root, OPTIONS) as again:
        assert set(again.recovered) == {old.id, dsn.id}
        assert set(again.recovered[old.id].states) == {0}


def test_health_walks_its_table() -> None:
    health = Health(clean_s=10.0)
    assert health.is_healthy
    health.fault(1_000.0)
    assert (health.state, health.is_healthy) == (HealthState.RESCUING, False)
    assert health.rescued(1_001.0)
    assert not health.proved(1_010.0)
    assert health.proved(1_011.0)
    assert health.is_healthy
    health.fault(1_000.0 + RELAPSE_S)  # an hour later: a new story
    assert health.rescued(0.0)
    health.fault(1_001.0 + RELAPSE_S)
    assert not health.rescued(1_001.0 + RELAPSE_S)
    assert health.state is HealthState.LATCHED
    assert not health.proved(1e9)
    health.fault(1e9)  # however late
    assert not health.rescued(1e9)
    health.lost()
    health.lost()
    assert health.state is HealthState.FAILED
    with pytest.raises(KeyError):
        health.fault(2e9)


def test_every_state_can_be_left_for_failed_and_only_healthy_is_healthy() -> None:
    for state in HealthState:
        assert TRANSITIONS[state, Signal.LOST] is HealthState.FAILED
    reached = set(TRANSITIONS.values())
    assert reached == set(HealthState)


def test_notices_are_of_the_spool(shard: Shard) -> None:
    with broken(shard.spool._keeper._spares[0]):
        shard.accept_new()  # its header fails
    notices = [event for event in shard.events if isinstance(event, Notice)]
    assert {notice.program for notice in notices} == {"spool"}
    assert len(notices) == 2
