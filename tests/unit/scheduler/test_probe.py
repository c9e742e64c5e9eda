"""Probes: one attempt for each recipient, and one report when the last of them is final."""

from __future__ import annotations

import msgspec
import pytest

from fastmta.event import BounceQueued, MessageRemoved, Notice, RecipientTried
from fastmta.message import Message, Outcome, OutcomeKind, RecipientStatus, Scope
from fastmta.message.attempt import AttemptResult, Job
from fastmta.route import RouteProblem, Site
from fastmta.scheduler import Options
from fastmta.scheduler.operation import Kind, Order
from tests.support.scheduler_world import DEFERRED, FAILED, LOST, REFUSED, World, answer, fail_site

TAKEN = Outcome(OutcomeKind.DELIVERABLE, "2.1.5", "250 Ok", remote="mx[192.0.2.1]:25")
HELD = Outcome(OutcomeKind.HELD, "4.3.2", "held by the configuration")
STOPPED = Outcome(OutcomeKind.DEFERRED, "4.3.2", "interrupted", Scope.EGRESS)


def send(world: World, *paths: bytes, reverse_path: bytes = b"sender@home.example") -> Message:
    message = world._message(reverse_path, paths)
    message.envelope = msgspec.structs.replace(message.envelope, is_probe=True)
    world.spool.accept(message)
    world.accepted[message.id] = message
    world.scheduler.accepted(message)
    return message


def told(world: World) -> list[list[tuple[int, str, str]]]:
    """Of each report: recipients by index, and what it says of them."""
    return [
        sorted((index, one.kind.value, one.text) for index, one in outcomes)
        for _, outcomes in world.reported
    ]


@pytest.mark.parametrize(
    ("outcome", "kind"),
    [
        (TAKEN, "deliverable"),
        (FAILED, "undeliverable"),
        (DEFERRED, "undeliverable"),
        (HELD, "undeliverable"),
    ],
)
def test_one_attempt_is_all(outcome: Outcome, kind: str) -> None:
    world = World()
    world.receivers.behaviours["x.example"] = answer(outcome)
    message = send(world, b"a@x.example")
    world.run(6 * 86_400)
    assert told(world) == [[(0, kind, outcome.text)]]
    (event, reported) = world.seen(RecipientTried)
    assert (event.kind, event.status, event.text) == (kind, outcome.status, outcome.text)
    assert (event.due_at_ns, event.attempt) == (0, 1)
    assert reported.kind == "sent" or outcome is not TAKEN
    assert world.state(message).is_final
    assert [one.queue_id for one in world.seen(BounceQueued)] == [message.id]
    assert message.id in [one.queue_id for one in world.seen(MessageRemoved)]


@pytest.mark.parametrize("trouble", [LOST, REFUSED])
def test_a_site_in_trouble_is_an_answer(trouble: Outcome) -> None:
    """Though the trouble is the path's, whose other mail waits and burns no attempt."""
    world = World()
    world.receivers.behaviours["x.example"] = fail_site(trouble)
    message = send(world, b"a@x.example", b"b@x.example")
    mail = world.send(b"c@x.example")
    world.run(1)
    assert told(world) == [
        [(index, "undeliverable", trouble.text) for index in (0, 1)],
    ]
    assert world.state(message, 1) is RecipientStatus.FAILED
    assert world.state(mail) is RecipientStatus.QUEUED


@pytest.mark.parametrize("kind", [OutcomeKind.FAILED, OutcomeKind.DEFERRED])
def test_a_domain_without_a_site_is_an_answer(kind: OutcomeKind) -> None:
    world = World()
    world.problems[b"smtp:none.example"] = RouteProblem(kind, "4.4.3", "no such name")
    send(world, b"a@none.example", b"b@x.example")
    world.receivers.behaviours["x.example"] = answer(TAKEN)
    world.run(1)
    assert told(world) == [[(0, "undeliverable", "no such name"), (1, "deliverable", "250 Ok")]]


def test_one_report_of_recipients_that_are_answered_at_different_times() -> None:
    """Also when both records are on their way to the disk together."""
    for latency_s, record_s in ((5.0, 0.001), (0.01, 3.0)):
        world = World()
        world.spool.record_s = record_s
        world.receivers.latency_s["late.example"] = latency_s + 0.01
        world.receivers.behaviours["x.example"] = answer(TAKEN)
        world.receivers.behaviours["late.example"] = answer(FAILED)
        message = send(world, b"a@late.example", b"b@x.example", b"c@late.example")
        world.run(20)
        assert told(world) == [
            [
                (0, "undeliverable", "no such user"),
                (1, "deliverable", "250 Ok"),
                (2, "undeliverable", "no such user"),
            ]
        ]
        assert world.spool.records == 2 + 1, "and that of the report"
        assert len(world.seen(BounceQueued)) == 1
        assert not world.scheduler._lifecycle._findings
        assert world.state(message) is RecipientStatus.FAILED


def test_more_recipients_than_go_in_one_job() -> None:
    world = World(Options(recipients_per_job=3))
    world.receivers.behaviours["x.example"] = answer(TAKEN)
    send(world, *(b"user%d@x.example" % number for number in range(10)))
    world.run(5)
    assert world.receivers.attempts["x.example"] == 4
    (outcomes,) = told(world)
    assert outcomes == [(number, "deliverable", "250 Ok") for number in range(10)]


def test_after_a_kill_in_the_middle_the_report_is_whole() -> None:
    """Who was asked is not asked again, if that was durable; who was not, is."""
    world = World()
    world.receivers.latency_s["late.example"] = 5.0
    world.receivers.behaviours["x.example"] = answer(TAKEN)
    world.receivers.behaviours["late.example"] = answer(FAILED)
    message = send(world, b"a@x.example", b"b@late.example")
    world.run(1)
    assert told(world) == []
    world.restart()
    world.run(20)
    assert world.receivers.attempts["x.example"] == 1
    assert world.receivers.attempts["late.example"] == 2
    assert told(world) == [[(0, "deliverable", "250 Ok"), (1, "undeliverable", "no such user")]]
    (_, outcomes) = world.reported[0]
    assert {one.remote for _, one in outcomes} == {"mx[192.0.2.1]:25"}
    assert dict(outcomes)[0].status == "2.1.5"
    assert world.state(message, 1) is RecipientStatus.FAILED


def test_killed_before_anything_was_durable_all_are_asked_again() -> None:
    world = World()
    world.spool.record_s = 5.0
    world.receivers.behaviours["x.example"] = answer(TAKEN)
    send(world, b"a@x.example")
    world.run(1)
    assert world.receivers.attempts["x.example"] == 1
    world.restart()
    world.reported.clear()  # it was never stored
    world.run(20)
    assert world.receivers.attempts["x.example"] == 2
    assert told(world) == [[(0, "deliverable", "250 Ok")]]


def test_a_stop_of_ours_is_no_answer() -> None:
    world = World()

    def stopped(job: Job, site: Site) -> AttemptResult:
        return AttemptResult([TAKEN, STOPPED], STOPPED)

    world.receivers.behaviours["x.example"] = stopped
    message = send(world, b"a@x.example", b"b@x.example")
    world.scheduler.drain(lambda: None)
    world.run(1)
    assert told(world) == []
    assert [world.state(message, index).name for index in (0, 1)] == ["DELIVERED", "QUEUED"]
    world.receivers.behaviours["x.example"] = answer(TAKEN)
    world.restart()
    world.run(5)
    assert told(world) == [[(0, "deliverable", "250 Ok"), (1, "deliverable", "250 Ok")]]


SUSPENDED = "delivery temporarily suspended: Connection refused"


@pytest.mark.parametrize("count", [1, 7])
def test_a_pause_of_the_site_is_an_answer(count: int) -> None:
    """Postfix does not ask then either; the mail that waits for the site would go first."""
    world = World(Options(recipients_per_job=3))
    world.receivers.behaviours["x.example"] = answer(TAKEN)
    world.receivers.behaviours["dead.example"] = fail_site(REFUSED)
    mail = [world.send(b"a@dead.example") for _ in range(30)]
    world.run(1)
    attempts = world.receivers.attempts["dead.example"]
    paths = [b"b%d@dead.example" % number for number in range(count)]
    both = send(world, b"a@x.example", *paths)
    only = send(world, *paths)
    world.run(1)
    refused = [(number, "undeliverable", SUSPENDED) for number in range(count)]
    found = {id: outcomes for (id, _), outcomes in zip(world.reported, told(world), strict=True)}
    assert found[only.id] == refused
    assert found[both.id] == [
        (0, "deliverable", "250 Ok"),
        *((number + 1, kind, text) for number, kind, text in refused),
    ]
    assert world.receivers.attempts["dead.example"] == attempts
    assert {world.state(one) for one in mail} == {RecipientStatus.QUEUED}


def test_a_failed_look_up_is_an_answer_as_long_as_it_is_not_repeated() -> None:
    world = World()
    world.problems[b"smtp:none.example"] = RouteProblem(OutcomeKind.DEFERRED, "4.4.3", "no answer")
    world.send(b"a@none.example")
    world.run(1)
    send(world, b"b@none.example")
    world.run(1)
    assert world.lookups[b"smtp:none.example"] == 1
    text = "delivery temporarily suspended: no answer"
    assert told(world) == [[(0, "undeliverable", text)]]


def test_what_waits_for_a_site_that_dies_is_answered() -> None:
    """Nothing else of the path is under way, so that the first trouble closes it."""
    world = World(Options(connections=1))
    world.receivers.latency_s["dead.example"] = 2.0
    world.receivers.behaviours["dead.example"] = fail_site(REFUSED)
    mail = world.send(b"a@dead.example")
    probes = [send(world, b"b@dead.example") for _ in range(3)]
    world.run(1)
    assert told(world) == []
    world.run(2)
    assert told(world) == [[(0, "undeliverable", SUSPENDED)]] * 3
    assert world.receivers.attempts["dead.example"] == 1
    assert all(world.state(one).is_final for one in probes)
    assert world.state(mail) is RecipientStatus.QUEUED


def test_what_comes_from_the_backlog_of_a_closed_site_is_answered() -> None:
    world = World()
    world.receivers.behaviours["dead.example"] = fail_site(REFUSED)
    world.scheduler.pause("an operator")
    for _ in range(3):
        world.send(b"a@dead.example")
    message = send(world, b"b@dead.example")
    world.restart()
    world.run(600)
    assert len(told(world)) == 1
    assert world.state(message) is RecipientStatus.FAILED


def test_a_pause_of_an_operator_is_no_answer() -> None:
    world = World()
    world.receivers.behaviours["dead.example"] = fail_site(REFUSED)
    world.send(b"a@dead.example")
    world.run(1)
    world.scheduler.pause("an operator")
    send(world, b"b@dead.example")
    world.run(1)
    assert told(world) == []
    world.scheduler.resume()
    world.run(600)
    assert len(told(world)) == 1


def test_expired_by_an_operator_while_it_waits() -> None:
    """Of one recipient something is known, of the other nothing."""
    world = World()
    world.receivers.behaviours["x.example"] = answer(TAKEN)
    world.receivers.latency_s["late.example"] = 5.0
    message = send(world, b"a@x.example", b"b@late.example")
    world.run(1)
    world.restart()
    world.scheduler.pause("an operator")
    world.scheduler.operate(Order(Kind.EXPIRE), [message.id], lambda id, result: None)
    world.run(5)
    expired = "delivery time expired"
    assert told(world) == [[(0, "deliverable", "250 Ok"), (1, "undeliverable", expired)]]


def test_it_ends_with_its_lifetime() -> None:
    """It waited all the time: nobody could be asked, and nobody is told that it is late."""
    world = World(Options(delay_s=3600.0))
    for site in ("x.example", "y.example"):
        world.receivers.behaviours[site] = answer(TAKEN)
    world.scheduler.pause("an operator")
    message = send(world, b"a@x.example", b"b@y.example")
    world.run(7 * 86_400)
    assert (told(world), world.delayed) == ([], [])
    world.scheduler.operate(Order(Kind.EXPIRE), [message.id], lambda id, result: None)
    world.run(5)
    expired = "delivery time expired"
    assert told(world) == [[(0, "undeliverable", expired), (1, "undeliverable", expired)]]
    assert world.receivers.attempts.total() == 0


def test_deleted_by_an_operator_it_has_no_report() -> None:
    world = World()
    world.scheduler.pause("an operator")
    message = send(world, b"a@x.example", b"b@y.example")
    world.scheduler.operate(Order(Kind.DELETE), [message.id], lambda id, result: None)
    world.run(1)
    world.scheduler.resume()
    world.run(600)
    assert told(world) == []
    assert world.receivers.attempts.total() == 0


def test_an_agent_that_says_delivered_is_believed() -> None:
    """None does so of a probe; the report comes all the same."""
    world = World()
    send(world, b"a@x.example")
    send(world, b"a@x.example", b"b@x.example")
    world.run(1)
    kinds = [[kind for _, kind, _ in one] for one in told(world)]
    assert kinds == [["deliverable"], ["deliverable"] * 2]


def test_a_null_sender_has_no_report() -> None:
    world = World()
    world.receivers.behaviours["x.example"] = answer(TAKEN)
    send(world, b"a@x.example", reverse_path=b"")
    world.run(1)
    assert world.seen(BounceQueued) == []
    (notice,) = [one for one in world.seen(Notice) if one.program == "bounce"]
    assert notice.text == "report of a probe dropped: it has no sender to tell"
    assert len(world.seen(MessageRemoved)) == 1
