"""The loop of hooks makes the first step of a task at once: what that rests on still holds."""

import asyncio
import contextvars
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest

from fastmta.hooks.thread import Call, EagerLoop

NAME: contextvars.ContextVar[str] = contextvars.ContextVar("name", default="")


@pytest.fixture
def loop() -> Iterator[EagerLoop]:
    made = EagerLoop()
    yield made
    made.run_until_complete(made.shutdown_asyncgens())
    made.close()


def start(
    loop: EagerLoop, body: Callable[[], Coroutine[Any, Any, Any]]
) -> tuple[Call, asyncio.Task[Any]]:
    """On the running loop, as the hooks' threads do it."""

    def nobody(outcome: Any) -> None: ...

    async def ignored(call: Call) -> None: ...

    call = Call(ignored, contextvars.copy_context(), nobody)
    kept: list[asyncio.Task[Any]] = []

    def begin() -> None:
        kept.append(loop.start(call, body()))
        loop.stop()

    loop.call_soon(begin)
    loop.run_forever()
    assert call.task is kept[0]
    return call, kept[0]


def test_first_step_is_made_at_once(loop: EagerLoop) -> None:
    steps: list[Any] = []

    async def body() -> int:
        NAME.set("set")
        steps.append(asyncio.current_task())
        return 5

    def begin() -> None:
        call = Call(lambda _: body(), contextvars.copy_context(), steps.append)
        task = loop.start(call, body())
        assert task.done()
        assert task.result() == 5
        assert steps == [task]
        assert call.context[NAME] == "set"
        assert NAME.get() == ""
        assert asyncio.current_task(loop) is None
        steps.append("over")
        loop.stop()

    loop.call_soon(begin)
    loop.run_forever()
    assert steps[-1] == "over"


def test_what_waits_goes_on_as_any_task(loop: EagerLoop) -> None:
    seen: list[Any] = []

    async def body() -> str:
        for number in range(3):
            NAME.set(NAME.get() + "x")
            seen.append((number, asyncio.current_task()))
            await asyncio.sleep(0)
        return NAME.get()

    call, task = start(loop, body)
    assert not task.done()
    assert seen == [(0, task)]
    assert loop.run_until_complete(task) == "xxx"
    assert seen == [(number, task) for number in range(3)]
    assert call.context[NAME] == "xxx"


def test_exceptions_and_cancelling_are_the_task_s(loop: EagerLoop) -> None:
    async def fails() -> None:
        raise KeyError("x")

    _, task = start(loop, fails)
    assert isinstance(task.exception(), KeyError)

    async def waits() -> None:
        await asyncio.sleep(3600)

    _, task = start(loop, waits)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        loop.run_until_complete(task)


def test_only_the_first_step_is_caught(loop: EagerLoop) -> None:
    """Tasks and callbacks that a body begins take their turn, as on any loop."""
    order: list[str] = []

    async def inner() -> None:
        order.append("inner")

    async def body() -> None:
        loop.call_soon(order.append, "soon")
        task = loop.create_task(inner())
        order.append("body")
        await task

    _, task = start(loop, body)
    assert order[0] == "body"
    loop.run_until_complete(task)
    assert order == ["body", "soon", "inner"]
    loop.call_soon(order.append, "later")
    loop.run_until_complete(inner())
    assert order[-2:] == ["later", "inner"]
