"""What one path may do now, from what its attempts met.

    state         CLEAN       DEAD          PAUSE_OVER
    OPEN          -           BACKING_OFF   -
    BACKING_OFF   OPEN        -             PROBING
    PROBING       OPEN        BACKING_OFF   -

CLEAN: an attempt without trouble, whatever the peer said about the message. DEAD: trouble that the
path does not survive, which is

* trouble with a window of 1 (see `Window`: three flights in a row from a window of 5), or
* nobody could be reached at all while nothing else was under way on this path: one refused
  connection among others that work only halves the window, the only one closes the path at once, or
* REFUSALS_MAX replies of one kind that refuse us, whatever the mail, without a clean attempt in
  between: who throttles us for an hour is not asked by forty connections first. Replies that there
  are too many connections do not count here, as fewer of them are the answer to that; nor do
  connections that were lost: twenty may die together, and work again at once, or
* trouble of the probe.

PAUSE_OVER: the pause ended; the next job is the probe, alone. If that is clean, two may go, then
four, until the window is what a path begins with (see `Window`). A pause is twice as long as the
one before it, until the window is back there or the path stayed open for longer than its last
pause: a site that takes one message and refuses the next is not asked every ten seconds for ever.

Trouble of attempts that started before the present state did is remembered as the cause and changes
nothing.
"""

from __future__ import annotations

import enum
from typing import Final

from fastmta.budget import Backoff, Window
from fastmta.message import Outcome, Scope
from fastmta.message.attempt import Job
from fastmta.message.category import Category

STRIKES_MAX = 3
SUSPECTS_MAX = 1_000
REFUSALS_MAX = 5
# What a peer says of how much we send; no message is to blame for that.
_PACE: Final = frozenset(
    (Category.SOFT_RATE, Category.SOFT_SENDER_QUOTA, Category.SOFT_TOO_MANY_CONNECTIONS)
)
NOBODY = "none"  # `Outcome.remote` when no peer was reached


class PathState(enum.Enum):
    """What a path may do."""

    OPEN = "open"
    BACKING_OFF = "backing off"
    PROBING = "probing"


class Signal(enum.Enum):
    """What changes the state of a path."""

    CLEAN = enum.auto()
    DEAD = enum.auto()
    PAUSE_OVER = enum.auto()


TRANSITIONS: Final = {
    (PathState.OPEN, Signal.DEAD): PathState.BACKING_OFF,
    (PathState.BACKING_OFF, Signal.CLEAN): PathState.OPEN,
    (PathState.BACKING_OFF, Signal.PAUSE_OVER): PathState.PROBING,
    (PathState.PROBING, Signal.CLEAN): PathState.OPEN,
    (PathState.PROBING, Signal.DEAD): PathState.BACKING_OFF,
}


class Health:
    """State, window and pauses of one path. `limit` is how many jobs may be under way now."""

    __slots__ = (
        "_backoff",
        "_pause_s",
        "_refusal",
        "_refusal_count",
        "_suspects",
        "cause",
        "clean_count",
        "limit",
        "reached_at_s",
        "resume_at_s",
        "since_s",
        "state",
        "trouble_count",
        "window",
    )

    def __init__(self, window: Window, backoff: Backoff) -> None:
        self.window = window
        self.state = PathState.OPEN
        self.limit = window.size
        self.cause: Outcome | None = None  # the last trouble
        self.since_s = float("-inf")  # when the state began
        self.reached_at_s = float("-inf")  # when the last attempt began that somebody answered
        self.resume_at_s = 0.0  # when BACKING_OFF
        self._backoff = backoff
        self._pause_s = 0.0  # the last one
        self.clean_count = 0  # attempts without trouble, and with it, since the path is known
        self.trouble_count = 0
        self._refusal = ""  # the kind of those that came last, without a clean attempt since
        self._refusal_count = 0
        self._suspects: dict[bytes, tuple[int, int]] = {}  # id: strikes, clean count then

    def clean(self, job: Job, in_flight: int) -> None:
        """An attempt of an open path met no trouble; `in_flight` counts it."""
        self.clean_count += 1
        self._refusal_count = 0
        self.reached_at_s = job.started_at_s
        if self._suspects:
            self._suspects.pop(job.message.id, None)
        window = self.window
        if window.is_recovering:
            window.clean(in_flight)
            self._forget_pauses()
        else:
            window.clean(in_flight)
        self.limit = window.size

    def reopen(self, now_s: float) -> None:
        """An attempt of a path that was not open met no trouble: it works again."""
        self.clean_count += 1
        self._refusal_count = 0
        self.reached_at_s = now_s
        self._suspects.clear()
        self.window.reopen()
        self._forget_pauses()
        self._change(Signal.CLEAN, now_s)

    def is_own_trouble(self, job: Job, trouble: Outcome) -> bool:
        """Whether the message itself is to blame for `trouble` that its attempt met.

        Some messages make a peer drop the connection. Such trouble burns no attempts, so one of
        them would be tried for ever and slow its path each time. After STRIKES_MAX troubles, with
        clean attempts of others after each, it is treated as refused for now.
        """
        if trouble.category in _PACE:
            return False
        id = job.message.id
        strikes, clean_count = self._suspects.get(id, (0, -1))
        if clean_count < self.clean_count:
            strikes += 1
        if strikes >= STRIKES_MAX:
            del self._suspects[id]
            return True
        if len(self._suspects) >= SUSPECTS_MAX:
            self._suspects.clear()
        self._suspects[id] = (strikes, self.clean_count)
        return False

    def trouble(self, job: Job, trouble: Outcome, others: int, now_s: float) -> bool:
        """An attempt met `trouble`; `others` are still under way. True: the path is dead."""
        self.cause = trouble
        self.trouble_count += 1
        if trouble.remote != NOBODY:
            self.reached_at_s = job.started_at_s
        if self.state is PathState.BACKING_OFF or job.started_at_s < self.since_s:
            return False
        if self.state is PathState.PROBING:
            return True
        is_unreached = trouble.remote == NOBODY or trouble.scope >= Scope.SITE
        if self.window.trouble(job.started_at_s, now_s) or (is_unreached and others == 0):
            return True
        if trouble.diagnostic and self._is_refusing(trouble):
            return True
        self.limit = self.window.size
        return False

    def _is_refusing(self, trouble: Outcome) -> bool:
        """Whether the peer has said the same thing often enough."""
        if trouble.category == Category.SOFT_TOO_MANY_CONNECTIONS:
            return False
        refusal = trouble.category or trouble.status
        if refusal != self._refusal:
            self._refusal, self._refusal_count = refusal, 0
        self._refusal_count += 1
        return self._refusal_count >= REFUSALS_MAX

    def die(self, now_s: float, random: float) -> float:
        """Begin a pause and return its length."""
        if self.state is PathState.OPEN and now_s - self.since_s > self._pause_s:
            self._backoff.reset()
        self._change(Signal.DEAD, now_s)
        self._refusal_count = 0
        pause_s = self._pause_s = self._backoff.next_s(random)
        self.resume_at_s = now_s + pause_s
        return pause_s

    def resized(self) -> None:
        """The limit of the window has changed."""
        if self.state is PathState.OPEN:
            self.limit = self.window.size

    def end_pause(self, now_s: float) -> None:
        """The pause is over."""
        self._change(Signal.PAUSE_OVER, now_s)

    def _forget_pauses(self) -> None:
        """The next pause is a short one, if the window is what a path begins with."""
        if not self.window.is_recovering:
            self._backoff.reset()

    def _change(self, signal: Signal, now_s: float) -> None:
        self.state = TRANSITIONS[self.state, signal]  # an entry that is absent is a bug
        self.since_s = now_s
        if self.state is PathState.OPEN:
            self.limit = self.window.size
        else:
            self.limit = 1 if self.state is PathState.PROBING else 0
