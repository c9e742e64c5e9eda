"""A reload, as the supervisor sees to it: tried first, agreed to by every worker, then in use.

    stage       what goes on                                         ends with
    IDLE        nothing
    TRYING      a process reads and tries the configuration          problems, or what it read
    PREPARING   workers make what they need of it                    a problem, or COMMITTING
    COMMITTING  workers put it in the place of what they had         the answer
    ROLLING     workers are replaced one after the other             the answer

Until COMMITTING or ROLLING nothing has changed. A worker that starts, or dies, meanwhile starts
with what is in use then, or reads the same packets when it is ready. Whoever asks while a reload is
under way waits for the next one, which begins after it: its file may be newer.
"""

from __future__ import annotations

import enum
import os
import socket
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeAlias

import msgspec

from fastmta.config.difference import difference

from . import order
from .effect import Effect, for_start, worst
from .inbound import renew_inbound
from .mail_log import reloaded
from .order import Answer, Place, Plan
from .present import Present
from .rehearsal import Rehearsal
from .sockets import BadStart, fresh_of, open_sockets

ANSWER_S = 30.0  # of a worker, to a PREPARE or a COMMIT
_PROBLEMS_SHOWN = 1_000
_OF_TLS = ("tls", "listen", "hostname")

Told: TypeAlias = Callable[[dict[str, Any]], None]  # Any: what JSON knows


class Stage(enum.Enum):
    """How far a reload has come."""

    IDLE = "idle"
    TRYING = "the configuration is tried"
    PREPARING = "workers prepare"
    COMMITTING = "workers take it up"
    ROLLING = "workers are replaced"


class Member(Protocol):
    """A worker."""

    index: int
    pid: int  # 0: not running
    is_ready: bool
    orders: socket.socket | None


class Staff(Protocol):
    """The workers, of whoever starts and stops them."""

    def members(self) -> Sequence[Member]:
        """All of them."""

    def end(self, index: int) -> None:
        """Let this one end, and start it again at once."""

    def forked(self) -> None:
        """In a new process that only tries: close what is not for it."""

    def renewed(self) -> None:
        """`Present` is another one: there may be other sockets."""


class Reloading:
    """One reload at a time."""

    def __init__(self, present: Present, staff: Staff) -> None:
        self.stage = Stage.IDLE
        self.count = 0  # that came to their end, well
        self.last: dict[str, Any] = {}  # what the latest came to
        self._present = present
        self._staff = staff
        self._asking: list[Told] = []
        self._told: list[Told] = []  # of the one under way
        self._rehearsal: Rehearsal | None = None
        self._generation = 0
        self._next: Present | None = None
        self._old: Present | None = None  # while workers are replaced
        self._keys: list[str] = []
        self._warnings: list[str] = []
        self._waiting: dict[int, int] = {}  # who has not answered yet: index to pid
        self._until_s = 0.0
        self._rest: list[int] = []  # who is to be replaced
        self._replaced: tuple[int, int] | None = None  # who is being replaced: index and old pid
        self._failure: list[str] = []  # why workers are replaced back

    def ask(self, told: Told) -> None:
        """Reload; `told` is called once, with what it came to."""
        self._asking.append(told)
        if self.stage is Stage.IDLE:
            self._begin()

    def close(self) -> None:
        """The server stops: nothing more is changed."""
        if self._rehearsal is not None:
            self._rehearsal.give_up()
        if self.stage is Stage.PREPARING:
            self._abort()
        for told in (*self._told, *self._asking):
            told({"problems": ["the server stops"], "changed": []})
        self._told, self._asking = [], []
        self.stage = Stage.IDLE

    def forked(self) -> None:
        """In a new process: close listening sockets that are not in use, or not any more.

        Else they would go on to listen when everybody else has closed them, and nobody would answer
        who connects.
        """
        others = [one.bound for one in (self._next, self._old) if one is not None]
        for bound in (self._present.inherited, *others):
            for each in fresh_of(bound, self._present.bound):
                for one in each.sockets:
                    one.close()

    def wait_s(self) -> float:
        """How long the next `look` may be put off if nothing happens."""
        if self.stage is Stage.TRYING and self._rehearsal is not None:
            return self._rehearsal.wait_s
        if self.stage in (Stage.PREPARING, Stage.COMMITTING):
            return max(0.0, self._until_s - time.monotonic())
        return 3600.0

    def ended(self, pid: int, status: int) -> bool:
        """A process has ended. True: it was ours."""
        rehearsal = self._rehearsal
        if rehearsal is None or rehearsal.pid != pid:
            return False
        self._rehearsal = None
        config, said = rehearsal.verdict(status)
        if self.stage is Stage.TRYING:
            if config is None:
                self._fail(said)
            else:
                self._warnings = said
                self._keys = difference(self._present.config, config)
                self._prepare(self._present.after(config))
        return True

    def worker_ended(self, index: int, pid: int, is_bad_start: bool) -> None:
        """A worker has ended; `is_bad_start`: it could not begin with its configuration.

        However a new one ended before it served, the next would most likely do the same: a reload
        that waited for it would never end, and nor would those that are to come after it.
        """
        replaced = self._replaced
        is_it = self.stage is Stage.ROLLING and replaced is not None and replaced[0] == index
        if is_it and replaced != (index, pid) and not self._failure:
            why = "could not start with it, and has said why"
            self._roll_back(index, why if is_bad_start else "ended before it served")

    def look(self) -> None:
        """Go on, if that is possible."""
        if self.stage is Stage.TRYING and self._rehearsal is not None:
            if not self._rehearsal.wait_s:
                self._rehearsal.give_up()
        elif self.stage in (Stage.PREPARING, Stage.COMMITTING):
            self._hear()
        elif self.stage is Stage.ROLLING:
            self._roll()

    # Stages

    def _begin(self) -> None:
        self._told, self._asking = self._asking, []
        self.stage = Stage.TRYING
        self._rehearsal = Rehearsal(self._present.again, self._staff.forked)

    def _prepare(self, new: Present) -> None:
        """Everything of it is there, and every worker agrees, before anything is changed."""
        old = self._present
        try:
            new.bound = open_sockets(new.config.listen, new.count, old.kept)
        except BadStart as error:
            self._fail([new.config.located(line) for line in str(error).split("\n")])
            return
        self._next = new
        try:
            if any(key.split(".")[0] in _OF_TLS for key in self._keys):
                new.inbound = renew_inbound(new.config, old.inbound)
        except BadStart as error:
            self._refuse([new.config.located(line) for line in str(error).split("\n")])
            return
        if worst(self._keys) is Effect.WORKER:
            self._start_rolling()
            return
        self._generation += 1
        self.stage = Stage.PREPARING
        self._send_plan(new)
        self._wait_for_answers()

    def _send_plan(self, new: Present) -> None:
        opened = {each.key for each in fresh_of(new.bound, self._present.bound)}
        places, fds = [], []
        for each in new.bound:
            own = [one.fileno() for one in each.sockets] if each.key in opened else []
            places.append(Place(each.name, each.address, each.path, each.key, len(own)))
            fds += own
        plan = Plan(self._generation, tuple(places))
        config_fd = order.pack_config(new.config)
        for member in self._staff.members():
            if member.orders is not None and not order.send_plan(
                member.orders, plan, config_fd, fds
            ):
                self._staff.end(member.index)  # it begins anew with what is in use then
        os.close(config_fd)

    def _wait_for_answers(self) -> None:
        """Of those who serve; who is starting answers when it is ready, and nobody waits."""
        members = self._staff.members()
        self._waiting = {one.index: one.pid for one in members if one.pid and one.is_ready}
        self._until_s = time.monotonic() + ANSWER_S
        self._hear()

    def _hear(self) -> None:
        problems = []
        for member in self._staff.members():
            if member.pid != self._waiting.get(member.index, 0):
                self._waiting.pop(member.index, None)  # it has died
                continue
            for answer in _answers(member):
                is_ours = answer.generation == self._generation
                if is_ours and answer.is_done is (self.stage is Stage.COMMITTING):
                    self._waiting.pop(member.index, None)
                    if answer.problem:
                        problems.append(answer.problem)
        if self.stage is Stage.PREPARING and problems:
            self._abort()
            self._refuse([self._located(line) for text in problems for line in text.split("\n")])
        elif not self._waiting:
            self._proceed()
        elif time.monotonic() >= self._until_s:
            self._overdue()

    def _overdue(self) -> None:
        """Somebody does not answer: it is not well, and must not hold up the others."""
        for index in list(self._waiting):
            sys.stderr.write(f"fastmta: worker {index} does not answer; it is replaced\n")
            self._staff.end(index)
        self._waiting = {}
        self._proceed()

    def _proceed(self) -> None:
        if self.stage is Stage.COMMITTING:
            self._succeed()
            return
        old = self._take_over()
        self.stage = Stage.COMMITTING
        for member in self._staff.members():
            body = order.number(self._generation)
            if member.orders is not None and not order.send(member.orders, order.COMMIT, body):
                self._staff.end(member.index)
        old.leave(self._present)
        self._wait_for_answers()

    def _take_over(self) -> Present:
        """What is next is present from now on, also for workers that start; what was."""
        assert self._next is not None
        old = self._present.copy()
        self._present.become(self._next)
        self._next = None
        self._staff.renewed()
        for each in fresh_of(self._present.bound, old.bound):
            self._say(f"reload: listen.{each.name} on {each.address}")
        for each in fresh_of(old.bound, self._present.bound):
            self._say(f"reload: nobody listens on {each.address} any more")
        return old

    # Replacing workers

    def _start_rolling(self) -> None:
        self._old = self._take_over()
        self._rest = [member.index for member in self._staff.members()]
        self._replaced, self._failure = None, []
        self.stage = Stage.ROLLING
        self._roll()

    def _roll(self) -> None:
        members = {member.index: member for member in self._staff.members()}
        if self._replaced is not None:
            index, pid = self._replaced
            member = members[index]
            if member.pid == pid or not member.is_ready:
                return
            self._replaced = None
            self._tell({"replaced": len(members) - len(self._rest), "of": len(members)})
        if not self._rest:
            assert self._old is not None
            self._old.leave(self._present)
            self._old = None
            if self._failure:
                problems, self._failure = self._failure, []
                self._fail(problems)
            else:
                self._succeed()
            return
        index = self._rest.pop(0)
        self._replaced = (index, members[index].pid)
        self._staff.end(index)

    def _roll_back(self, index: int, why: str) -> None:
        """What the trial could not find, a worker has: what was is present again."""
        self._failure = [f"worker {index} {why}"]
        not_begun = {*self._rest, index}
        assert self._old is not None
        new = self._present.copy()
        self._present.become(self._old)
        self._old = new
        self._staff.renewed()
        members = self._staff.members()
        self._rest = [one.index for one in members if one.index not in not_begun]
        self._replaced = (index, -1)  # it starts again by itself

    # The end

    def _abort(self) -> None:
        for member in self._staff.members():
            if member.orders is not None:
                order.send(member.orders, order.ABORT, order.number(self._generation))

    def _refuse(self, problems: list[str]) -> None:
        """Forget what was made for it."""
        assert self._next is not None
        self._next.leave(self._present)
        self._next = None
        self._fail(problems)

    def _located(self, line: str) -> str:
        return line if self._next is None else self._next.config.located(line)

    def _fail(self, problems: list[str]) -> None:
        for problem in problems:
            self._say(f"reload: {problem}", is_bad=True)
        self._say("reload: the configuration is refused; nothing has changed", is_bad=True)
        self._end({"problems": problems[:_PROBLEMS_SHOWN], "changed": []})

    def _succeed(self) -> None:
        self.count += 1
        waiting = for_start(self._keys)
        for warning in self._warnings:
            self._say(f"reload: warning: {warning}", is_bad=True)
        self._log(reloaded(self._present.config))
        what = ", ".join(self._keys[:20]) or "no key"
        self._say(f"reload: done, {what} changed" + (", ..." if len(self._keys) > 20 else ""))
        if waiting:
            self._say(f"reload: {', '.join(waiting)}: only a restart takes that up", is_bad=True)
        self._end(
            {
                "problems": [],
                "warnings": self._warnings,
                "changed": self._keys,
                "for_restart": waiting,
                "replaced_workers": worst(self._keys) is Effect.WORKER,
            }
        )

    def _end(self, result: dict[str, Any]) -> None:
        self.stage = Stage.IDLE
        self.last = {**result, "at": round(time.time(), 3)}
        self._warnings = []
        told, self._told = self._told, []
        for one in told:
            one(result)
        if self._asking:
            self._begin()

    def _tell(self, progress: dict[str, Any]) -> None:
        for one in self._told:
            one({"progress": progress})

    def _say(self, text: str, is_bad: bool = False) -> None:
        """On standard error, and in the log, by a worker that lives."""
        sys.stderr.write(f"fastmta: {text}\n")
        sys.stderr.flush()
        self._log(text, is_bad)

    def _log(self, text: str, is_bad: bool = False) -> None:
        for member in self._staff.members():
            if member.is_ready and member.orders is not None:
                body = msgspec.json.encode([text, is_bad])
                if order.send(member.orders, order.TELL, body):
                    return


def _answers(member: Member) -> list[Answer]:
    """What a worker has said."""
    found = []
    while member.orders is not None:
        try:
            data = member.orders.recv(64 * 1024)
        except OSError:
            break
        if not data:
            break
        found.append(msgspec.json.decode(data, type=Answer))
    return found
