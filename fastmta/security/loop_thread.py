"""A thread with an event loop for coroutines of the operator: one that blocks holds up its own
kind, not our sessions.

It is a daemon and starts with the first work, as those of `threads.py` do.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, TypeVar

from .threads import Failure, Job

T = TypeVar("T")
Work = Coroutine[Any, Any, T]


class LoopThread:
    """Runs at most `owed_max` coroutines at once. Used from one loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop, name: str, owed_max: int) -> None:
        self._loop = loop
        self._name = name
        self._owed_max = owed_max
        self._owed_count = 0  # given to `run`, and not back from the thread
        self._is_open = True
        self._inner: asyncio.AbstractEventLoop | None = None  # the thread's
        self._tasks: dict[Job[Work[object]], asyncio.Task[object]] = {}  # the thread's, too

    def run(
        self, work: Callable[[], Work[T]], done: Callable[[T | Failure], None]
    ) -> Job[Any] | None:
        """Call and await `work` on the thread and then `done` on the loop, once; None: too many."""
        if not self._is_open or self._owed_count >= self._owed_max:
            return None
        self._owed_count += 1
        job: Job[Any] = Job(work, done)
        if self._inner is None:
            self._inner = asyncio.new_event_loop()
            self._inner.set_exception_handler(_ignore)
            threading.Thread(target=self._live, name=self._name, daemon=True).start()
        self._inner.call_soon_threadsafe(self._begin, job)
        return job

    def cancel(self, job: Job[Any]) -> None:
        """Nobody waits for it any more: the coroutine is cancelled, `done` is not called."""
        job.cancel()
        if self._is_open and self._inner is not None:
            self._inner.call_soon_threadsafe(self._cancel, job)

    def close(self) -> None:
        """Begin nothing more; what runs is cancelled, and its `done` is not called."""
        if self._is_open and self._inner is not None:
            self._inner.call_soon_threadsafe(self._inner.stop)
        self._is_open = False

    def _finish(self, job: Job[Any], result: object) -> None:
        self._owed_count -= 1
        if self._is_open:
            job.finish(result)

    # On the thread.

    def _live(self) -> None:
        loop = self._inner
        assert loop is not None
        asyncio.set_event_loop(loop)
        while self._is_open:
            try:
                loop.run_forever()
            except (SystemExit, KeyboardInterrupt):  # of a task that a hook left behind
                continue
        left = asyncio.all_tasks(loop)
        for task in left:
            task.cancel()
        if left:
            loop.run_until_complete(asyncio.wait(left, timeout=1.0))
        loop.close()

    def _begin(self, job: Job[Any]) -> None:
        assert self._inner is not None
        self._tasks[job] = task = self._inner.create_task(_outcome(job))
        task.add_done_callback(partial(self._ended, job))

    def _cancel(self, job: Job[Any]) -> None:
        task = self._tasks.get(job)
        if task is not None:
            task.cancel()

    def _ended(self, job: Job[Any], task: asyncio.Task[object]) -> None:
        del self._tasks[job]
        result = None if task.cancelled() else task.result()  # cancelled before it began
        try:
            self._loop.call_soon_threadsafe(self._finish, job, result)
        except RuntimeError:
            return  # the loop is closed


async def _outcome(job: Job[Any]) -> object:
    if job.is_cancelled:
        return None
    try:
        result: object = await job.work()
        return result
    except BaseException as error:  # also SystemExit, and CancelledError of its own
        return Failure(error)


def _ignore(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Something that a hook left behind failed: what it says may hold a password."""
