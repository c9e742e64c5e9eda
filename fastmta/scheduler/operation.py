"""What an operator does to mail, durable before it is answered.

    kind      recipients                 become     and
    HOLD      neither final nor held     HELD       are not tried, and do not expire
    RELEASE   held                       QUEUED     are due now
    DELETE    not final                  DELETED    are final; nobody is told
    REQUEUE   neither final nor held     REQUEUED   are due now, as if never tried; so are, with
                                                    `with_failed`, those that have FAILED
    EXPIRE    not final                  EXPIRED    are given up as at the end of the lifetime: the
                                                    notification and the mark are one record
    FLUSH     deferred                   DEFERRED   are due now; nothing else of them changes

A message is claimed first: what waits of it leaves RAM, nothing of it starts, and what is under way
ends. Only then the operation applies to what is pending, so nothing is delivered after the answer.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeAlias

import msgspec

from fastmta.event import Notice
from fastmta.message import Message, RecipientState, RecipientStatus

from .engine import Engine
from .lifecycle import Lifecycle
from .residence import Party
from .table import Table

CHUNK = 100  # messages at once; withdrawing one from a long queue is slow
CHUNK_WITH_CONTENT = 10
WAIT_S = 10.0
# Texts of last outcomes in one record: with many recipients they are cut, so that the record is
# never larger than that of the message, which fitted into a segment.
TEXT_CHARACTERS_MAX = 32 * 1024
AGAIN_S = 0.05  # another operation, or an expiry, is being recorded


class Kind(enum.Enum):
    """What can be done; the values are the words of commands and of the control protocol."""

    HOLD = "hold"
    RELEASE = "release"
    DELETE = "delete"
    REQUEUE = "requeue"
    EXPIRE = "expire"
    FLUSH = "flush"


class Answer(enum.Enum):
    """What became of one message."""

    DONE = "done"  # and durable
    NOTHING = "nothing to do"  # no recipient in a state that the operation is for
    UNKNOWN = "no such message"  # or every recipient of it is final
    UNDER_WAY = "an attempt is under way"  # applied when that ends, if we live
    FAILED = "not recorded"  # and the worker ends: its spool cannot write


Told: TypeAlias = Callable[[bytes, Answer], None]
Check: TypeAlias = Callable[[Message], bool]


class Order(msgspec.Struct, frozen=True):
    """One operation, on any number of messages."""

    kind: Kind
    with_failed: bool = False  # REQUEUE only
    wait_s: float = WAIT_S  # how long the end of an attempt is waited for before the answer
    check: Check | None = None  # whether a message, as it is now, is meant at all


_TEXTS = {
    Kind.HOLD: "placed on hold",
    Kind.RELEASE: "released from hold",
    Kind.DELETE: "removed",
    Kind.REQUEUE: "requeued",
    Kind.EXPIRE: "expired",
    Kind.FLUSH: "",  # as at Postfix: the log tells of the attempts
}
_HELD = RecipientStatus.HELD
_DEFERRED = RecipientStatus.DEFERRED
_STATUS = {
    Kind.HOLD: _HELD,
    Kind.RELEASE: RecipientStatus.QUEUED,
    Kind.DELETE: RecipientStatus.DELETED,
    Kind.REQUEUE: RecipientStatus.REQUEUED,
    Kind.EXPIRE: RecipientStatus.EXPIRED,
    Kind.FLUSH: _DEFERRED,
}


def changes_of(order: Order, message: Message) -> list[RecipientState]:
    """What the operation changes in `message` as it is now."""
    kind, status = order.kind, _STATUS[order.kind]
    text_characters = TEXT_CHARACTERS_MAX // len(message.envelope.forward_paths)
    changes = []
    for index in range(len(message.envelope.forward_paths)):
        state = message.states.get(index) or RecipientState(index, RecipientStatus.QUEUED)
        is_held = state.status is _HELD
        if kind is Kind.RELEASE:
            is_meant = is_held
        elif kind is Kind.FLUSH:
            is_meant = state.status is _DEFERRED and state.due_at_ns > message.arrived_at_ns
        elif kind in (Kind.DELETE, Kind.EXPIRE):
            is_meant = not state.status.is_final
        else:
            is_meant = not (is_held or state.status.is_final)
        if order.with_failed and kind is Kind.REQUEUE:
            is_meant = is_meant or state.status is RecipientStatus.FAILED
        if is_meant:
            text = state.text[:text_characters]
            # A flush makes it due since it arrived, as mail that was never tried is.
            due_at_ns = message.arrived_at_ns if kind is Kind.FLUSH else 0
            changes.append(
                RecipientState(index, status, state.attempts, due_at_ns, text, state.is_warned)
            )
    return changes


class _Task:
    """One message of an order."""

    __slots__ = ("id", "is_told", "order", "told", "until_s")

    def __init__(self, order: Order, id: bytes, told: Told, until_s: float) -> None:
        self.order = order
        self.id = id
        self.told = told
        self.until_s = until_s
        self.is_told = False

    def answer(self, answer: Answer) -> None:
        """Tell, once."""
        if not self.is_told:
            self.is_told = True
            self.told(self.id, answer)

    def recorded(self, error: Exception | None) -> None:
        """The states are durable, or will never be."""
        self.answer(Answer.DONE if error is None else Answer.FAILED)


class Operations:
    """Carries orders out."""

    __slots__ = ("_engine", "_lifecycle", "_table")

    def __init__(self, engine: Engine, table: Table, lifecycle: Lifecycle) -> None:
        self._engine = engine
        self._table = table
        self._lifecycle = lifecycle

    def operate(self, order: Order, ids: Sequence[bytes], told: Told) -> None:
        """Do `order` to the messages `ids`; `told` is called once for each, when it is durable.

        Some at a time, so that mail goes on; all together are in the groups that the spool flushes
        meanwhile.
        """
        until_s = self._engine.ports.clock.monotonic_s() + order.wait_s
        tasks = [_Task(order, id, told, until_s) for id in dict.fromkeys(ids)]
        self._take(order, tasks)

    def _take(self, order: Order, tasks: list[_Task]) -> None:
        with_content = order.kind is Kind.EXPIRE  # a notification quotes the header section
        count = CHUNK_WITH_CONTENT if with_content else CHUNK
        now, rest = tasks[:count], tasks[count:]
        if now:
            done = partial(self._taken, order, now, rest)
            self._engine.ports.backlog.take([task.id for task in now], with_content, done)

    def _taken(
        self, order: Order, tasks: list[_Task], rest: list[_Task], messages: list[Message]
    ) -> None:
        self._take(order, rest)
        found = {message.id: message for message in messages}
        for task in tasks:
            message = found.get(task.id)
            if message is None:
                task.answer(Answer.UNKNOWN)
            else:
                self._begin(task, message)

    def _begin(self, task: _Task, message: Message) -> None:
        order, table, ports = task.order, self._table, self._engine.ports
        resident = table.residence.find(message.id)
        if isinstance(resident, Party) and resident.is_claimed:
            if ports.clock.monotonic_s() >= task.until_s:
                task.answer(Answer.UNDER_WAY)
            else:
                ports.timers.call_later(AGAIN_S, self._take, order, [task])
            return
        is_meant = order.check is None or order.check(message)
        if not is_meant or not changes_of(order, message):
            if resident is None:
                table.release(message)
            task.answer(Answer.NOTHING)
            return
        party = table.residence.claim(message)
        for job in list(party.jobs.values()):
            if table.withdraw(job):
                table.left(job)
        if party.jobs:
            party.on_alone = partial(self._apply, task, message)
            wait_s = max(0.0, task.until_s - ports.clock.monotonic_s())
            ports.timers.call_later(wait_s, task.answer, Answer.UNDER_WAY)
        else:
            self._apply(task, message)

    def _apply(self, task: _Task, message: Message) -> None:
        """Nothing of a claimed message is under way: change what is pending of it."""
        order = task.order
        changes = changes_of(order, message) if message.pending else []
        if not changes:
            self._lifecycle.let_go(message)
            task.answer(Answer.NOTHING)
            return
        text = _TEXTS[order.kind]
        events = (Notice("postsuper", text, queue_id=message.id),) if text else ()
        if order.kind is Kind.EXPIRE:
            indices = [change.index for change in changes]
            self._lifecycle.give_up(message, indices, events, task.recorded)
        else:
            self._lifecycle.decide(message, changes, events, task.recorded)
