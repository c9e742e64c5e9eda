"""What happens when the disk is full, the index fails, or an answer comes late."""

import errno
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lmdb
import pytest

from fastmta.event import Notice, Severity
from fastmta.message import Message, RecipientState
from fastmta.spool import SpoolError, SpoolFull, SpoolOptions, keeper
from fastmta.spool.indexer import Found, Query
from fastmta.spool.rows import Batch
from tests.support.spool import DEFERRED, DELIVERED, NOW_NS, SMALL, Shard, delete_index

HOP = b"smtp:one.example"
QUERY = Query(HOP, NOW_NS, b"", 10)


@pytest.fixture
def shard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shard]:
    monkeypatch.setattr("fastmta.spool.clerk.COMMIT_GAP_S", 0.0)
    with Shard(tmp_path / "spool") as opened:
        yield opened


class LateAnswer:
    """A question whose answer was read from the index now and is delivered later."""

    def __init__(self, shard: Shard, limit: int = 10) -> None:
        self.shard = shard
        self.query = QUERY._replace(limit=limit)
        shard.commit()
        shard.spool._ledger.asked()
        self.found, self.later = shard.spool._indexer._answer(self.query)
        self.messages: list[Message] | None = None

    def deliver(self) -> list[Message]:
        def take(done) -> None:
            def keep(messages: list[Message], later: int | None) -> None:
                self.messages = messages
                done()

            self.shard.spool._clerk.answered(self.query, self.found, self.later, keep)

        self.shard.wait(take)
        assert self.messages is not None
        return self.messages


def released(shard: Shard) -> Message:
    message = shard.accept_new(b"a@one.example", b"b@two.example")
    shard.spool.release(message)
    return message


def test_message_that_became_final_meanwhile_is_not_handed_out(shard: Shard) -> None:
    id = released(shard).id
    late = LateAnswer(shard)
    assert [found.id for found in late.found] == [id]
    (message,), _ = shard.fetch(HOP)
    shard.deliver(message)
    assert late.deliver() == []


def test_full_answer_that_shrinks_is_asked_for_again(shard: Shard) -> None:
    """Fewer than the limit means to the scheduler that there are no more."""
    released(shard)
    late = LateAnswer(shard, limit=1)
    (message,), _ = shard.fetch(HOP, limit=1)
    second = released(shard)
    shard.deliver(message)
    assert [message.id for message in late.deliver()] == [second.id]


def test_message_that_was_changed_and_released_meanwhile_is_read_again(shard: Shard) -> None:
    released(shard)
    late = LateAnswer(shard)
    (message,), _ = shard.fetch(HOP)
    assert shard.record(message, RecipientState(1, DELIVERED, 1)) is None
    shard.spool.release(message)
    (again,) = late.deliver()
    assert again is not message
    assert again.states == message.states


def test_message_that_is_no_longer_due_is_not_read_again(shard: Shard) -> None:
    released(shard)
    late = LateAnswer(shard)
    (message,), _ = shard.fetch(HOP)
    assert shard.record(message, RecipientState(0, DEFERRED, 1, NOW_NS + 1)) is None
    shard.spool.release(message)
    assert late.deliver() == []


def test_message_that_somebody_holds_is_that_object(shard: Shard) -> None:
    released(shard)
    late = LateAnswer(shard)
    (message,), _ = shard.fetch(HOP)
    assert shard.record(message, RecipientState(1, DELIVERED, 1)) is None
    assert late.deliver() == [message]
    assert 1 in message.states


def test_departures_are_forgotten_with_the_questions(shard: Shard) -> None:
    for _ in range(20):
        released(shard)
    for _ in range(3):
        messages, _ = shard.fetch(HOP)
        for message in messages:
            shard.spool.release(message)
    shard.commit()
    assert not shard.spool._ledger._departed
    assert not shard.spool._ledger._departures


def test_full_disk_refuses_mail_keeps_marks_and_recovers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fastmta.spool.keeper.RETRY_S", 0.01)
    real = keeper.write_zeros
    full = False

    def write_zeros(fd: int, count: int, is_flushing: bool) -> None:
        if full:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(fd, count, is_flushing)

    monkeypatch.setattr("fastmta.spool.keeper.write_zeros", write_zeros)
    with Shard(tmp_path / "spool", SpoolOptions(segment_octets=64 * 1024)) as shard:
        kept = shard.accept_new()
        full = True
        problem = None
        accepted = 0
        while problem is None:
            (problem,) = shard.accept(shard.make(content=b"x" * 20_000))
            accepted += problem is None
        assert isinstance(problem, SpoolFull)
        assert shard.spool.is_healthy
        assert shard.spool.live_count == 1 + accepted
        assert any("could not be made ready" in str(event) for event in shard.events)

        def start(done) -> None:
            for _ in range(40):  # more marks than the segment has room for
                state = RecipientState(0, DEFERRED, 1, NOW_NS, "t" * 400)
                shard.spool.record(kept, [state], lambda message, error: None)
            shard.spool.record(kept, [RecipientState(0, DELIVERED, 1)], done)
            nonlocal full
            full = False

        assert shard.wait(start) == (kept, None)
        assert shard.accept(shard.make()) == [None]
        assert shard.spool.live_count == accepted + 1


def fail_commits(monkeypatch: pytest.MonkeyPatch, shard: Shard, *problems: Exception) -> None:
    """The next commits of the index fail, one for each problem."""
    index = shard.spool._indexer._index
    real, left = index.commit, list(problems)

    def commit(batch: Batch, is_complete: bool = True) -> None:
        if left:
            raise left.pop(0)
        real(batch, is_complete)

    monkeypatch.setattr(index, "commit", commit)


def test_index_without_room_waits_and_forgets_nothing(
    shard: Shard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fastmta.spool.indexer.STUCK_S", 0.01)
    message = released(shard)
    fail_commits(monkeypatch, shard, lmdb.DiskError("full"), lmdb.MapFullError("full"))
    (found,), _ = shard.fetch(HOP)
    assert found.id == message.id
    said = [str(event) for event in shard.events]
    assert sum("cannot be written" in text for text in said) == 1
    assert any("has room again" in text for text in said)
    assert shard.accept(shard.make()) == [None]


def test_index_that_fails_is_rebuilt_while_mail_is_accepted(
    shard: Shard, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, held = released(shard), shard.accept_new(b"h@one.example")
    final = shard.accept_new()
    shard.commit()
    waiting = released(shard)
    shard.deliver(final)
    assert shard.record(held, RecipientState(0, DEFERRED, 1, NOW_NS - 1)) is None
    fail_commits(monkeypatch, shard, lmdb.CorruptedError("rotten"))
    fetched, _ = shard.fetch(HOP)
    assert {message.id for message in fetched} == {old.id, waiting.id}  # `held` is in memory
    assert shard.spool.is_healthy
    assert shard.spool.is_indexed
    assert shard.spool.live_count == 3
    assert shard.accept(shard.make()) == [None]
    assert (shard.root / "shard-00" / "index.bad-1").is_dir()
    shard.commit()
    expected = {id: found.states for id, found in shard.index().items()}
    shard.close()
    delete_index(shard.root)
    with Shard(shard.root, SMALL) as again:
        assert {old.id, waiting.id, held.id} <= set(again.recovered)
        for id, states in expected.items():
            assert again.recovered[id].states == states


def test_index_that_cannot_be_rebuilt_latches(
    shard: Shard, monkeypatch: pytest.MonkeyPatch
) -> None:
    released(shard)
    monkeypatch.setattr("fastmta.spool.clerk.REBUILD_AGAIN_S", 0.001)

    def fail(*_: object, is_complete: bool = True) -> None:
        raise lmdb.CorruptedError("injected")

    monkeypatch.setattr("fastmta.spool.index.Index.commit", fail)
    assert shard.fetch(HOP) == ([], None)
    assert not shard.spool.is_healthy
    (problem,) = shard.accept(shard.make())
    assert isinstance(problem, SpoolError)
    assert any(isinstance(e, Notice) and e.severity is Severity.ERROR for e in shard.events)


def test_callback_that_raises_harms_nobody_else(shard: Shard) -> None:
    broken: list[object] = []
    shard.loop.set_exception_handler(lambda loop, context: broken.append(context["exception"]))

    def start(done) -> None:
        shard.spool.accept(shard.make(), lambda message, error: 1 / 0)
        shard.spool.accept(shard.make(), done)

    _, problem = shard.wait(start)
    assert problem is None
    assert isinstance(broken[0], ZeroDivisionError)
    assert shard.spool.live_count == 2


def test_damaged_answer_is_dropped_once(shard: Shard) -> None:
    message = released(shard)
    late = LateAnswer(shard)
    (found,) = late.found
    late.found = [Found(found.id, found.position, found.octets, found.keys, None, is_damaged=True)]
    assert late.deliver() == []
    shard.commit()
    assert shard.spool.live_count == 0
    assert message.id not in shard.index()


class PoorLog:
    """The log's writing end, without memory for records larger than `octets_max`."""

    def __init__(self, log: Any, octets_max: int) -> None:
        self._log = log
        self._octets_max = octets_max

    def __getattr__(self, name: str) -> Any:
        return getattr(self._log, name)

    def append_message(self, id: bytes, at_ns: int, envelope: bytes, content: bytes) -> int:
        if len(content) > self._octets_max:
            raise MemoryError
        return int(self._log.append_message(id, at_ns, envelope, content))


def test_no_memory_for_a_waiting_message_refuses_that_one_only(shard: Shard) -> None:
    writer = shard.spool._writer
    log: Any = PoorLog(writer._log, 200_000)
    writer._log = log
    small = [shard.make(content=bytes(150_000)) for _ in range(30)]
    large = shard.make(content=bytes(250_000))
    problems = shard.accept(*small[:29], large, small[29])  # most of them wait for a later group
    assert problems[:29] == [None] * 29
    assert isinstance(problems[29], SpoolError)
    assert problems[30] is None
    assert shard.accept(shard.make()) == [None]
