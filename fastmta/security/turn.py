"""The promises of `Exchange`, kept for whatever mechanism is inside.

One answer to each step, none after `cancel`; a refusal not before a time that does not depend on
what was wrong (RFC 4954 4: a client must not learn from it which of name and password it was); a
defect of ours is UNAVAILABLE. What has ended stays so.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol

from fastmta.smtp.limit import AUTH_LINE_OCTETS_MAX
from fastmta.smtp.sasl import Done, Exchange, SaslStep, Verdict

from .hook import describe
from .step import locked, never_locked, refused, unavailable
from .threads import Failure
from .users import Warn

FLOOR_S: Final = 0.3  # from a step to its refusal
JITTER_S: Final = 0.1  # at most so much longer


class Timer(Protocol):
    """What a loop's `call_later` returns."""

    def cancel(self) -> None: ...


class Clock(Protocol):
    """As much of an event loop as is needed here."""

    def time(self) -> float: ...

    def call_later(
        self, delay: float, callback: Callable[[SaslStep], None], step: SaslStep, /
    ) -> Timer: ...


class Turns:
    """An exchange around another one."""

    __slots__ = (
        "_began_s", "_chance", "_clock", "_done", "_inner", "_is_locked", "_is_over", "_timer",
        "_warn",
    )  # fmt: skip

    def __init__(
        self,
        inner: Exchange,
        clock: Clock,
        chance: Callable[[], float],
        warn: Warn,
        is_locked: Callable[[str], bool] = never_locked,
    ) -> None:
        """`chance` gives numbers from 0 to 1; `is_locked` whether a login may not be used now."""
        self._inner = inner
        self._clock = clock
        self._chance = chance
        self._warn = warn
        self._is_locked = is_locked
        self._done: Done | None = None  # of the step under way
        self._timer: Timer | None = None
        self._began_s = 0.0
        self._is_over = False

    def step(self, response: bytes | None, done: Done) -> None:
        assert self._done is None, "no step while one is under way"
        if self._is_over:
            done(refused("the exchange is over"))
            return
        self._done = done
        self._began_s = self._clock.time()
        if response is not None and len(response) > AUTH_LINE_OCTETS_MAX:
            self._answered(refused("response too long"))
            return
        try:
            self._inner.step(response, self._answered)
        except Exception as error:
            self._warn(f"authentication: {describe(Failure(error))}")
            self._answered(unavailable("internal error"))

    def cancel(self) -> None:
        self._is_over = True
        self._done = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._inner.cancel()

    def _answered(self, step: SaslStep) -> None:
        if self._done is None or self._timer is not None:
            return
        if step.verdict is Verdict.ACCEPTED and self._is_locked(step.login):
            # In every respect like a wrong password, or a lock would tell of a right one.
            step = locked(step.login)
        self._is_over = self._is_over or step.verdict is not Verdict.CHALLENGE
        if step.verdict is not Verdict.REFUSED:
            self._give(step)
            return
        ends_s = self._began_s + FLOOR_S + JITTER_S * self._chance()
        delay_s = max(0.0, ends_s - self._clock.time())
        self._timer = self._clock.call_later(delay_s, self._give, step)

    def _give(self, step: SaslStep) -> None:
        self._timer = None
        done, self._done = self._done, None
        if done is not None:
            done(step)
