"""That a sender was told of a delay: stored with the report, kept on every way, and looked for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import pytest

from fastmta.message import ClientIdentity, Envelope, Message, RecipientState, RecipientStatus
from fastmta.spool.codec import decode_states, encode
from fastmta.spool.layout import Layout
from fastmta.spool.reindex import check_index
from fastmta.spool.verdict import Report
from tests.support.spool import DEFERRED, NOW_NS, Shard, copy_crashed, delete_index
from tests.unit.spool.test_envelope_fields import (
    MAKER,
    OPTIONS,
    crash,
    lose_index,
    quick,
    rebuild,
    save,
    stay,
    trim,
    trim_and_lose_index,
)
from tests.unit.spool.test_fixtures import unpack

__all__ = ["quick"]  # a fixture

QUEUED = RecipientStatus.QUEUED
HOP = b"smtp:one.example"
TRIED = RecipientState(1, DEFERRED, 3, NOW_NS, "later", True)
NEVER_TRIED = RecipientState(0, QUEUED, 0, 0, "", True)
UNTOLD = RecipientState(0, DEFERRED, 1, NOW_NS, "later")
PATHS = (b"a@one.example", b"b@one.example")


def put(shard: Shard, *states: RecipientState, is_large: bool = False) -> bytes:
    """A message with these states, held by nobody; its id."""
    message = shard.accept_big(b"x" * 9_000, forward_paths=PATHS) if is_large else None
    message = message or shard.accept_new(*PATHS)
    if states:
        assert shard.record(message, *states) is None
    shard.spool.release(message)
    return message.id


def unwarned(
    shard: Shard, after: bytes = b"", by_ns: int = NOW_NS
) -> tuple[Sequence[bytes], bytes, bytes | None]:
    """One page of those whose senders were not told."""
    got = shard.wait(lambda done: shard.spool.unwarned(after, by_ns, done))
    ids, last, young = got
    assert isinstance(ids, list)
    assert isinstance(last, bytes)
    assert young is None or isinstance(young, bytes)
    return ids, last, young


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("way", [stay, crash, lose_index, rebuild, save, trim, trim_and_lose_index])
def test_it_is_known_on_every_way(tmp_path: Path, way: Callable[[Shard, Path], Path]) -> None:
    with Shard(tmp_path / "spool", OPTIONS) as shard:
        told = [put(shard, TRIED), put(shard, NEVER_TRIED), put(shard, TRIED, is_large=True)]
        untold = [put(shard, UNTOLD), put(shard)]
        assert unwarned(shard) == (untold, b"", None)
        root = way(shard, tmp_path / "copy")
    with Shard(root, OPTIONS) as opened:
        assert unwarned(opened) == (untold, b"", None)
        found = {message.id: message for message in opened.fetch(HOP, NOW_NS)[0]}
        assert sorted(found) == sorted([*told, *untold]), "whoever was told is tried as before"
        assert [found[id].states for id in told] == [{1: TRIED}, {0: NEVER_TRIED}, {1: TRIED}]
        assert found[untold[0]].states == {0: UNTOLD}
        for message in found.values():
            opened.spool.release(message)


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("has_index", [True, False])
def test_killed_at_any_moment_both_are_there_or_neither(tmp_path: Path, has_index: bool) -> None:
    """The report, and that it was made."""
    copies: list[Path] = []
    with Shard(tmp_path / "spool", OPTIONS) as shard:
        message = shard.accept_new(*PATHS)
        report = shard.make(b"sender@origin.example", reverse_path=b"", content=b"a report\r\n")
        done: list[object] = []
        shard.spool.record(message, (NEVER_TRIED,), lambda *values: done.append(values), report)
        while len(copies) < 40 and (not done or len(copies) < 4):
            copies.append(copy_crashed(shard, tmp_path / f"at-{len(copies)}"))
            shard.turn()
        copies.append(copy_crashed(shard, tmp_path / "after"))
        assert done
    seen = set()
    for root in (copies[0], *copies[1:-1:3], copies[-1]):
        if not has_index:
            delete_index(root)
        with Shard(root, OPTIONS) as opened:
            found = {one.id: one for one in opened.recovered.values()}
            is_told = any(state.is_warned for state in found[message.id].states.values())
            assert is_told == (report.id in found)
            seen.add(is_told)
            ids, _, _ = unwarned(opened)
            assert (message.id in ids) is not is_told
    assert seen == {False, True}


def test_pages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastmta.spool.late.ROWS_AT_ONCE", 3)
    with Shard(tmp_path / "spool", OPTIONS) as shard:
        ids = [put(shard, TRIED) if number % 3 == 0 else put(shard) for number in range(8)]
        young = shard.make(arrived_at_ns=NOW_NS + 1)
        assert shard.accept(young) == [None]
        shard.spool.release(young)
        later = [put(shard) for _ in range(4)]
        assert unwarned(shard) == ([ids[1], ids[2]], ids[2], None)
        assert unwarned(shard, ids[2]) == ([ids[4], ids[5]], ids[5], None)
        assert unwarned(shard, ids[5]) == ([ids[7]], young.id, young.id)
        assert unwarned(shard, young.id) == (later[:3], later[2], None)
        assert unwarned(shard, later[2]) == (later[3:], b"", None)
        assert unwarned(shard, later[3]) == ([], b"", None)
        assert unwarned(shard, b"", NOW_NS - 1) == ([], b"", ids[0]), "all of the page is young"


def test_in_memory_or_not_it_is_found(tmp_path: Path) -> None:
    with Shard(tmp_path / "spool", OPTIONS) as shard:
        first, held = put(shard, TRIED), shard.accept_new(*PATHS)
        assert unwarned(shard) == ([], b"", held.id), "not in the index yet: to be looked at later"
        assert first < held.id
        shard.wait(lambda done: shard.loop.call_later(1.2, done))  # it is not fresh any more
        assert unwarned(shard)[0] == [held.id]
        assert shard.record(held, TRIED) is None
        assert unwarned(shard)[0] == []


# What is stored, by position.


class EarlierState(msgspec.Struct, array_like=True):
    """As the release before knew it."""

    index: int
    status: RecipientStatus
    attempts: int = 0
    due_at_ns: int = 0
    text: str = ""


def test_a_state_without_the_field_is_read() -> None:
    earlier = EarlierState(1, DEFERRED, 3, NOW_NS, "later")
    assert decode_states(encode([earlier])) == [RecipientState(1, DEFERRED, 3, NOW_NS, "later")]


def test_the_release_before_reads_a_state_with_it() -> None:
    """So after a downgrade it is not known, which nobody there asks."""
    (seen,) = msgspec.msgpack.decode(encode([TRIED]), type=list[EarlierState])
    assert (seen.index, seen.attempts, seen.text) == (1, 3, "later")


def test_index_of_the_release_before_is_no_damage(tmp_path: Path) -> None:
    """Its rows are one field shorter than those that would be made of the same records now."""
    root = unpack("spool-format-2", tmp_path)
    with Shard(root, OPTIONS) as shard:
        assert any(found.states for found in shard.recovered.values())
        assert len(unwarned(shard)[0]) == 5
    report = Report(shard=0)
    check_index(Layout(str(root), 0), OPTIONS, MAKER, report)
    assert report.damage == []
    assert report.remarks == []


def test_a_plain_state_pays_one_octet() -> None:
    earlier = EarlierState(0, RecipientStatus.DELIVERED, 1)
    state = RecipientState(0, RecipientStatus.DELIVERED, 1)
    assert len(encode([state])) == len(encode([earlier])) + 1


def test_a_message_that_was_told_of_is_a_message_like_others() -> None:
    message = Message(b"0" * 16, Envelope(b"a@b", PATHS, ClientIdentity()), b"x", NOW_NS)
    message.states[0] = NEVER_TRIED
    assert not message.is_final(0)
    assert message.attempts_of(0) == 0
