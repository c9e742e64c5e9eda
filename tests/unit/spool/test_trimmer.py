"""The trimmer and the cold log: room is given back while old mail waits, nothing is forgotten."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from fastmta.message import Message, RecipientState
from fastmta.spool import SpoolOptions
from tests.support.spool import DEFERRED, DELIVERED, NOW_NS, Shard, copy_crashed, delete_index

HOP = b"smtp:one.example"
OPTIONS = SpoolOptions(segment_octets=64 * 1024)
LATER_NS = NOW_NS + 10**9
ONE_DONE = RecipientState(0, DELIVERED, 1)


@pytest.fixture
def shard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shard]:
    monkeypatch.setattr("fastmta.spool.clerk.COMMIT_GAP_S", 0.0)
    monkeypatch.setattr("fastmta.spool.ledger.AGE_S", 0.0)
    monkeypatch.setattr("fastmta.spool.trimmer.PAUSE_S", 0.0)
    with Shard(tmp_path / "spool", OPTIONS) as opened:
        yield opened


def settle(shard: Shard) -> None:
    """Let index and trimmer go as far as they get."""
    before = (-1, -1)
    while before != (now := (shard.spool.statistics.segments_freed, len(shard.spool._logs.cold))):
        before = now
        for _ in range(4):
            shard.commit()
            shard.trim()


def defer(shard: Shard, message: Message) -> None:
    """Recipient 0 has to wait; nobody holds the message afterwards."""
    assert shard.record(message, RecipientState(0, DEFERRED, 1, LATER_NS, "later")) is None
    shard.spool.release(message)


def pass_through(shard: Shard, count: int) -> None:
    """Mail that comes and goes."""
    for _ in range(count):
        shard.deliver(shard.accept_new(content=b"x" * 9_000))


def old_mail(shard: Shard, count: int) -> dict[bytes, bytes]:
    """Deferred messages spread over several segments; their contents by id."""
    contents = {}
    for number in range(count):
        message = shard.accept_new(content=b"%d" % number * 500)
        contents[message.id] = message.content or b""
        defer(shard, message)
        pass_through(shard, 3)
    return contents


def check_all(shard: Shard, contents: dict[bytes, bytes]) -> None:
    """Exactly these messages wait, unharmed."""
    messages, _ = shard.fetch(HOP, LATER_NS)
    assert {message.id: message.content for message in messages} == contents
    for message in messages:
        assert message.states[0].text == "later"
        shard.spool.release(message)


def lose_index(shard: Shard, target: Path) -> Shard:
    """The shard after a crash at this moment that took the index along."""
    copy_crashed(shard, target)
    delete_index(target)
    return Shard(target, OPTIONS)


def test_disk_stays_within_its_bound_while_old_mail_waits(shard: Shard) -> None:
    chance = random.Random(7)
    contents = {}
    most = 0.0
    for number in range(400):
        message = shard.accept_new(content=b"%d" % number * chance.randrange(1, 3_000))
        if chance.random() < 0.1:
            contents[message.id] = message.content or b""
            defer(shard, message)
        else:
            shard.deliver(message)
        if number % 10 == 0:
            settle(shard)
            logs = shard.spool._logs
            bound = logs.live_octets() / 0.25 + 8 * OPTIONS.segment_octets
            assert logs.octets() <= bound
            most = max(most, logs.octets() / bound)
    assert shard.spool.statistics.segments_trimmed > 2
    assert most > 0.2, "this run proves nothing"
    check_all(shard, contents)
    shard.check_counts()


def test_room_is_given_back_when_the_queue_drains(shard: Shard, tmp_path: Path) -> None:
    contents = old_mail(shard, 60)
    settle(shard)
    assert len(shard.spool._logs.cold) > 0
    messages, _ = shard.fetch(HOP, LATER_NS)
    assert {message.id for message in messages} == set(contents)
    for message in messages:
        shard.deliver(message)
    settle(shard)
    assert len(shard.spool._logs.cold) == 0
    assert len(shard.spool._logs.hot) <= 2
    with lose_index(shard, tmp_path / "lost") as again:
        assert again.recovered == {}


def test_index_lost_right_after_trimming(shard: Shard, tmp_path: Path) -> None:
    contents = old_mail(shard, 60)
    settle(shard)
    assert shard.spool.statistics.segments_trimmed > 0
    with lose_index(shard, tmp_path / "lost") as again:
        check_all(again, contents)
        again.check_counts()


def test_outcome_that_comes_while_the_message_moves(shard: Shard, tmp_path: Path) -> None:
    """The index looks at the message, then its outcome is recorded, then its copy is put to use."""
    contents = old_mail(shard, 60)
    moving, _ = shard.fetch(HOP, LATER_NS)
    trimmer = shard.spool._trimmer
    done = 0
    for _ in range(200):
        shard.commit()
        if trimmer.is_active and done < 30:
            message = moving[done]
            assert shard.record(message, ONE_DONE) is None
            del contents[message.id]
            done += 1
        shard.turn()
    assert done > 5, "this run proves nothing"
    for message in moving[done:]:
        shard.spool.release(message)
    with lose_index(shard, tmp_path / "early") as again:
        check_all(again, contents)
    pass_through(shard, 40)  # the segments with those outcomes are trimmed as well
    settle(shard)
    check_all(shard, contents)
    with lose_index(shard, tmp_path / "late") as again:
        check_all(again, contents)


def test_message_that_is_being_delivered_while_its_segment_is_trimmed(
    shard: Shard, tmp_path: Path
) -> None:
    contents = old_mail(shard, 60)
    held, _ = shard.fetch(HOP, LATER_NS)
    before = {message.id: message.position for message in held}
    settle(shard)
    moved = [message for message in held if message.position != before[message.id]]
    assert moved
    for message in moved:
        shard.deliver(message)
        del contents[message.id]
    for message in held:
        shard.spool.release(message)
    shard.commit()
    check_all(shard, contents)
    with lose_index(shard, tmp_path / "lost") as again:
        check_all(again, contents)


def test_segment_of_which_a_flush_failed_is_evacuated(shard: Shard, tmp_path: Path) -> None:
    contents = old_mail(shard, 30)
    segments = list(shard.spool._logs.hot)
    suspect = segments[len(segments) // 2]
    assert suspect.live
    suspect.is_suspect = True
    settle(shard)
    assert not suspect.live
    check_all(shard, contents)
    with lose_index(shard, tmp_path / "lost") as again:
        check_all(again, contents)


def test_damage_in_a_segment_that_is_trimmed_costs_one_message(shard: Shard) -> None:
    contents = old_mail(shard, 60)
    messages, _ = shard.fetch(HOP, LATER_NS)
    victim = messages[0]
    segment = shard.spool._logs.find(victim.position)
    assert segment is not None
    for message in messages:
        shard.spool.release(message)
    with Path(segment.path).open("r+b") as file:
        file.seek(victim.position - segment.base + 100)
        file.write(b"\xff" * 8)
    settle(shard)
    del contents[victim.id]
    check_all(shard, contents)
    assert any("damaged" in str(event) for event in shard.events)
    assert list((shard.root / "shard-00" / "quarantine").iterdir())
