"""Attempts whose end is owed: each is reported once, whatever becomes of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import monotonic

from fastmta.event import Event, Notice, Severity
from fastmta.message import Outcome

from . import trouble
from .attempt import Attempt


class Account:
    """Calls each attempt's `done`, and tells an operator of what is our own fault."""

    __slots__ = ("_emit", "_loop", "owed_count")

    def __init__(self, emit: Callable[[Event], None], loop: asyncio.AbstractEventLoop) -> None:
        self._emit = emit
        self._loop = loop
        self.owed_count = 0  # attempts whose `done` is still owed

    def finish(self, attempt: Attempt) -> None:
        """Report, once, and not from within `start`."""
        if attempt.is_starting:
            self._loop.call_soon(self.finish, attempt)
            return
        done, attempt.done = attempt.done, None
        assert done is not None, "an attempt finished twice"
        self.owed_count -= 1
        if attempt.source is not None:
            attempt.source.close()
            attempt.source = None
        try:
            result = attempt.result(monotonic())
        except AssertionError as error:  # or the job would be waited for until the next start
            self.report(attempt, error)
            attempt.break_off(trouble.internal(type(error).__name__))
            result = attempt.result(monotonic())
        try:
            done(attempt.job, result)
        except Exception as error:  # not ours: the session goes on, the daemon decides about it
            text = "a callback of the courier raised"
            self._loop.call_exception_handler({"message": text, "exception": error})

    def settle(self, attempt: Attempt, outcome: Outcome) -> None:
        """Finish with one outcome for all that are open."""
        attempt.take_for_all(outcome)
        self.finish(attempt)

    def interrupt(self, attempt: Attempt) -> None:
        """Broken off by `close`. EGRESS scope: neither site nor message is to blame."""
        outcome = trouble.shut_down()
        attempt.break_off(outcome)
        attempt.trouble = outcome
        self.finish(attempt)

    def break_off(self, attempt: Attempt, error: Exception) -> None:
        """Our own failure: the mail waits, and an operator hears of it."""
        self.report(attempt, error)
        if attempt.done is not None:
            attempt.break_off(trouble.internal(type(error).__name__))
            self.finish(attempt)

    def report(self, attempt: Attempt | None, error: Exception) -> None:
        """An operator hears of our own failure."""
        text = f"internal error in delivery: {error!r}"
        queue_id = b"" if attempt is None else attempt.job.message.id
        self._emit(Notice("smtp", text, Severity.ERROR, queue_id))

    def report_content(self, attempt: Attempt, error: Exception | None) -> None:
        """An operator hears of a content that is damaged or out of reach."""
        text = f"content cannot be read: {error}"
        self._emit(Notice("smtp", text, Severity.ERROR, attempt.job.message.id))
