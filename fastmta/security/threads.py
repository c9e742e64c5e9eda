"""A few threads for what must not run on the event loop: hashes, and hooks that block.

The threads are daemons and start with the first work: one that never comes back delays no exit,
and nothing is started before a fork.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Generic, TypeVar

T = TypeVar("T")


class Failure:
    """Work ended with an exception."""

    __slots__ = ("error",)

    def __init__(self, error: BaseException) -> None:
        self.error = error


class Job(Generic[T]):
    """One piece of work. `cancel` from the loop only: `done` is not called any more."""

    __slots__ = ("_done", "work")

    def __init__(self, work: Callable[[], T], done: Callable[[T | Failure], None]) -> None:
        self.work = work
        self._done: Callable[[T | Failure], None] | None = done

    @property
    def is_cancelled(self) -> bool:
        return self._done is None

    def cancel(self) -> None:
        """Nobody waits for it: it is not begun if it has not been."""
        self._done = None

    def finish(self, result: T | Failure) -> None:
        """On the loop: hand the result over."""
        done, self._done = self._done, None
        if done is not None:
            done(result)


class Threads:
    """A bounded queue in front of a fixed number of threads. Used from one loop."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, name: str, count: int, waiting_max: int
    ) -> None:
        self._loop = loop
        self._name = name
        self._count = count
        self._owed_max = count + waiting_max
        self._owed_count = 0  # given to `run`, and not back from a thread
        self._queue: SimpleQueue[Job[object] | None] = SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._is_open = True

    def run(self, work: Callable[[], T], done: Callable[[T | Failure], None]) -> Job[T] | None:
        """Call `work` in a thread and then `done` on the loop, once; None: too much is waiting."""
        if not self._is_open or self._owed_count >= self._owed_max:
            return None
        self._owed_count += 1
        if len(self._threads) < min(self._count, self._owed_count):
            self._start()
        job = Job(work, done)
        self._queue.put(job)  # type: ignore[arg-type]  # a Job of anything is put, none is read
        return job

    def close(self) -> None:
        """Begin nothing more; what runs ends by itself, and its `done` is not called."""
        self._is_open = False
        for _ in self._threads:
            self._queue.put(None)

    def _start(self) -> None:
        number = len(self._threads) + 1
        thread = threading.Thread(target=self._work, name=f"{self._name}-{number}", daemon=True)
        self._threads.append(thread)
        thread.start()

    def _work(self) -> None:
        """The life of one thread."""
        while (job := self._queue.get()) is not None and self._is_open:
            result: object = None
            if not job.is_cancelled:
                try:
                    result = job.work()
                except BaseException as error:  # also SystemExit: the thread is ours, not theirs
                    result = Failure(error)
            try:
                self._loop.call_soon_threadsafe(self._finish, job, result)
            except RuntimeError:
                return  # the loop is closed

    def _finish(self, job: Job[object], result: object) -> None:
        self._owed_count -= 1
        if self._is_open:
            job.finish(result)
