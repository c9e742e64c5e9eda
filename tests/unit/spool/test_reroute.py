"""Next hops change while a shard is open: its index is made anew, and is as exact as before."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from fastmta.message import Envelope, RecipientState
from fastmta.spool.layout import Layout
from fastmta.spool.reindex import check_index
from fastmta.spool.rows import RowMaker
from fastmta.spool.verdict import Report
from tests.support.spool import DEFERRED, NOW_NS, SMALL, Shard, next_hop

MOVED = msgspec.structs.replace(SMALL, routing_token=b"moved", lifetime_s=1_000.0)


def moved(forward_path: bytes, envelope: Envelope) -> bytes:
    return b"smtp:moved." + next_hop(forward_path, envelope)[5:]


def reroute(shard: Shard, hop: Any = moved) -> None:
    shard.spool.reroute(MOVED, hop)


def sound(root: Path) -> None:
    report = Report(shard=0)
    check_index(Layout(str(root), 0), MOVED, RowMaker.of(moved, MOVED), report)
    assert (report.damage, report.remarks) == ([], [])


def test_mail_is_found_where_it_goes_now(tmp_path: Path) -> None:
    with Shard(tmp_path) as shard:
        kept = [shard.accept_new(b"a@one.example", b"b@two.example") for _ in range(30)]
        for message in kept[:20]:
            shard.spool.release(message)
        shard.commit()
        reroute(shard)
        late = shard.accept_new(b"a@one.example")
        found, _ = shard.fetch(b"smtp:moved.one.example")
        assert {one.id for one in found} == {one.id for one in kept[:20]}
        for message in (*kept[20:], *found, late):
            shard.spool.release(message)
        found, _ = shard.fetch(b"smtp:moved.two.example")
        assert {one.id for one in found} == {one.id for one in kept}
        assert shard.fetch(b"smtp:one.example") == ([], None)
        assert shard.spool.live_count == 31
        assert len(shard.expired(NOW_NS + 2_000 * 10**9)) == 31  # by their new lifetime
        shard.check_counts()
    sound(tmp_path)


@pytest.mark.parametrize("turns", range(0, 12, 2))
def test_questions_and_commits_that_are_under_way(tmp_path: Path, turns: int) -> None:
    """What the old index had answered before is not taken for what the new one has."""
    with Shard(tmp_path) as shard:
        for _ in range(40):
            shard.spool.release(shard.accept_new(b"a@one.example"))
        got: list[Any] = []
        shard.spool.fetch(b"smtp:one.example", NOW_NS, b"", 15, lambda *found: got.append(found))
        for _ in range(turns):
            shard.turn()
        fresh = [shard.accept_new(b"b@one.example") for _ in range(5)]
        reroute(shard)
        reroute(shard)  # also while the first is at work
        for message in fresh:
            shard.spool.release(message)
        while not got:
            shard.turn()
        ((messages, _),) = got
        later = RecipientState(0, DEFERRED, 1, NOW_NS + 7, "later")
        for message in messages:
            assert shard.record(message, later) is None
            shard.spool.release(message)
        reroute(shard)
        due, _ = shard.fetch(b"smtp:moved.one.example", NOW_NS + 7)
        assert len(due) == 45
        for message in due:
            shard.spool.release(message)
        shard.commit()
        shard.check_counts()
        index = shard.index()
        assert all(
            row.next_hop == b"smtp:moved.one.example"
            for found in index.values()
            for row in found.recipients.values()
        )
    sound(tmp_path)


def test_the_next_start_takes_the_index_for_what_it_is(tmp_path: Path) -> None:
    with Shard(tmp_path) as shard:
        shard.spool.release(shard.accept_new(b"a@one.example"))
        reroute(shard)
        shard.fetch(b"smtp:nowhere.example")
    with Shard(tmp_path, MOVED) as shard:
        assert not any("rebuilt" in str(event) for event in shard.events)
    with Shard(tmp_path, SMALL) as shard:
        assert any("other routing" in str(event) for event in shard.events)
