"""Crashes around the trimmer: what moves to the cold log is there once, with all its states.

The shard is small (64 KiB segments) and its oldest segments hold one message each that nobody has
delivered, so the trimmer has much to do. Copies of its files are what a killed process leaves.
"""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fastmta.message import Message, RecipientState, RecipientStatus
from fastmta.spool import SpoolOptions
from tests.support.spool import (
    DEFERRED,
    DELIVERED,
    FAILED,
    NOW_NS,
    Shard,
    copy_crashed,
    delete_index,
    state_of,
)

SMALL = SpoolOptions(segment_octets=64 * 1024)
HOP = b"smtp:one.example"
DUE = RecipientState(0, DEFERRED, 3, NOW_NS + 7)
TRIMMED = 4  # segments that the oldest messages are in
FILLER = b"f" * 20_000
QUIET_S = 0.04  # several ticks of the clock that file times are taken from
TIMEOUT_S = 10.0


@pytest.fixture
def shard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shard]:
    monkeypatch.setattr("fastmta.spool.clerk.COMMIT_INTERVAL_S", 0.005)
    monkeypatch.setattr("fastmta.spool.clerk.COMMIT_GAP_S", 0.0)
    monkeypatch.setattr("fastmta.spool.clerk.CHECKPOINT_INTERVAL_S", 0.01)
    monkeypatch.setattr("fastmta.spool.ledger.AGE_S", 0.01)
    with Shard(tmp_path / "spool", SMALL) as opened:
        yield opened


def rest(shard: Shard, seconds: float) -> None:
    shard.loop.run_until_complete(asyncio.sleep(seconds))


def fill(shard: Shard, count: int = 1) -> None:
    """About a segment each of mail that is delivered at once."""
    for _ in range(count):
        messages = [shard.make(b"a@two.example", content=FILLER) for _ in range(3)]
        assert shard.accept(*messages) == [None] * 3
        for message in messages:
            shard.deliver(message)


def backlog(shard: Shard, *, is_held: bool = False) -> list[Message]:
    """Deferred messages, one in each of the oldest segments, before the trimmer begins."""
    messages = []
    for at in range(TRIMMED):
        message = shard.accept_new(content=b"content %d\r\n" % at)
        assert shard.record(message, DUE) is None
        if not is_held:
            shard.spool.release(message)
        messages.append(message)
        fill(shard)
    return messages


def trim(shard: Shard, count: int = TRIMMED) -> None:
    """More mail, until so many segments have been trimmed."""
    until_s = time.monotonic() + TIMEOUT_S
    while shard.spool.statistics.segments_trimmed < count:
        assert time.monotonic() < until_s, "the trimmer does nothing"
        fill(shard)
        rest(shard, 0.02)


def be_quiet(root: Path) -> None:
    """Until the threads have done what they were asked for: a copy must be of one moment."""
    until_s = time.monotonic() + TIMEOUT_S
    while any(
        time.time() - path.stat().st_mtime < QUIET_S for path in root.rglob("*") if path.is_file()
    ):
        assert time.monotonic() < until_s, "the threads of the spool do not come to rest"
        time.sleep(QUIET_S / 4)


def recovered(shard: Shard, place: Path, *, has_index: bool) -> dict[bytes, RecipientState | None]:
    """What a crash now leaves: state of the first recipient by id. Contents are compared."""
    be_quiet(shard.root)
    source = copy_crashed(shard, place)
    if not has_index:
        delete_index(source)
    with Shard(source, SMALL) as again:
        states = {id: state_of(found).get(0) for id, found in again.recovered.items()}
        fetched, _ = again.fetch(HOP, 2**62)
        assert len({message.id for message in fetched}) == len(fetched), "twice"
        assert {message.id for message in fetched} == set(states)
        for message in fetched:
            assert message.content is not None
            assert message.content.startswith((b"content ", b"x\r\n"))
        first = again.dump()
    with Shard(source, SMALL) as third:
        assert third.dump() == first, "recovering twice makes a difference"
    shutil.rmtree(source)
    return states


@pytest.mark.parametrize("has_index", [True, False])
def test_index_lost_right_after_trimming(shard: Shard, tmp_path: Path, has_index: bool) -> None:
    expected = {message.id: DUE for message in backlog(shard)}
    for count in range(1, TRIMMED + 1):
        trim(shard, count)
        copy = tmp_path / f"copy-{count}"
        assert recovered(shard, copy, has_index=has_index) == expected


@pytest.mark.parametrize("has_index", [True, False])
def test_crash_at_any_moment_of_trimming(shard: Shard, tmp_path: Path, has_index: bool) -> None:
    expected = {message.id: DUE for message in backlog(shard)}
    for at in range(12):
        fill(shard)
        rest(shard, 0.003)
        assert recovered(shard, tmp_path / str(at), has_index=has_index) == expected
    assert shard.spool.statistics.segments_trimmed >= 1


@pytest.mark.parametrize("has_index", [True, False])
def test_trimmed_while_a_message_of_that_segment_is_being_delivered(
    shard: Shard, tmp_path: Path, has_index: bool
) -> None:
    """The worker holds it in memory: its outcome names a place that is void by then."""
    messages = backlog(shard, is_held=True)
    trim(shard)
    expected = {message.id: DUE for message in messages}
    assert recovered(shard, tmp_path / "before", has_index=has_index) == expected
    for at, message in enumerate(messages):
        shard.deliver(message)
        del expected[message.id]
        if at % 2:
            fill(shard, 2)
        assert recovered(shard, tmp_path / str(at), has_index=has_index) == expected


@pytest.mark.parametrize("has_index", [True, False])
@pytest.mark.parametrize("status", [DELIVERED, DEFERRED])
def test_outcome_recorded_while_its_message_moves(
    shard: Shard, tmp_path: Path, status: RecipientStatus, has_index: bool
) -> None:
    """At several moments: the outcome is before, in or behind the move, and holds always."""
    messages = backlog(shard, is_held=True)
    expected: dict[bytes, RecipientState | None] = {message.id: DUE for message in messages}
    for at, message in enumerate(messages):
        fill(shard)
        rest(shard, 0.002 * at)
        change = RecipientState(0, status, 4, NOW_NS + 100 + at)
        assert shard.record(message, change) is None
        expected[message.id] = change
        if status is DELIVERED:
            del expected[message.id]
        assert recovered(shard, tmp_path / f"at-{at}", has_index=has_index) == expected
    trim(shard, 2)
    assert recovered(shard, tmp_path / "after", has_index=has_index) == expected


@pytest.mark.parametrize("has_index", [True, False])
def test_dsn_and_expiry_around_a_crash(shard: Shard, tmp_path: Path, has_index: bool) -> None:
    """What has expired is found again once, and its report is there whenever its failure is."""
    messages = backlog(shard)
    trim(shard)
    later_ns = NOW_NS + int(SMALL.lifetime_s * 1e9) + 1
    found = {message.id: message for message in shard.expired(later_ns)}
    assert set(found) == {message.id for message in messages}
    expected: dict[bytes, RecipientState | None] = dict.fromkeys(found, DUE)
    for at, message in enumerate(found.values()):
        dsn = shard.make(b"s@one.example", reverse_path=b"", content=b"content of a report\r\n")
        status = FAILED if at % 2 else RecipientStatus.EXPIRED
        assert shard.record(message, RecipientState(0, status, 4), dsn=dsn) is None
        del expected[message.id]
        expected[dsn.id] = None
        assert recovered(shard, tmp_path / str(at), has_index=has_index) == expected
        fill(shard)
    until_s = time.monotonic() + TIMEOUT_S
    while {message.id for message in shard.expired(later_ns)} != set(expected):
        assert time.monotonic() < until_s, "the index does not learn of the last report"
        rest(shard, 0.02)
