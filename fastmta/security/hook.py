"""An operator's function as the judge of passwords or tokens.

    def check(login: str, password: str, address: str) -> bool
    async def check_token(login: str, token: str, address: str) -> str | None

A coroutine function runs on the loop of a thread of its own, any other in one of several threads,
both within a time limit: neither holds up our loop. Whatever else it does than answer (raise,
return another type, take too long) makes the login unavailable, not refused. What it raised is
named by type and place, never by text: that may hold the password.
"""

from __future__ import annotations

import asyncio
import inspect
import pkgutil
import re
import traceback
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from .loop_thread import LoopThread
from .step import Cancel, nothing_to_cancel
from .threads import Failure, Job, Threads

CALLS_MAX: Final = 64  # of an asynchronous hook, at once
_NAME = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")

Outcome = object  # what the function returned, or a Failure; its type is checked by who asked
Answered = Callable[[Outcome], None]


class BadHook(ValueError):
    """A hook that cannot be used; the text says why."""


class TooManyCalls(Exception):
    """A call was not begun."""


def load_hook(name: str) -> Callable[..., object]:
    """The function `module:function`. Raises BadHook."""
    if _NAME.fullmatch(name) is None:
        raise BadHook(f"{name}: not of the form module:function")
    try:
        function: object = pkgutil.resolve_name(name)
    except Exception as error:  # the module's own code may raise anything
        raise BadHook(f"{name}: {type(error).__name__}: {error}") from error
    if not callable(function):
        raise BadHook(f"{name}: cannot be called")
    try:
        inspect.signature(function).bind("login", "secret", "address")
    except ValueError:
        return function  # compiled code may not tell
    except TypeError as error:
        raise BadHook(f"{name}: is called with (login, secret, address): {error}") from error
    return function


class Hook:
    """One function, called many times."""

    def __init__(
        self,
        function: Callable[..., object],
        loop: asyncio.AbstractEventLoop,
        threads: Threads,
        timeout_s: float,
    ) -> None:
        """`threads` are for a function that is no coroutine function."""
        self._function: Callable[..., Any] = function
        self._loop = loop
        self._threads = threads
        self._timeout_s = timeout_s
        is_method = inspect.iscoroutinefunction(type(function).__call__)
        is_async = inspect.iscoroutinefunction(function) or is_method
        self._looping = LoopThread(loop, "auth-hook-loop", CALLS_MAX) if is_async else None

    def call(self, login: str, secret: str, address: str, done: Answered) -> Cancel:
        """Call `done` once with what the function returned, or a Failure."""

        def finish(outcome: Outcome) -> None:
            timer.cancel()
            if inspect.iscoroutine(outcome):
                outcome.close()
                outcome = Failure(TypeError("a coroutine from a function that is not async"))
            done(outcome)

        def give_up() -> None:
            self._drop(job)
            done(Failure(TimeoutError()))

        def cancel() -> None:
            timer.cancel()
            self._drop(job)

        work = partial(self._function, login, secret, address)
        begun = (self._looping or self._threads).run(work, finish)
        if begun is None:
            done(Failure(TooManyCalls()))
            return nothing_to_cancel
        job: Job[Any] = begun
        timer = self._loop.call_later(self._timeout_s, give_up)
        return cancel

    def close(self) -> None:
        """Calls of a coroutine function under way end without an answer."""
        if self._looping is not None:
            self._looping.close()

    def _drop(self, job: Job[Any]) -> None:
        if self._looping is None:
            job.cancel()
        else:
            self._looping.cancel(job)


def describe(failure: Failure) -> str:
    """What an operator may read of it."""
    error = failure.error
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, TooManyCalls):
        return "too many calls at once"
    frames = traceback.extract_tb(error.__traceback__)
    place = f" at {frames[-1].filename}:{frames[-1].lineno}" if frames else ""
    return f"{type(error).__name__}{place}"
