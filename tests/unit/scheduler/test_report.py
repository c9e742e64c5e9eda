"""Who is told what: successes, copies for the postmaster, recipients on hold."""

from __future__ import annotations

from typing import Any

import pytest

from fastmta.event import (
    BounceQueued,
    MessageReceived,
    MessageRemoved,
    Notice,
    RecipientTried,
    Severity,
)
from fastmta.event.hold import RecipientHeld
from fastmta.message import Outcome, OutcomeKind, RecipientStatus
from fastmta.message.attempt import AttemptResult, Job
from fastmta.message.envelope import DSNRequest
from fastmta.message.report import (
    NON_DELIVERY,
    POSTMASTER_NON_DELIVERY,
    POSTMASTER_NOTICE,
    SUCCESS,
    Report,
)
from fastmta.route import Site
from fastmta.scheduler.operation import Answer, Kind, Order
from tests.support.scheduler_world import DELIVERED, FAILED, World, answer

RELAYED = Outcome(
    OutcomeKind.DELIVERED, "2.0.0", "250 Ok", remote="mx[192.0.2.1]:25", is_relayed=True
)
HELD = Outcome(OutcomeKind.HELD, "4.7.0", "the route says so", category="local.hold")
DSN = DSNRequest(notify=("SUCCESS", "SUCCESS,FAILURE"))


def reported(world: World) -> list[list[tuple[int, str, bool]]]:
    return [
        [(index, outcome.kind.value, outcome.is_relayed) for index, outcome in outcomes]
        for _, outcomes in world.reported
    ]


@pytest.mark.parametrize(
    ("domain", "outcome", "told"),
    [
        (b"x.example", DELIVERED, None),  # the peer knows DSN, and reports
        (b"x.example", RELAYED, True),
        (b"lmtp.example", DELIVERED, None),
        (b"lmtp.example", RELAYED, False),  # it does not know DSN, but it is the last
        (b"file.example", DELIVERED, False),
    ],
)
def test_success_is_reported_by_whoever_is_the_last_to_know_dsn(
    domain: bytes, outcome: Outcome, told: bool | None
) -> None:
    world = World()
    label = (
        domain.decode() if domain == b"x.example" else f"{domain[:4].decode()}:{domain.decode()}"
    )
    world.receivers.behaviours[label] = answer(outcome)
    message = world.send(b"a@" + domain, dsn=DSN)
    world.run(1)
    assert world.state(message) is RecipientStatus.DELIVERED
    if told is None:
        assert world.reported == []
        assert world.seen(BounceQueued) == []
        return
    assert reported(world) == [[(0, "sent", told)]]
    (queued,) = world.seen(BounceQueued)
    assert (queued.queue_id, queued.kind) == (message.id, SUCCESS)
    report = world.accepted[queued.dsn_id]
    assert world.state(report) is RecipientStatus.DELIVERED
    assert len(world.seen(MessageRemoved)) == 2


def test_success_report_and_mark_are_one_record() -> None:
    world = World()
    world.spool.record_s = 5.0
    world.receivers.behaviours["x.example"] = answer(RELAYED)
    message = world.send(b"a@x.example", dsn=DSN)
    world.run(1)
    assert world.spool.records == 1
    assert set(world.spool.held) == {message.id}, "nothing is durable yet"
    assert world.seen(RecipientTried) == []
    world.run(5)
    assert len(world.spool.final) == 1
    assert world.seen(BounceQueued) != []


def test_without_dsn_parameters_nobody_asks_who_wants_to_hear() -> None:
    world = World()
    world.receivers.behaviours["x.example"] = answer(RELAYED)
    world.send(b"a@x.example")
    world.send(b"a@x.example", b"b@x.example")
    world.run(1)
    assert world.reported == []


def test_failed_and_delivered_recipients_share_a_report() -> None:
    world = World()

    def mixed(job: Job, site: Site) -> AttemptResult:
        return AttemptResult([RELAYED, FAILED][: len(job.indices)])

    world.receivers.behaviours["x.example"] = mixed
    world.send(b"a@x.example", b"b@x.example", dsn=DSN)
    world.run(1)
    assert reported(world) == [[(1, "bounced", False), (0, "sent", True)]]
    assert [event.kind for event in world.seen(BounceQueued)] == [NON_DELIVERY]


def test_event_names_the_transport_and_what_kind_of_trouble() -> None:
    world = World()
    outcome = Outcome(OutcomeKind.FAILED, "5.1.1", "no", category="hard.unknown_user")
    world.receivers.behaviours["lmtp:lmtp.example"] = answer(outcome)
    world.send(b"a@lmtp.example")
    world.send(b"a@x.example")
    world.run(1)
    tried = {event.forward_path: event for event in world.seen(RecipientTried)}
    assert tried[b"a@lmtp.example"].transport == "lmtp"
    assert tried[b"a@lmtp.example"].category == "hard.unknown_user"
    assert tried[b"a@x.example"].transport == "smtp"
    assert tried[b"a@x.example"].category == ""


# On hold


def test_held_by_its_route() -> None:
    world = World()
    world.receivers.behaviours["hold:hold.example"] = answer(HELD)
    message = world.send(b"a@hold.example", b"b@x.example")
    world.run(30)
    assert world.state(message, 0) is RecipientStatus.HELD
    assert world.state(message, 1) is RecipientStatus.DELIVERED
    stored = world.spool.rows[message.id].states[0]
    assert (stored.attempts, stored.text) == (0, "the route says so")
    assert world.seen(RecipientHeld) == [
        RecipientHeld(
            message.id,
            b"sender@home.example",
            b"a@hold.example",
            "the route says so",
            "local.hold",
        )
    ]
    assert [event.forward_path for event in world.seen(RecipientTried)] == [b"b@x.example"]
    assert world.reported == []
    assert world.seen(MessageRemoved) == []
    assert world.scheduler.counts.ram_jobs == 0
    world.run(10 * 86_400)
    assert world.state(message, 0) is RecipientStatus.HELD, "held mail does not expire"


def test_released_from_hold_it_is_tried_again() -> None:
    world = World()
    world.receivers.behaviours["hold:hold.example"] = answer(HELD)
    message = world.send(b"a@hold.example")
    world.run(30)
    del world.receivers.behaviours["hold:hold.example"]
    answers: list[Answer] = []
    order = Order(Kind.RELEASE)
    world.scheduler.operate(order, [message.id], lambda id, one: answers.append(one))
    world.run(30)
    assert answers == [Answer.DONE]
    assert world.state(message) is RecipientStatus.DELIVERED


# Copies for the postmaster


def test_postmaster_gets_a_copy_beside_the_senders() -> None:
    world = World()
    world.wants_copies = True
    world.receivers.behaviours["x.example"] = answer(FAILED)
    message = world.send(b"a@x.example")
    world.run(1)
    kinds = [event.kind for event in world.seen(BounceQueued)]
    assert sorted(kinds) == sorted([NON_DELIVERY, POSTMASTER_NON_DELIVERY])
    assert {event.queue_id for event in world.seen(BounceQueued)} == {message.id}
    assert len(world.spool.final) == 3


def test_copy_is_durable_no_later_than_the_mark() -> None:
    world = World()
    world.wants_copies = True
    world.spool.record_s = 5.0
    world.receivers.behaviours["x.example"] = answer(FAILED)
    message = world.send(b"a@x.example")
    world.run(0.5)
    world.spool.record_s = 50.0
    while message.pending:
        world.run(0.01)
    assert len([one for one in world.spool.held.values() if one is not message]) == 2


def test_copy_that_cannot_be_stored_is_told_and_the_sender_hears_all_the_same() -> None:
    world = World()
    world.wants_copies = True
    world.spool.accept_error = OSError("no room")
    world.receivers.behaviours["x.example"] = answer(FAILED)
    message = world.send(b"a@x.example")
    world.run(1)
    (notice,) = world.seen(Notice)
    assert notice.text == f"{POSTMASTER_NON_DELIVERY} not stored: no room"
    assert [event.kind for event in world.seen(BounceQueued)] == [NON_DELIVERY]
    assert world.state(message) is RecipientStatus.FAILED


def test_failing_notices_make_no_notices() -> None:
    world = World()
    world.wants_copies = True
    world.receivers.behaviours["x.example"] = answer(FAILED)
    world.receivers.behaviours["home.example"] = answer(FAILED)
    world.send(b"a@x.example")
    world.run(86_400)
    assert len(world.accepted) == 3
    assert len(world.spool.final) == 3


def test_mail_of_our_own_is_stored_and_delivered() -> None:
    world = World()
    report = world.report_to(b"postmaster@home.example", POSTMASTER_NOTICE)
    world.scheduler.submit(report)
    world.run(1)
    assert world.state(report) is RecipientStatus.DELIVERED
    assert world.seen(MessageReceived) == [MessageReceived(report.id, "", b"")]
    assert world.seen(BounceQueued) == []


def test_stop_waits_for_a_copy_that_is_being_stored() -> None:
    world = World()
    world.wants_copies = True
    world.spool.record_s = 5.0
    world.receivers.behaviours["x.example"] = answer(FAILED)
    world.send(b"a@x.example")
    world.run(1)
    idle: list[float] = []
    world.scheduler.drain(lambda: idle.append(world.agenda.now_s))
    assert world.scheduler.counts.marks == 2
    world.run(10)
    assert len(idle) == 1
    assert world.scheduler.counts.marks == 0
    assert len(world.spool.rows) == 2, "stored, and left for the next start"


def test_a_report_that_cannot_be_made_gives_nobody_up_and_ends_nothing() -> None:
    world = World()
    world.receivers.behaviours["x.example"] = answer(FAILED)
    made, broken = world.bounce, True

    def bounce(*arguments: Any) -> Report | None:
        if broken:
            raise ValueError("no words for it")
        return made(*arguments)

    world.bounce = bounce  # type: ignore[method-assign]  # a defect
    message, other = world.send(b"a@x.example"), world.send(b"a@y.example")
    world.run(1)
    assert world.state(message) is RecipientStatus.DEFERRED
    assert world.state(other) is RecipientStatus.DELIVERED
    (notice,) = [one for one in world.seen(Notice) if one.severity is Severity.ERROR]
    assert "no words for it" in notice.text
    broken = False
    world.run(400)
    assert world.state(message) is RecipientStatus.FAILED
    assert len(world.reported) == 1
