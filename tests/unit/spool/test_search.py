"""Look-ups by id and filter, and counts: of mail in memory, on its way to the index, and in it."""

from __future__ import annotations

from pathlib import Path

import pytest

from fastmta.message import Message, RecipientState, RecipientStatus
from fastmta.spool import search
from fastmta.spool.filter import parse_filter
from tests.support.spool import DEFERRED, DELIVERED, HELD, NOW_NS, Shard

ONE, TWO = b"smtp:one.example", b"smtp:two.example"
LATER_NS = NOW_NS + 10**12


@pytest.fixture
def shard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("fastmta.spool.clerk.COMMIT_GAP_S", 0.0)
    monkeypatch.setattr(search, "ROWS_AT_ONCE", 3)
    with Shard(tmp_path / "spool") as opened:
        yield opened


def find(shard: Shard, text: str, limit: int = 100, ids_only: bool = True) -> list[bytes]:
    """All ids that a filter means, page by page."""
    found: list[bytes] = []
    after: bytes | None = b""
    while after is not None:
        (page,) = shard.wait(
            lambda done, at=after: shard.spool.search.page(
                parse_filter(text), NOW_NS, at, limit, ids_only, done
            )
        )
        assert isinstance(page, search.Page)
        assert page.error is None
        assert len(page.ids) <= limit
        if not ids_only:
            assert [message.id for message in page.messages] == page.ids
        found += page.ids
        assert page.next is None or page.next > after
        after = page.next
    assert found == sorted(set(found))
    return found


def take(shard: Shard, *ids: bytes, with_content: bool = False) -> list[Message]:
    (messages,) = shard.wait(lambda done: shard.spool.take(ids, with_content, done))
    assert isinstance(messages, list)
    return messages


def counts(shard: Shard, next_hop: bytes | None = None) -> dict[bytes, tuple[int, int]]:
    (found,) = shard.wait(lambda done: shard.spool.search.count(done, next_hop))
    assert isinstance(found, list)
    return {one.next_hop: (one.messages, one.recipients) for one in found}


def first_due(shard: Shard, next_hop: bytes) -> object:
    (due_at_ns,) = shard.wait(lambda done: shard.spool.search.first_due(next_hop, done))
    return due_at_ns


def defer(shard: Shard, message: Message, *indices: int, due_at_ns: int = LATER_NS) -> None:
    states = [RecipientState(index, DEFERRED, 1, due_at_ns, "later") for index in indices]
    assert shard.record(message, *states) is None


@pytest.mark.parametrize("ids_only", [True, False])
def test_mail_is_found_wherever_it_is(shard: Shard, ids_only: bool) -> None:
    indexed = [shard.accept_new() for _ in range(7)]
    for message in indexed:
        shard.spool.release(message)
    shard.commit()
    released = [shard.accept_new() for _ in range(4)]
    for message in released:
        shard.spool.release(message)
    fresh = [shard.accept_new() for _ in range(4)]
    ids = [message.id for message in (*indexed, *released, *fresh)]
    for limit in (1, 2, 100):
        assert find(shard, "", limit, ids_only) == ids
        assert find(shard, "from:@origin.example", limit, ids_only) == ids
        assert find(shard, "from:@elsewhere.example", limit, ids_only) == []
    assert find(shard, f"id:{ids[5].decode()}") == [ids[5]]


def test_states_are_those_of_this_moment(shard: Shard) -> None:
    """Of mail in memory, mail just released and mail in the index."""
    messages = [shard.accept_new(b"a@one.example", b"b@two.example") for _ in range(3)]
    for message in messages:
        shard.spool.release(message)
    shard.commit()
    first, second, third = take(shard, *(message.id for message in messages))
    defer(shard, first, 0)
    defer(shard, second, 1)
    shard.spool.release(second)
    assert shard.record(third, RecipientState(0, HELD), RecipientState(1, DELIVERED)) is None
    for ids_only in (True, False):
        assert find(shard, "status:deferred", ids_only=ids_only) == [first.id, second.id]
        assert find(shard, "status:deferred dest:two.example", ids_only=ids_only) == [second.id]
        assert find(shard, "status:held", ids_only=ids_only) == [third.id]
        assert find(shard, "to:@two.example", ids_only=ids_only) == [first.id, second.id]
    shard.spool.release(third)
    shard.commit()
    assert find(shard, "status:held") == [third.id]
    shard.deliver(first)
    assert find(shard, "") == [second.id, third.id]


def test_taken_mail_is_held_and_can_be_recorded(shard: Shard) -> None:
    content = b"Subject: x\r\n\r\nlong\r\n"
    messages = [shard.accept_new(content=content) for _ in range(3)]
    for message in messages[:2]:
        shard.spool.release(message)
    shard.commit()
    first, second, third = (message.id for message in messages)
    bare = take(shard, first, b"0" * 16, third)
    assert [message.id for message in bare] == [first, third]
    assert bare[0].content is None
    assert bare[1] is messages[2]
    (whole,) = take(shard, second, with_content=True)
    assert whole.content == content
    (again,) = take(shard, first, with_content=True)
    assert again is bare[0]
    assert again.content == content
    shard.deliver(bare[0])
    assert take(shard, first) == []  # though its rows are still there
    assert shard.spool.live_count == 2


def test_what_is_released_while_it_is_looked_up_is_found(shard: Shard) -> None:
    message = shard.accept_new()
    got: list[list[Message]] = []
    pages: list[search.Page] = []
    shard.spool.take([message.id], False, got.append)
    shard.spool.search.page(parse_filter(""), NOW_NS, b"", 9, True, pages.append)
    shard.loop.call_soon(shard.loop.stop)
    shard.loop.run_forever()  # the index thread has the questions
    shard.spool.release(message)
    shard.commit()
    assert [[one.id for one in messages] for messages in got] == [[message.id]]
    assert [page.ids for page in pages] == [[message.id]]


def test_counts_by_next_hop(shard: Shard) -> None:
    assert counts(shard) == {}
    first = shard.accept_new(b"a@one.example", b"b@one.example", b"c@two.example")
    second = shard.accept_new(b"a@two.example")
    assert counts(shard) == {ONE: (1, 2), TWO: (2, 2)}
    defer(shard, first, 0, 1, 2)
    shard.spool.release(first)
    assert counts(shard) == {ONE: (1, 2), TWO: (2, 2)}
    assert counts(shard, TWO) == {TWO: (2, 2)}
    assert counts(shard, b"smtp:three.example") == {}
    shard.spool.release(second)
    shard.commit()
    (held,) = take(shard, second.id)
    assert shard.record(held, RecipientState(0, HELD)) is None
    shard.spool.release(held)
    assert counts(shard) == {ONE: (1, 2), TWO: (1, 1)}
    (back,) = take(shard, second.id)
    assert shard.record(back, RecipientState(0, RecipientStatus.QUEUED)) is None
    shard.spool.release(back)
    (gone,) = take(shard, first.id)
    shard.deliver(gone)
    assert counts(shard) == {TWO: (1, 1)}
    shard.close()
    with Shard(shard.root, shard.options) as again:
        assert counts(again) == {TWO: (1, 1)}


def test_first_due(shard: Shard) -> None:
    assert first_due(shard, ONE) is None
    message = shard.accept_new(b"a@one.example")
    assert first_due(shard, ONE) == NOW_NS
    defer(shard, message, 0, due_at_ns=NOW_NS + 7)
    assert first_due(shard, ONE) == NOW_NS + 7
    shard.spool.release(message)
    other = shard.accept_new(b"a@one.example")
    defer(shard, other, 0, due_at_ns=NOW_NS + 5)
    assert first_due(shard, ONE) == NOW_NS + 5
    assert first_due(shard, TWO) is None


def test_a_view_has_everything(shard: Shard) -> None:
    message = shard.accept_new(b"a@one.example", b"b@two.example")
    defer(shard, message, 1)
    view = shard.spool.search.view(message)
    assert (view.id, view.recipient_count, view.pending) == (message.id, 2, 2)
    assert [one.next_hop for one in view.recipients] == [ONE, TWO]
    assert [one.state.status for one in view.recipients] == [RecipientStatus.QUEUED, DEFERRED]
    assert view.expires_at_ns - view.arrived_at_ns == 5 * 86_400 * 10**9


def sample(shard: Shard, next_hop: bytes, limit: int) -> tuple[list[bytes], bool]:
    ids, is_whole = shard.wait(lambda done: shard.spool.search.sample(next_hop, limit, done))
    return ids, is_whole


def test_a_sample_of_a_next_hop_is_what_is_due_first(shard: Shard) -> None:
    assert sample(shard, ONE, 10) == ([], True)
    late, early = shard.accept_new(b"a@one.example"), shard.accept_new(b"b@one.example")
    assert sorted(sample(shard, ONE, 10)[0]) == [late.id, early.id]  # in memory only
    defer(shard, late, 0, due_at_ns=NOW_NS + 9)
    defer(shard, early, 0, due_at_ns=NOW_NS + 5)
    for message in (late, early):
        shard.spool.release(message)
    shard.commit()
    other = shard.accept_new(b"a@two.example")
    assert sample(shard, ONE, 3) == ([early.id, late.id], True)
    assert sample(shard, ONE, 1) == ([early.id], False)
    assert sample(shard, TWO, 10) == ([other.id], True)
