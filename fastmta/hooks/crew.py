"""All threads of the hooks of one worker, watched from the worker's event loop."""

from __future__ import annotations

import asyncio
import contextvars
import math
import threading
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any

from .handler import Hook
from .port import Report
from .thread import BlockingPool, Call, HookThread, Outcome, settle

_TICK_S = 0.05  # how often calls under way are looked at
# A thread that does not answer for so long is stuck: what waits for it goes to another one. The
# larger one holds for handlers that have waited for their loop: they may keep things that work on
# that loop only.
_STUCK_S = 0.05
_STUCK_WAITING_S = 1.0
_START_S = 60.0  # for the handler to be made
_JOIN_S = 1.0  # for all threads to end


class TooSlow(Exception):
    """A call was not over in time."""


class Crew:
    """Runs calls off the worker's loop, each within `timeout_s`, and tells their outcome on it.

    Coroutines run on the first thread's loop as long as nothing blocks it, so a handler sees one
    loop. At most `size` threads of each kind.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, size: int, timeout_s: float, report: Report
    ) -> None:
        self._loop = loop
        self._size = size
        self._timeout_s = timeout_s
        self._report = report
        self._threads: list[HookThread] = []
        self._pool = BlockingPool(size)
        self._calls: dict[Call, None] = {}  # not over yet
        self._said: deque[Callable[[], None]] = deque()  # for the worker's loop
        self._is_called = False
        self._is_ticking = False
        self._is_closed = False

    def start(self, prepare: Callable[[], None]) -> None:
        """Begin the first thread and run `prepare` on it; whatever it raises is raised here."""
        finished = threading.Event()
        errors: list[BaseException] = []

        def guarded() -> None:
            try:
                prepare()
            except BaseException as error:
                errors.append(error)
            finally:
                finished.set()

        self._begin_thread(guarded)
        if not finished.wait(_START_S):
            self._threads[0].is_stuck = True
            self.close()
            raise TooSlow(f"not ready in {_START_S:.0f} s")
        if errors:
            self.close()
            raise errors[0]

    def close(self) -> None:
        """Cancel all calls, whose outcome is not told any more, and end the threads."""
        self._is_closed = True
        self._calls.clear()
        self._pool.close()
        for thread in self._threads:
            thread.close()
        until_s = self._loop.time() + _JOIN_S
        for thread in self._threads:
            if not thread.is_stuck:
                thread.join(max(0.0, until_s - self._loop.time()))
        self._threads.clear()

    # On the worker's loop.

    def begin(
        self,
        body: Callable[[Call], Coroutine[Any, Any, Any]],
        context: contextvars.Context,
        done: Callable[[Outcome], None],
    ) -> Call:
        """Run `body` and tell `done` its outcome; TooSlow when its time is over."""
        call = Call(body, context, done)
        if self._is_closed:
            self._loop.call_soon(done, (None, TooSlow("the server stops")))
            return call
        call.deadline_s = self._loop.time() + self._timeout_s
        self._calls[call] = None
        self._post(self._pick(), call)
        if not self._is_ticking:
            self._is_ticking = True
            self._loop.call_later(_TICK_S, self._tick)
        return call

    def drop(self, call: Call) -> None:
        """Nobody waits for `call` any more: it is cancelled and its outcome is not told."""
        if call in self._calls:
            self._end(call)
            assert call.thread is not None
            call.thread.cancel(call)

    def resolve(self, future: asyncio.Future[Any], value: Any) -> None:
        """Set the result of a future that a call waits for on its own loop."""
        if not self._is_closed:
            future.get_loop().call_soon_threadsafe(settle, future, value)

    def hold(self, call: Call, is_held: bool) -> None:
        """Stop the clock of `call`, or start it anew."""
        call.deadline_s = math.inf if is_held else self._loop.time() + self._timeout_s

    def _pick(self) -> HookThread:
        free = self._free()
        return self._threads[0] if free is None else free

    def _post(self, thread: HookThread, call: Call) -> None:
        if thread.post(call):  # one waking for all that this turn of our loop brings
            self._loop.call_soon(_wake, thread)

    def _free(self) -> HookThread | None:
        for thread in self._threads:
            if not thread.is_stuck:
                return thread
        return self._begin_thread(None) if len(self._threads) < self._size else None

    def _begin_thread(self, prepare: Callable[[], None] | None) -> HookThread:
        thread = HookThread(len(self._threads), self._deliver, self._complain)
        self._threads.append(thread)
        thread.start(prepare)
        return thread

    def _end(self, call: Call) -> Callable[[Outcome], None]:
        del self._calls[call]
        assert call.thread is not None
        call.thread.count -= 1
        return call.end()

    def _tick(self) -> None:
        """Calls whose time is over, and threads that are stuck."""
        if self._is_closed:
            return
        now_s = self._loop.time()
        for call in [each for each in self._calls if each.deadline_s <= now_s]:
            # On a turn of its own: whatever a session does with it, we go on ticking.
            self._loop.call_soon(self._time_out, call)
        for thread in self._threads:
            asked_at_s = thread.asked_at_s
            if asked_at_s is None:
                thread.is_stuck = False
                if thread.count:
                    thread.ask(now_s)
            else:
                limit_s = _STUCK_WAITING_S if thread.has_suspended else _STUCK_S
                thread.is_stuck = now_s - asked_at_s >= limit_s
        self._move_waiting()
        self._is_ticking = bool(self._calls)
        if self._is_ticking:
            self._loop.call_later(_TICK_S, self._tick)

    def _time_out(self, call: Call) -> None:
        if call in self._calls:
            thread = call.thread
            self._end(call)((None, TooSlow(f"no answer within {self._timeout_s:g} s")))
            if thread is not None and not self._is_closed:
                thread.cancel(call)  # last: its objects are not the session's any more

    def _move_waiting(self) -> None:
        """What a stuck thread has not begun goes to one that is free."""
        for thread in [each for each in self._threads if each.is_stuck and each.count]:
            free = self._free()
            if free is None:
                return
            for call in thread.take_waiting():
                self._post(free, call)

    def _finish(self, call: Call, outcome: Outcome) -> None:
        if call in self._calls:
            self._end(call)(outcome)

    def _give(self) -> None:
        self._is_called = False
        try:
            while self._said:
                self._said.popleft()()
        finally:
            if self._said and not self._is_called:
                self._is_called = True
                self._loop.call_soon(self._give)

    # On any thread.

    def say(self, what: Callable[[], None]) -> None:
        """Call `what` on the worker's loop, soon."""
        self._said.append(what)
        if self._is_called:
            return
        self._is_called = True
        try:
            self._loop.call_soon_threadsafe(self._give)
        except RuntimeError:  # the worker's loop is closed: it does not want to know any more
            self._said.clear()

    def _deliver(self, call: Call, outcome: Outcome) -> None:
        self.say(lambda: self._finish(call, outcome))

    def _complain(self, text: str) -> None:
        self.say(lambda: self._report(text))

    async def apply(self, call: Call, hook: Hook, *arguments: Any) -> Any:
        """Call a hook as its kind wants it: a coroutine here, what blocks in the pool."""
        if not hook.is_blocking:
            return await hook.call(*arguments)
        call.is_away = True
        value = await self._pool.run(hook.call, *arguments)
        return await value if hasattr(value, "__await__") else value


def _wake(thread: HookThread) -> None:
    try:
        thread.wake()
    except RuntimeError:  # closed meanwhile
        return
