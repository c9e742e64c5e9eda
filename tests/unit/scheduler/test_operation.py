"""Operations of an operator: each on mail wherever it is, durable before the answer."""

from __future__ import annotations

import pytest

from fastmta.event import BounceQueued, MessageExpired, MessageRemoved, Notice
from fastmta.message import Message, RecipientState, RecipientStatus
from fastmta.scheduler import Options, Waiting
from fastmta.scheduler.operation import Answer, Kind, Order
from tests.support.scheduler_world import DEFERRED, NS, REFUSED, World, answer, fail_site

QUEUED, HELD = RecipientStatus.QUEUED, RecipientStatus.HELD
DELETED, DELIVERED = RecipientStatus.DELETED, RecipientStatus.DELIVERED
EXPIRED, FAILED = RecipientStatus.EXPIRED, RecipientStatus.FAILED
DAY_S = 86_400.0


def order(world: World, kind: Kind, *messages: Message, **more: object) -> dict[bytes, Answer]:
    """Give an order; answers come into the result as time passes."""
    answers: dict[bytes, Answer] = {}

    def told(id: bytes, answer: Answer) -> None:
        assert id not in answers, "told twice"
        answers[id] = answer

    given = Order(kind, **more)  # type: ignore[arg-type]  # fields of any type, by name
    world.scheduler.operate(given, [message.id for message in messages], told)
    return answers


def do(world: World, kind: Kind, *messages: Message, **more: object) -> list[Answer]:
    """The same, and wait a second for it."""
    answers = order(world, kind, *messages, **more)
    world.run(1.0)
    return [answers[message.id] for message in messages]


def said(world: World, text: str) -> list[bytes]:
    """Which messages the log says that of."""
    notices = world.seen(Notice)
    return [one.queue_id for one in notices if (one.program, one.text) == ("postsuper", text)]


def deferring() -> World:
    world = World()
    world.receivers.behaviours["x.example"] = answer(DEFERRED)
    return world


def in_backlog(world: World) -> Message:
    return world.store(b"a@x.example", due_in_s=900)


def fresh_and_waiting(world: World) -> Message:
    """In RAM, behind a site that does not answer."""
    world.receivers.behaviours["x.example"] = fail_site(REFUSED)
    for _ in range(8):
        world.send(b"b@x.example")
    message = world.send(b"a@x.example")
    world.run(1.0)
    assert world.scheduler.explain.message(message.id)
    return message


def without_a_look_up(world: World) -> Message:
    world.resolve_s = 10_000.0
    return world.send(b"a@x.example")


@pytest.mark.parametrize("place", [in_backlog, fresh_and_waiting, without_a_look_up])
def test_held_mail_is_not_tried_until_it_is_released(place) -> None:
    world = World()
    message = place(world)
    assert do(world, Kind.HOLD, message) == [Answer.DONE]
    assert said(world, "placed on hold") == [message.id]
    assert world.state(message) is HELD
    world.resolve_s = 0.0
    world.receivers.behaviours.clear()
    world.receivers.log.clear()
    world.run(9 * DAY_S)
    assert message.id not in [id for _, id, _ in world.receivers.log]
    assert do(world, Kind.RELEASE, message) == [Answer.DONE]
    assert said(world, "released from hold") == [message.id]
    world.run(10_000)
    assert world.state(message) in (DELIVERED, EXPIRED)  # EXPIRED: its look-up took its lifetime
    assert world.spool.held == {}


@pytest.mark.parametrize("place", [in_backlog, fresh_and_waiting, without_a_look_up])
def test_deleted_mail_is_gone_without_a_notification(place) -> None:
    world = World()
    message = place(world)
    assert do(world, Kind.DELETE, message) == [Answer.DONE]
    assert said(world, "removed") == [message.id]
    assert [one.queue_id for one in world.seen(MessageRemoved)] == [message.id]
    assert world.state(message) is DELETED
    world.receivers.behaviours.clear()
    world.receivers.log.clear()
    world.run(9 * DAY_S)
    assert message.id not in [id for _, id, _ in world.receivers.log]
    assert message.id not in [one.queue_id for one in world.seen(BounceQueued)]


@pytest.mark.parametrize("place", [in_backlog, fresh_and_waiting, without_a_look_up])
def test_expired_mail_goes_back_to_its_sender_in_one_record(place) -> None:
    world = World()
    message = place(world)
    before = world.spool.records
    answers = order(world, Kind.EXPIRE, message)
    world.run(0.005)  # less than the attempt to deliver the notification takes
    assert answers == {message.id: Answer.DONE}
    assert world.spool.records == before + 1
    assert world.state(message) is EXPIRED
    assert said(world, "expired") == [message.id]
    assert [one.queue_id for one in world.seen(MessageExpired)] == [message.id]
    assert [one.queue_id for one in world.seen(BounceQueued)] == [message.id]


def test_requeue_tries_at_once_with_the_attempts_of_new_mail() -> None:
    world = deferring()
    message = world.send(b"a@x.example")
    world.run(2_000)
    attempts = world.receivers.attempts["x.example"]
    assert attempts >= 2
    assert do(world, Kind.REQUEUE, message) == [Answer.DONE]
    assert said(world, "requeued") == [message.id]
    assert world.receivers.attempts["x.example"] == attempts + 1
    world.run(1)
    assert world.spool.rows[message.id].states[0].attempts == 1
    world.receivers.behaviours.clear()
    world.run(301 + 30)  # the first wait of new mail
    assert world.state(message) is DELIVERED


def test_requeue_reopens_what_failed_only_if_asked() -> None:
    world = World()
    message = world.store(b"a@x.example", b"b@x.example", b"c@x.example", due_in_s=900)
    message.states[1] = RecipientState(1, FAILED, 1, 0, "no such user")
    message.states[2] = RecipientState(2, DELIVERED, 1)
    message.pending = 1
    world.receivers.behaviours["x.example"] = answer(DEFERRED)
    assert do(world, Kind.REQUEUE, message) == [Answer.DONE]
    assert world.state(message, 1) is FAILED
    world.receivers.behaviours.clear()
    assert do(world, Kind.REQUEUE, message, with_failed=True) == [Answer.DONE]
    world.run(10)
    final = world.spool.final[message.id]
    assert {index: state.status for index, state in final.states.items()} == {
        0: DELIVERED,
        1: DELIVERED,
        2: DELIVERED,
    }
    assert sorted(job_of(world, message)) == ["x.example", "x.example"]  # once without, once with


def job_of(world: World, message: Message) -> list[str]:
    return [site for _, id, site in world.receivers.log if id == message.id]


def test_what_does_not_apply_changes_nothing() -> None:
    world = World()
    message = in_backlog(world)
    gone = world.send(b"b@y.example")
    world.run(1)
    records = world.spool.records
    assert do(world, Kind.RELEASE, message, gone) == [Answer.NOTHING, Answer.UNKNOWN]
    never = [Answer.NOTHING]
    assert do(world, Kind.DELETE, message, check=lambda _: False) == never
    assert world.spool.records == records
    assert do(world, Kind.HOLD, message) == [Answer.DONE]
    assert do(world, Kind.HOLD, message) == do(world, Kind.REQUEUE, message) == never
    assert message.id in world.spool.rows
    assert do(world, Kind.DELETE, message) == [Answer.DONE]


@pytest.mark.parametrize("kind", [Kind.HOLD, Kind.DELETE, Kind.EXPIRE, Kind.REQUEUE])
def test_an_attempt_under_way_ends_first(kind: Kind) -> None:
    world = deferring()
    world.receivers.latency_s["x.example"] = 5.0
    message = world.send(b"a@x.example")
    world.run(1.0)
    answers = order(world, kind, message)
    world.run(3.0)
    assert answers == {}
    (one,) = world.scheduler.explain.message(message.id)
    assert one.waiting is Waiting.ATTEMPT
    world.run(1.5)
    assert answers == {message.id: Answer.DONE}
    wanted = {Kind.HOLD: HELD, Kind.DELETE: DELETED, Kind.EXPIRE: EXPIRED, Kind.REQUEUE: QUEUED}
    assert world.state(message) is wanted[kind]
    stored = world.spool.held.get(message.id) or world.spool.rows.get(message.id)
    if stored is not None and kind is Kind.HOLD:
        assert stored.states[0].text == "mailbox full"
    world.run(100)
    tries = world.receivers.attempts["x.example"]
    assert tries == (2 if kind is Kind.REQUEUE else 1)


def test_an_attempt_that_succeeds_leaves_nothing_to_do() -> None:
    world = World()
    world.receivers.latency_s["x.example"] = 5.0
    message = world.send(b"a@x.example")
    answers = order(world, Kind.DELETE, message)
    world.run(6)
    assert answers == {message.id: Answer.NOTHING}
    assert world.state(message) is DELIVERED
    assert [one.queue_id for one in world.seen(MessageRemoved)] == [message.id]
    assert said(world, "removed") == []


def test_a_long_attempt_is_answered_and_the_order_stands() -> None:
    world = deferring()
    world.receivers.latency_s["x.example"] = 500.0
    message = world.send(b"a@x.example")
    answers = order(world, Kind.DELETE, message, wait_s=10.0)
    again = order(world, Kind.DELETE, message, wait_s=10.0)
    world.run(10.1)
    assert answers == again == {message.id: Answer.UNDER_WAY}
    world.run(500)
    assert world.state(message) is DELETED
    assert world.receivers.attempts["x.example"] == 1


def test_of_a_message_to_several_sites_nothing_more_starts() -> None:
    """One attempt is under way, one waits, one comes back from its site in trouble."""
    world = World(Options(recipients_per_job=1))
    world.receivers.latency_s.update({"x.example": 5.0, "y.example": 2.0, "z.example": 1.0})
    world.receivers.behaviours["z.example"] = fail_site(REFUSED)
    world.resolve_s = 0.5
    message = world.send(
        b"a@x.example", b"b@x.example", b"c@y.example", b"d@z.example", b"e@z.example"
    )
    world.run(1.0)
    answers = order(world, Kind.DELETE, message)
    world.run(20)
    assert answers == {message.id: Answer.DONE}
    final = world.spool.final[message.id]
    statuses = [final.states[index].status for index in range(5)]
    assert statuses == [DELIVERED, DELETED, DELIVERED, DELETED, DELETED]
    assert len(world.receivers.log) == 3
    assert world.scheduler.counts.ram_jobs == 0


def test_two_orders_for_one_message_come_one_after_the_other() -> None:
    world = World()
    message = in_backlog(world)
    world.spool.record_s = 0.2
    held = order(world, Kind.HOLD, message)
    world.run(0.1)
    released = order(world, Kind.RELEASE, message)
    deleted = order(world, Kind.DELETE, message)
    world.run(2.0)
    assert held == released == {message.id: Answer.DONE}
    assert list(deleted.values()) in ([Answer.DONE], [Answer.NOTHING])
    assert world.state(message) in (DELETED, DELIVERED)
    assert world.spool.held == {}


def test_many_are_done_and_mail_flows_meanwhile() -> None:
    world = World()
    messages = [in_backlog(world) for _ in range(500)]
    answers = order(world, Kind.HOLD, *messages)
    other = world.send(b"a@y.example")
    world.run(0.05)
    assert world.state(other) is DELIVERED
    world.run(1.0)
    assert answers == {message.id: Answer.DONE for message in messages}
    assert do(world, Kind.RELEASE, *messages) == [Answer.DONE] * 500
    world.run(60)
    assert {world.state(message) for message in messages} == {DELIVERED}


def test_the_record_of_many_recipients_stays_small() -> None:
    world = World()
    message = world.store(*(b"r%d@x.example" % n for n in range(5_000)), due_in_s=900)
    for index, state in message.states.items():
        message.states[index] = RecipientState(
            index, state.status, 1, state.due_at_ns, "450 later " * 50
        )
    assert do(world, Kind.HOLD, message) == [Answer.DONE]
    states = world.spool.rows[message.id].states.values()
    assert {state.status for state in states} == {HELD}
    assert 0 < sum(len(state.text) for state in states) <= 32 * 1024


def test_an_order_that_cannot_be_recorded_says_so() -> None:
    world = World()
    message = in_backlog(world)
    world.spool.error = OSError("no disk")
    assert do(world, Kind.DELETE, message) == [Answer.FAILED]
    assert len(world.halted) == 1


def test_a_drain_waits_for_the_record_and_orders_work_after_it() -> None:
    world = World()
    first, second = in_backlog(world), in_backlog(world)
    answers = order(world, Kind.HOLD, first)
    world.run(0.0021)
    idle: list[float] = []
    world.scheduler.drain(lambda: idle.append(world.agenda.now_s))
    assert idle == []
    world.run(0.1)
    assert answers == {first.id: Answer.DONE}
    assert len(idle) == 1
    assert do(world, Kind.DELETE, first, second) == [Answer.DONE] * 2


def test_next_due() -> None:
    world = World()
    assert world.scheduler.next_due_ns is None
    in_backlog(world)
    world.restart()
    assert world.scheduler.next_due_ns == world.agenda.wall_ns() + 900 * NS
    waiting = fresh_and_waiting(world)
    assert do(world, Kind.REQUEUE, waiting) == [Answer.DONE]
    left_ns = (world.scheduler.next_due_ns or 0) - world.agenda.wall_ns()
    assert 8 * NS < left_ns < 12 * NS, "when the pause of its site ends"
