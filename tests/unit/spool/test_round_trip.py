"""One shard on a real log: accept, record, release, fetch, and again after reopening."""

from pathlib import Path

import lmdb
import pytest

from fastmta.message import Envelope, RecipientState
from fastmta.spool import Spool, SpoolError, SpoolFormat, SpoolFull, SpoolOptions
from tests.support.spool import DEFERRED, DELIVERED, FAILED, HELD, NOW_NS, SMALL, Shard, next_hop

LATER_NS = NOW_NS + 10**12


@pytest.fixture
def shard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("fastmta.spool.clerk.COMMIT_GAP_S", 0.0)
    with Shard(tmp_path / "spool") as opened:
        yield opened


def reopen(shard: Shard) -> Shard:
    shard.close()
    return Shard(shard.root, shard.options)


def test_accepted_message_has_position_and_is_live(shard: Shard) -> None:
    message = shard.make()
    assert message.position == -1
    assert shard.accept(message) == [None]
    assert message.position == 4096 + 56
    assert shard.spool.live_count == 1


def test_messages_accepted_together_share_one_flush(shard: Shard) -> None:
    messages = [shard.make() for _ in range(50)]
    assert shard.accept(*messages) == [None] * 50
    assert shard.spool.statistics.groups == 1
    assert [message.position for message in messages] == sorted(m.position for m in messages)


def test_ids_sort_and_never_repeat_over_reopening(shard: Shard) -> None:
    ids = [shard.spool.new_id() for _ in range(100)]
    shard.accept_new()
    with reopen(shard) as again:
        ids += [again.spool.new_id() for _ in range(100)]
    assert ids == sorted(set(ids))
    assert all(len(id) == 16 and id.isalnum() for id in ids)


def test_final_message_never_touches_the_index(shard: Shard) -> None:
    message = shard.accept_new(b"a@one.example", b"b@two.example")
    shard.deliver(message)
    shard.commit()
    assert shard.index() == {}
    assert shard.spool.statistics.elided == 1
    assert shard.spool.live_count == 0


def test_partly_delivered_message_is_fetched_with_its_states(shard: Shard) -> None:
    content = bytes(range(256)) * 40
    message = shard.accept_new(b"a@one.example", b"b@two.example", content=content)
    deferred = RecipientState(1, DEFERRED, 1, LATER_NS, "try later")
    assert shard.record(message, RecipientState(0, DELIVERED, 1), deferred) is None
    assert message.pending == 1
    shard.spool.release(message)
    assert shard.fetch(b"smtp:one.example") == ([], None)
    assert shard.fetch(b"smtp:two.example") == ([], LATER_NS)
    (fetched,), later = shard.fetch(b"smtp:two.example", LATER_NS)
    assert later is None
    assert fetched is not message
    assert (fetched.id, fetched.content, fetched.envelope) == (
        message.id,
        content,
        message.envelope,
    )
    assert fetched.states == message.states
    assert (fetched.pending, fetched.position) == (1, message.position)


def test_message_deferred_again_and_again_leaves_no_row_behind(shard: Shard) -> None:
    message = shard.accept_new(b"a@one.example", b"b@two.example")
    for due in range(1, 6):
        changes = [RecipientState(index, DEFERRED, due, NOW_NS + due) for index in (0, 1)]
        assert shard.record(message, *changes) is None
        shard.spool.release(message)
        (message,), _ = shard.fetch(b"smtp:two.example", NOW_NS + due)
        assert sorted(shard.dump()["hop"]) == sorted(
            hop + b"\0" + (NOW_NS + due).to_bytes(8, "big") + message.id
            for hop in (b"smtp:one.example", b"smtp:two.example")
        )
    shard.deliver(message)
    shard.commit()
    assert not any(shard.dump().values())


def test_one_message_object_per_id(shard: Shard) -> None:
    message = shard.accept_new(b"a@one.example", b"b@two.example")
    shard.spool.release(message)
    (one,), _ = shard.fetch(b"smtp:one.example")
    (two,), _ = shard.fetch(b"smtp:two.example")
    assert one is two


def test_content_dropped_in_memory_is_loaded_again(shard: Shard) -> None:
    message = shard.accept_new(b"a@one.example", b"b@two.example", content=b"kept\r\n")
    shard.spool.release(message)
    (one,), _ = shard.fetch(b"smtp:one.example")
    one.content = None
    (two,), _ = shard.fetch(b"smtp:two.example")
    assert two is one
    assert one.content == b"kept\r\n"


def test_fetch_goes_on_behind_the_order_key_in_order_of_due_time(shard: Shard) -> None:
    ids = []
    for due in (5, 3, 4, 1, 2):
        message = shard.accept_new()
        assert shard.record(message, RecipientState(0, DEFERRED, 1, NOW_NS + due)) is None
        ids.append((due, message.id))
        shard.spool.release(message)
    after = b""
    seen = []
    while True:
        messages, later = shard.fetch(b"smtp:one.example", NOW_NS + 4, after, 2)
        assert later == NOW_NS + 5
        if not messages:
            break
        seen += [message.id for message in messages]
        after = shard.spool.order_key(messages[-1], b"smtp:one.example")
    assert seen == [id for due, id in sorted(ids) if due <= 4]


def test_dsn_and_state_are_one_group(shard: Shard) -> None:
    message = shard.accept_new()
    dsn = shard.make(b"sender@origin.example", reverse_path=b"")
    groups = shard.spool.statistics.groups
    assert shard.record(message, RecipientState(0, FAILED, 1), dsn=dsn) is None
    assert shard.spool.statistics.groups == groups + 1
    assert dsn.position > message.position
    assert shard.spool.live_count == 1
    with reopen(shard) as again:
        assert list(again.recovered) == [dsn.id]


def test_clean_end_keeps_what_nobody_released(shard: Shard) -> None:
    message = shard.accept_new()
    content = message.content
    with reopen(shard) as again:
        assert list(again.recovered) == [message.id]
        assert again.spool.hops() == [(b"smtp:one.example", NOW_NS)]
        (fetched,), _ = again.fetch(b"smtp:one.example")
        assert fetched.content == content
        again.deliver(fetched)
        assert again.spool.live_count == 0
        with reopen(again) as third:
            assert third.recovered == {}


def test_held_mail_neither_waits_nor_expires(shard: Shard) -> None:
    message = shard.accept_new()
    assert shard.record(message, RecipientState(0, HELD)) is None
    shard.spool.release(message)
    assert shard.fetch(b"smtp:one.example") == ([], None)
    assert shard.expired(2**62) == []
    assert list(shard.index()) == [message.id]


def test_expired_mail_oldest_first_and_bounces_by_their_own_lifetime(tmp_path: Path) -> None:
    options = SpoolOptions(segment_octets=2**18, lifetime_s=100.0, bounce_lifetime_s=50.0)
    with Shard(tmp_path / "spool", options) as shard:
        young = shard.make(arrived_at_ns=NOW_NS + 10**9)
        old = shard.make(arrived_at_ns=NOW_NS)
        bounce = shard.make(arrived_at_ns=NOW_NS, reverse_path=b"")
        shard.accept(young, old, bounce)
        for message in (young, old, bounce):
            shard.spool.release(message)
        assert shard.expired(NOW_NS + 50 * 10**9 - 1) == []
        found = shard.expired(NOW_NS + 101 * 10**9)
        assert [message.id for message in found] == [bounce.id, old.id, young.id]
        assert len(shard.expired(NOW_NS + 101 * 10**9, limit=1)) == 1


def test_mail_may_have_a_lifetime_of_its_own(tmp_path: Path) -> None:
    def lifetime_of(envelope: Envelope) -> float:
        return 10.0 if envelope.reverse_path.endswith(b"@hasty.example") else 100.0

    with Shard(tmp_path / "spool", SpoolOptions(lifetime_of=lifetime_of)) as shard:
        patient = shard.make(arrived_at_ns=NOW_NS)
        hasty = shard.make(arrived_at_ns=NOW_NS, reverse_path=b"otp@hasty.example")
        shard.accept(patient, hasty)
        for message in (patient, hasty):
            shard.spool.release(message)
        assert shard.expired(NOW_NS + 10 * 10**9 - 1) == []
        assert [message.id for message in shard.expired(NOW_NS + 99 * 10**9)] == [hasty.id]
        found = shard.expired(NOW_NS + 100 * 10**9)
        assert [message.id for message in found] == [hasty.id, patient.id]


def test_tenant_and_very_long_next_hop(tmp_path: Path) -> None:
    hop = b"x" * 600 + b".example"
    with Shard(tmp_path / "spool") as shard:
        message = shard.make(b"a@" + hop, tenant="tenant-7")
        shard.accept(message)
        shard.spool.release(message)
        (fetched,), _ = shard.fetch(b"smtp:" + hop)
        assert fetched.id == message.id
        assert list(shard.dump()["tenant"]) == [b"tenant-7\0" + message.id]
        with reopen(shard) as again:
            assert again.spool.hops() == [(b"smtp:" + hop, NOW_NS)]
            (fetched,), _ = again.fetch(b"smtp:" + hop)
            again.deliver(fetched)
            again.commit()
            assert all(not rows for rows in again.dump().values())


def test_segments_are_reused_oldest_first_once_nothing_in_them_is_live(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fastmta.spool.trimmer.SLACK_SEGMENTS", 1000)  # it would free the first
    options = SpoolOptions(segment_octets=64 * 1024)
    with Shard(tmp_path / "spool", options) as shard:
        kept = shard.accept_new(content=b"k" * 1000)
        shard.spool.release(kept)
        for _ in range(6):
            shard.deliver(shard.accept_new(content=b"x" * 30_000))
        shard.commit()
        assert shard.spool.statistics.segments_freed == 0
        (again,), _ = shard.fetch(b"smtp:one.example")
        shard.deliver(again)
        shard.commit()
        freed = shard.spool.statistics.segments_freed
        assert freed >= 2
        for _ in range(40):
            shard.deliver(shard.accept_new(content=b"x" * 30_000))
            shard.commit()
        assert len(list((shard.root / "shard-00" / "hot").iterdir())) <= freed + 8
    with Shard(shard.root, options) as reopened:
        assert reopened.recovered == {}


def test_message_larger_than_a_group_goes_alone(tmp_path: Path) -> None:
    with Shard(tmp_path / "spool", SpoolOptions(segment_octets=8 * 2**20)) as shard:
        messages = [shard.make(content=bytes([65 + at]) * 3_000_000) for at in range(5)]
        large = shard.make(content=b"L" * 6_000_000)
        assert shard.accept(*messages, large) == [None] * 6
        contents = [m.content for m in (*messages, large)]
        for message in (*messages, large):
            shard.spool.release(message)
        fetched, _ = shard.fetch(b"smtp:one.example")
        assert [m.content for m in fetched] == contents


def test_message_larger_than_a_segment_is_refused_and_harms_nobody(shard: Shard) -> None:
    small, large = shard.make(), shard.make(content=b"x" * SMALL.segment_octets)
    problems = shard.accept(small, large)
    assert problems[0] is None
    assert isinstance(problems[1], SpoolFull)
    assert shard.spool.is_healthy
    assert shard.spool.live_count == 1


def test_second_open_names_the_process(shard: Shard) -> None:
    with pytest.raises(SpoolError, match=r"shard-00 is in use by process \d+"):
        Spool.open(str(shard.root), SMALL, next_hop, lambda event: None)


def test_disk_that_fails_at_the_start_is_a_spool_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SpoolError, match="shard-00 cannot be opened"):
        Spool.open(str(tmp_path / "file" / "spool"), SMALL, next_hop, lambda event: None)

    def fail(*_: object, **__: object) -> None:
        raise lmdb.DiskError("injected")

    monkeypatch.setattr("fastmta.spool.replay.Index.commit", fail)
    with pytest.raises(SpoolError, match="injected"):
        Spool.open(str(tmp_path / "spool"), SMALL, next_hop, lambda event: None)
    monkeypatch.undo()
    with Shard(tmp_path / "spool"):  # the failed start held on to nothing
        pass


def test_newer_layout_refuses_to_start(shard: Shard) -> None:
    shard.close()
    (shard.root / "format").write_bytes(b"3\n")
    with pytest.raises(SpoolFormat, match="format 3"):
        Spool.open(str(shard.root), SMALL, next_hop, lambda event: None)


def test_files_are_private(shard: Shard) -> None:
    for path in (shard.root, *shard.root.rglob("*")):
        assert path.stat().st_mode & 0o077 == 0, path


def test_record_of_a_released_or_final_message_is_refused(shard: Shard) -> None:
    message = shard.accept_new()
    shard.deliver(message)
    with pytest.raises(ValueError, match="final or released"):
        shard.spool.record(message, [RecipientState(0, DELIVERED, 1)], lambda m, e: None)


def test_release_waits_for_a_record_on_its_way(shard: Shard) -> None:
    message = shard.accept_new(b"a@one.example", b"b@two.example")

    def start(done) -> None:
        shard.spool.record(message, [RecipientState(0, DELIVERED, 1)], done)
        shard.spool.release(message)

    shard.wait(start)
    assert shard.fetch(b"smtp:one.example") == ([], None)
    (fetched,), _ = shard.fetch(b"smtp:two.example")
    assert fetched.states[0].status is DELIVERED


def test_an_index_from_when_new_mail_was_due_at_0_is_made_anew(
    shard: Shard, monkeypatch: pytest.MonkeyPatch
) -> None:
    shard.close()
    with monkeypatch.context() as patch:
        patch.setattr("fastmta.spool.rows.due_of", lambda *_: 0)
        patch.setattr("fastmta.spool.opening.FORMAT", 2)
        with reopen(shard) as old:
            for _ in range(3):
                old.spool.release(old.accept_new())
            old.commit()
        with reopen(shard) as old:
            assert old.spool.hops() == [(b"smtp:one.example", 0)]
    with reopen(shard) as again:
        assert again.spool.hops() == [(b"smtp:one.example", NOW_NS)]
        messages, _ = again.fetch(b"smtp:one.example")
        assert len(messages) == 3
        assert any("of another release" in str(event) for event in again.events)


def test_other_routing_rebuilds_the_index(shard: Shard) -> None:
    message = shard.accept_new()
    shard.close()
    options = SpoolOptions(segment_octets=SMALL.segment_octets, routing_token=b"relay")
    spool = Spool.open(str(shard.root), options, lambda path, _: b"smtp:relay", lambda event: None)
    assert spool.hops() == [(b"smtp:relay", NOW_NS)]
    assert spool.live_count == 1
    assert message.id
    with Shard(shard.root, options, open_spool=lambda *_: spool):
        pass
