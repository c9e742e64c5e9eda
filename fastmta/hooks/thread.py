"""The threads that run what others wrote: event loops for coroutines, workers for what blocks."""

from __future__ import annotations

import asyncio
import contextvars
import queue
import threading
from collections import deque
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, TypeAlias

# What a call came to: its value, or what ended it.
Outcome: TypeAlias = tuple[Any, BaseException | None]

Deliver: TypeAlias = Callable[["Call", Outcome], None]

_TURN_S = 0.005  # for starting calls, before the loop looks at what else there is


class Call:
    """One piece of work, on its way through a thread.

    `is_over` belongs to the worker's thread: once set, nobody waits for the outcome any more.
    """

    __slots__ = ("body", "context", "deadline_s", "done", "is_away", "is_over", "task", "thread")

    def __init__(
        self,
        body: Callable[[Call], Coroutine[Any, Any, Any]],
        context: contextvars.Context,
        done: Callable[[Outcome], None],
    ) -> None:
        self.body = body
        self.context = context
        self.done = done
        self.deadline_s = 0.0
        self.is_over = False
        self.is_away = False  # it waits for something of ours, not of the handler's
        self.task: asyncio.Task[Any] | None = None
        self.thread: HookThread | None = None

    def end(self) -> Callable[[Outcome], None]:
        """It is over: let go of everything, and return whom to tell."""
        self.is_over = True
        done, self.done = self.done, _ignore
        self.body = _nothing  # it may lie in the inbox of a stuck thread for long
        return done


async def _nothing(call: Call) -> None:
    """The body of a call that was over before it began."""


def _ignore(outcome: Outcome) -> None:
    """Whom to tell when nobody waits."""


class EagerLoop(asyncio.SelectorEventLoop):
    """A loop that can make the first step of a task at once, without a turn of its own.

    Most hooks never wait, and then a turn of the loop, with its look at the sockets, is most of
    what they cost: 4 us a call instead of 12 (8 when sixteen share the turns), measured where this
    was written. It rests on a new task calling `call_soon` exactly once, with its first step;
    `asyncio.eager_task_factory` does the same from Python 3.12 on, and we run on 3.11, too.
    """

    _first_step: Callable[[], object] | None = None
    _is_catching = False

    def start(self, call: Call, body: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """A task for `body`, as far as it gets without waiting. Not from within a task."""
        self._is_catching = True
        call.task = task = asyncio.Task(body, loop=self, context=call.context)
        step, self._first_step = self._first_step, None
        assert step is not None
        call.context.run(step)
        return task

    def call_soon(  # type: ignore[override]  # what its arguments are is nothing to us
        self, callback: Any, *arguments: Any, context: Any = None
    ) -> asyncio.Handle:
        """As ever; but the first step of a new task is kept for `start`."""
        if not self._is_catching:
            return super().call_soon(callback, *arguments, context=context)
        self._is_catching = False
        self._first_step = partial(callback, *arguments)
        return asyncio.Handle(callback, arguments, self, context)


class HookThread:
    """One thread with one event loop of its own; starts calls in order, each in a task.

    A call that blocks keeps all others of this thread waiting, but the ones that are not started
    can be taken back with `take_waiting`.
    """

    def __init__(self, number: int, deliver: Deliver, complain: Callable[[str], None]) -> None:
        self.loop = EagerLoop()
        self.loop.set_exception_handler(self._on_stray_error)
        self.asked_at_s: float | None = None  # when it was asked whether it is alive, unanswered
        self.is_stuck = False
        self.has_suspended = False  # some call has waited for this loop: it may hold state of it
        self.count = 0  # calls handed over and not over; kept by the worker's thread
        self._deliver = deliver
        self._complain = complain
        self._inbox: deque[Call] = deque()
        self._is_waking = False  # `wake` will be called
        self._is_woken = False
        self._is_closing = False
        self._thread = threading.Thread(target=self._run, name=f"hooks-{number}", daemon=True)
        self._prepare: Callable[[], None] | None = None

    def start(self, prepare: Callable[[], None] | None = None) -> None:
        """Begin; `prepare` runs first, on the thread, with the loop set but not running."""
        self._prepare = prepare
        self._thread.start()

    # On the worker's thread.

    def post(self, call: Call) -> bool:
        """Start `call` after those before it; whether `wake` has to be called for that, once."""
        call.thread = self
        self.count += 1
        self._inbox.append(call)
        is_first, self._is_waking = not self._is_waking, True
        return is_first

    def wake(self) -> None:
        """Look into the inbox."""
        self._is_waking = False
        if not self._is_woken:
            self._is_woken = True
            self.loop.call_soon_threadsafe(self._next)

    def ask(self, now_s: float) -> None:
        """Find out whether it runs: `asked_at_s` is None again once it has."""
        self.asked_at_s = now_s
        self.loop.call_soon_threadsafe(self._alive)

    def take_waiting(self) -> list[Call]:
        """Calls that have not been started; they are not this thread's any more."""
        taken = []
        while self._inbox:
            try:
                call = self._inbox.popleft()
            except IndexError:  # it has just woken up and was quicker
                break
            if not call.is_over:
                taken.append(call)
        self.count -= len(taken)
        return taken

    def cancel(self, call: Call) -> None:
        """Nobody waits for `call` any more."""
        self.loop.call_soon_threadsafe(_cancel, call)

    def close(self) -> None:
        """Cancel what is under way and end the thread, unless something blocks it."""
        self._is_closing = True
        self.loop.call_soon_threadsafe(self.loop.stop)

    def join(self, timeout_s: float) -> None:
        """Wait for its end."""
        self._thread.join(timeout_s)

    # On the thread itself.

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        if self._prepare is not None:
            self._prepare()
            asyncio.set_event_loop(self.loop)  # whatever the handler's constructor did
        while not self._is_closing:
            try:
                self.loop.run_forever()
            except BaseException as error:  # SystemExit of a task that the handler left behind
                self._complain(f"a hook's own task ended with {type(error).__name__}")
        left = asyncio.all_tasks(self.loop)
        for task in left:
            task.cancel()
        if left:
            self.loop.run_until_complete(asyncio.wait(left, timeout=1.0))
        self.loop.run_until_complete(self.loop.shutdown_asyncgens())
        self.loop.close()

    def _next(self) -> None:
        """Start what waits, one call after the other, for a while."""
        loop = self.loop
        until_s = loop.time() + _TURN_S
        self._is_woken = False  # before the look into the inbox: what is posted later wakes again
        while True:
            try:
                call = self._inbox.popleft()
            except IndexError:
                return
            if call.is_over:
                continue
            task = loop.start(call, call.body(call))
            if task.done():  # most hooks have no need to wait
                self._ended(call, task)
            else:
                self.has_suspended = self.has_suspended or not call.is_away
                task.add_done_callback(partial(self._ended, call))
            if loop.time() >= until_s:
                loop.call_soon(self._next)
                return

    def _ended(self, call: Call, task: asyncio.Task[Any]) -> None:
        if task.cancelled():
            outcome: Outcome = (None, asyncio.CancelledError())
        elif (error := task.exception()) is not None:
            outcome = (None, error)
        else:
            outcome = (task.result(), None)
        call.task = None  # it would keep its result alive
        self._deliver(call, outcome)

    def _alive(self) -> None:
        self.asked_at_s = None
        self.is_stuck = False

    def _on_stray_error(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Something that a hook left behind failed, and nobody waits for it."""
        error = context.get("exception")
        what = type(error).__name__ if error is not None else str(context.get("message"))
        self._complain(f"something that a hook left behind failed: {what}")


def _cancel(call: Call) -> None:
    if call.task is not None:
        call.task.cancel()


class BlockingPool:
    """Threads for functions that block: at most `size`, begun when needed.

    The threads do not keep the process from ending: a function that never returns must not.

    Not `security`'s pool, which `hooks` may not import and which would not do: that one belongs to
    one loop, refuses work above a bound and calls back. Here coroutines of several loops wait, in
    their own contexts, and there are no more of them than sessions that ask.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._jobs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._threads = 0
        self._idle = 0

    async def run(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Call `function` on a thread, in the caller's context; its value or its exception."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Outcome] = loop.create_future()
        context = contextvars.copy_context()

        def job() -> None:
            if future.cancelled():
                return
            try:
                outcome: Outcome = (context.run(function, *arguments), None)
            except BaseException as error:
                outcome = (None, error)
            try:
                loop.call_soon_threadsafe(settle, future, outcome)
            except RuntimeError:  # the loop is closed: nobody waits
                return

        self._submit(job)
        value, error = await future
        if error is not None:
            raise error
        return value

    def close(self) -> None:
        """Let idle threads end."""
        with self._lock:
            threads, self._size = self._threads, 0
        for _ in range(threads):
            self._jobs.put(None)

    def _submit(self, job: Callable[[], None]) -> None:
        with self._lock:
            begins = self._idle == 0 and self._threads < self._size
            if begins:
                self._threads += 1
            elif self._idle:
                self._idle -= 1
        self._jobs.put(job)
        if begins:
            threading.Thread(target=self._work, name="hooks-blocking", daemon=True).start()

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            job()
            del job  # it would keep the last message alive
            with self._lock:
                self._idle += 1


def settle(future: asyncio.Future[Any], value: Any) -> None:
    """Give a future its result, unless nobody waits for it any more. On its loop's thread."""
    if not future.done():
        future.set_result(value)
