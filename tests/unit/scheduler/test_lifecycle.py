"""What becomes of each recipient, in which order it is told, and what is recorded."""

import itertools

import pytest

from fastmta.event import (
    BounceQueued,
    MessageActive,
    MessageExpired,
    MessageReceived,
    MessageRemoved,
    Notice,
    RecipientTried,
)
from fastmta.message import Outcome, OutcomeKind, RecipientStatus, Scope
from fastmta.message.attempt import AttemptResult, Job
from fastmta.route import Site
from fastmta.scheduler import Options
from tests.support.scheduler_world import (
    DEFERRED,
    DELIVERED,
    FAILED,
    LOST,
    NS,
    REFUSED,
    World,
    answer,
    fail_site,
)

DELIVERED_STATE, DEFERRED_STATE, FAILED_STATE, EXPIRED_STATE = (
    RecipientStatus.DELIVERED,
    RecipientStatus.DEFERRED,
    RecipientStatus.FAILED,
    RecipientStatus.EXPIRED,
)


def test_delivered_message_is_active_then_sent_then_removed() -> None:
    world = World()
    message = world.send(b"a@x.example")
    world.run(1)
    active, tried, removed = world.events
    assert active == MessageActive(message.id, b"sender@home.example", 4_000, 1)
    assert isinstance(tried, RecipientTried)
    assert (tried.kind, tried.status, tried.text) == ("sent", "2.0.0", "250 Ok")
    assert removed == MessageRemoved(message.id)
    assert world.scheduler.counts.ram_jobs == 0
    assert world.spool.released == 0


def test_sent_is_told_only_when_the_mark_is_durable() -> None:
    world = World()
    world.spool.record_s = 5.0
    message = world.send(b"a@x.example")
    world.run(1)
    assert world.seen(RecipientTried) == []
    assert world.state(message) is RecipientStatus.QUEUED
    world.run(5)
    assert len(world.seen(RecipientTried)) == 1


def test_delays_are_before_queued_connecting_sending() -> None:
    world = World()

    def slow(job: Job, site: Site) -> AttemptResult:
        return AttemptResult([DELIVERED], None, 0.25, 0.5, 7)

    world.receivers.behaviours["x.example"] = slow
    world.receivers.latency_s["x.example"] = 0.75
    world.send(b"a@x.example", age_s=3.0)
    world.run(2)
    (tried,) = world.seen(RecipientTried)
    assert tried.delays_s == pytest.approx((3.0, 0.0, 0.25, 0.5), abs=0.01)
    assert tried.connection_use == 7


def test_recipients_of_one_next_hop_are_one_job() -> None:
    world = World()
    jobs: list[tuple[int, ...]] = []

    def note(job: Job, site: Site) -> AttemptResult:
        jobs.append(job.indices)
        return AttemptResult([DELIVERED] * len(job.indices))

    world.receivers.behaviours.update({"x.example": note, "y.example": note})
    message = world.send(b"a@x.example", b"b@y.example", b"c@x.example")
    world.run(1)
    assert sorted(jobs) == [(0, 2), (1,)]
    assert message.pending == 0
    assert len(world.seen(MessageRemoved)) == 1
    assert len(world.seen(RecipientTried)) == 3


def test_many_recipients_go_in_jobs_of_limited_size() -> None:
    world = World(Options(recipients_per_job=50))
    sizes: list[int] = []

    def note(job: Job, site: Site) -> AttemptResult:
        sizes.append(len(job.indices))
        return AttemptResult([DELIVERED] * len(job.indices))

    world.receivers.behaviours["x.example"] = note
    message = world.send(*(b"r%d@x.example" % n for n in range(120)))
    world.run(5)
    assert sizes == [50, 50, 20]
    assert message.pending == 0
    assert len(world.seen(MessageRemoved)) == 1


def test_failed_recipient_is_bounced_and_the_bounce_is_mail_of_its_own() -> None:
    world = World()
    world.receivers.behaviours["x.example"] = answer(FAILED)
    message = world.send(b"a@x.example")
    world.run(1)
    (queued,) = world.seen(BounceQueued)
    assert queued.queue_id == message.id
    dsn = world.accepted[queued.dsn_id]
    assert dsn.envelope.forward_paths == (b"sender@home.example",)
    assert world.state(message) is FAILED_STATE
    assert world.state(dsn) is DELIVERED_STATE
    (received,) = world.seen(MessageReceived)
    assert received == MessageReceived(dsn.id, "", dsn.message_id_field)
    kinds = [type(event).__name__ for event in world.events[:6]]
    assert kinds == [
        "MessageActive",
        "RecipientTried",
        "MessageReceived",
        "BounceQueued",
        "MessageRemoved",
        "MessageActive",
    ]


def test_bounce_of_a_bounce_is_dropped_with_a_line() -> None:
    world = World()
    world.receivers.behaviours["x.example"] = answer(FAILED)
    message = world.send(b"a@x.example", reverse_path=b"")
    world.run(1)
    (notice,) = world.seen(Notice)
    assert notice.queue_id == message.id
    assert "dropped" in notice.text
    assert world.seen(BounceQueued) == []
    assert len(world.seen(MessageRemoved)) == 1
    assert len(world.accepted) == 1


def test_bounce_that_nobody_wants_is_not_made_and_no_line_says_so() -> None:
    """As in Postfix: the lines of the attempt and of the removal, nothing else (RFC 3461 4.1)."""
    world = World()
    world.wants_reports = False
    world.receivers.behaviours["x.example"] = answer(FAILED)
    message = world.send(b"a@x.example")
    world.run(1)
    assert world.state(message) is FAILED_STATE
    kinds = [type(event).__name__ for event in world.events]
    assert kinds == ["MessageActive", "RecipientTried", "MessageRemoved"]
    assert len(world.accepted) == 1


def test_deferred_recipient_comes_back_after_300_s_doubling() -> None:
    world = World()
    world.receivers.behaviours["x.example"] = answer(DEFERRED)
    message = world.send(b"a@x.example")
    world.run(20_000)
    starts = [at_s - 1_000 for at_s, _, _ in world.receivers.log]
    gaps = [round(later - start) for start, later in itertools.pairwise(starts)]
    assert gaps == [300, 600, 1200, 2400, 4000, 4000, 4000]
    stored = world.spool.rows[message.id].states[0]
    assert (stored.status, stored.attempts, stored.text) == (DEFERRED_STATE, 8, "mailbox full")
    assert world.scheduler.counts.ram_jobs == 0


def test_one_outcome_per_recipient_each_with_its_own_state() -> None:
    world = World()

    def mixed(job: Job, site: Site) -> AttemptResult:
        return AttemptResult([DELIVERED, FAILED, DEFERRED][: len(job.indices)])

    world.receivers.behaviours["x.example"] = mixed
    message = world.send(b"a@x.example", b"b@x.example", b"c@x.example")
    world.run(1)
    assert [world.state(message, n) for n in range(3)] == [
        DELIVERED_STATE,
        FAILED_STATE,
        DEFERRED_STATE,
    ]
    assert len(world.seen(BounceQueued)) == 1
    assert world.seen(MessageRemoved)[-1].queue_id != message.id
    world.run(400)
    assert world.state(message, 2) is DELIVERED_STATE
    assert [event.queue_id for event in world.seen(MessageRemoved)].count(message.id) == 1


def test_site_trouble_burns_no_attempt_and_records_nothing() -> None:
    world = World()
    world.receivers.behaviours["x.example"] = fail_site(REFUSED)
    message = world.send(b"a@x.example")
    world.run(5)
    assert world.spool.records == 0
    assert world.state(message) is RecipientStatus.QUEUED
    (tried,) = world.seen(RecipientTried)
    assert (tried.kind, tried.remote, tried.text) == ("deferred", "none", "Connection refused")
    world.receivers.behaviours.clear()
    world.run(20)
    assert message.states[0].attempts == 1
    assert world.state(message) is DELIVERED_STATE


def test_trouble_in_the_middle_keeps_what_was_decided_before_it() -> None:
    world = World()

    def cut(job: Job, site: Site) -> AttemptResult:
        if len(job.indices) == 1:
            return AttemptResult([DELIVERED])
        return AttemptResult([DELIVERED, FAILED, LOST], LOST)

    world.receivers.behaviours["x.example"] = cut
    message = world.send(b"a@x.example", b"b@x.example", b"c@x.example")
    world.run(10)
    assert [world.state(message, n) for n in range(3)] == [
        DELIVERED_STATE,
        FAILED_STATE,
        DELIVERED_STATE,
    ]
    assert message.states[2].attempts == 1


def test_host_scope_without_trouble_counts_as_an_attempt() -> None:
    world = World()
    world.receivers.behaviours["x.example"] = answer(LOST)
    message = world.send(b"a@x.example")
    world.run(1)
    assert world.state(message) is DEFERRED_STATE


def test_a_message_that_makes_the_peer_hang_up_is_deferred_in_the_end() -> None:
    world = World()

    def hang_up(job: Job, site: Site) -> AttemptResult:
        if job.message.envelope.forward_paths == (b"poison@x.example",):
            return AttemptResult([LOST], LOST)
        return AttemptResult([DELIVERED])

    world.receivers.behaviours["x.example"] = hang_up
    poison = world.send(b"poison@x.example")
    for _ in range(500):
        world.send(b"a@x.example")
        world.run(0.05)
    world.run(60)
    assert len(world.spool.final) == 500
    assert world.spool.rows[poison.id].states[0].attempts == 1
    assert world.receivers.attempts["x.example"] < 510


def test_trouble_alone_never_becomes_the_messages_own_fault() -> None:
    world = World()
    world.receivers.behaviours["x.example"] = fail_site(LOST)
    message = world.send(b"a@x.example")
    world.run(10_000)
    assert world.spool.records == 0
    assert world.state(message) is RecipientStatus.QUEUED


def test_deferred_past_its_lifetime_expires_with_a_bounce() -> None:
    world = World()
    world.receivers.behaviours["x.example"] = answer(DEFERRED)
    message = world.send(b"a@x.example", age_s=5 * 86_400 + 1)
    world.run(1)
    assert world.state(message) is EXPIRED_STATE
    assert world.seen(MessageExpired) == [MessageExpired(message.id, b"sender@home.example")]
    assert len(world.seen(BounceQueued)) == 1


def test_delivered_after_its_lifetime_is_delivered() -> None:
    world = World()
    message = world.send(b"a@x.example", age_s=50 * 86_400)
    world.run(1)
    assert world.state(message) is DELIVERED_STATE
    assert world.seen(MessageExpired) == []


def test_a_record_that_fails_stops_every_delivery_and_says_so_once() -> None:
    world = World()
    world.spool.error = OSError("No space left on device")
    first = world.send(b"a@x.example")
    second = world.send(b"b@y.example")
    world.run(1)
    assert len(world.halted) == 1
    assert "No space left on device" in world.halted[0]
    later = world.send(b"c@z.example")
    world.run(1_000)
    assert world.receivers.attempts.total() == 2
    assert world.seen(RecipientTried) == []
    assert {world.state(one) for one in (first, second, later)} == {RecipientStatus.QUEUED}


def test_an_attempt_that_forgets_a_recipient_is_refused() -> None:
    world = World()
    world.receivers.behaviours["x.example"] = lambda job, site: AttemptResult([DELIVERED])
    world.send(b"a@x.example", b"b@x.example")
    with pytest.raises(ValueError, match="one outcome for each recipient"):
        world.run(1)


def test_an_attempt_that_expires_mail_itself_is_refused() -> None:
    world = World()
    world.receivers.behaviours["x.example"] = answer(Outcome(OutcomeKind.EXPIRED, "4.4.7", "old"))
    world.send(b"a@x.example")
    with pytest.raises(ValueError, match="no attempt ends"):
        world.run(1)


def test_retries_of_one_attempt_come_back_together() -> None:
    world = World()
    world.receivers.behaviours["x.example"] = answer(DEFERRED)
    message = world.send(b"a@x.example", b"b@x.example")
    world.run(1)
    stored = world.spool.rows[message.id]
    assert stored.states[0].due_at_ns == stored.states[1].due_at_ns
    assert stored.states[0].due_at_ns - stored.arrived_at_ns == pytest.approx(300 * NS, rel=0.001)


def test_long_texts_are_cut_before_they_are_stored() -> None:
    world = World()
    long = Outcome(OutcomeKind.DEFERRED, "4.0.0", "x" * 5_000, Scope.RECIPIENT)
    world.receivers.behaviours["x.example"] = answer(long)
    message = world.send(b"a@x.example")
    world.run(1)
    assert len(world.spool.rows[message.id].states[0].text) == 500
