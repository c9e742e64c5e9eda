"""Operators' functions: loading, calling, and whatever they may do instead of answering."""

from __future__ import annotations

import asyncio
import functools
import sys
import threading
import types
from collections.abc import Iterator

import pytest

from fastmta.security import hook as room
from fastmta.security.hook import BadHook, Hook, describe, load_hook
from fastmta.security.threads import Failure, Threads
from tests.support.sasl import FakeLoop


@pytest.fixture
def module() -> Iterator[types.ModuleType]:
    """An importable module `hooks_of_a_test`."""
    made = types.ModuleType("hooks_of_a_test")
    sys.modules[made.__name__] = made
    yield made
    del sys.modules[made.__name__]


def check(login: str, password: str, address: str) -> bool:
    return (login, password, address) == ("alice", "secret", "192.0.2.1")


async def check_async(login: str, password: str, address: str) -> bool:
    await asyncio.sleep(0)
    return check(login, password, address)


class Callable:
    async def __call__(self, login: str, password: str, address: str) -> bool:
        return check(login, password, address)


def test_function_is_found(module: types.ModuleType) -> None:
    module.check = check
    assert load_hook("hooks_of_a_test:check") is check


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("hooks_of_a_test", "not of the form module:function"),
        ("hooks_of_a_test:", "not of the form module:function"),
        ("../x:y", "not of the form module:function"),
        ("no_such_module_here:check", "ModuleNotFoundError"),
        ("hooks_of_a_test:absent", "AttributeError"),
        ("hooks_of_a_test:number", "cannot be called"),
        ("hooks_of_a_test:short", "is called with"),
    ],
)
def test_what_cannot_be_a_hook_is_told(module: types.ModuleType, name: str, reason: str) -> None:
    module.number = 5
    module.short = lambda login, password: True
    with pytest.raises(BadHook, match=reason):
        load_hook(name)


def test_module_that_breaks_when_imported(
    tmp_path: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    with open(f"{tmp_path}/broken_hook_module.py", "w") as file:
        file.write("1 / 0\n")
    with pytest.raises(BadHook, match="ZeroDivisionError"):
        load_hook("broken_hook_module:check")


def run(function: object, *, timeout_s: float = 30.0, login: str = "alice") -> object:
    """What a hook answers on a real loop."""

    async def ask() -> object:
        loop = asyncio.get_running_loop()
        threads = Threads(loop, "test", 1, 4)
        hook = Hook(function, loop, threads, timeout_s)
        answer: asyncio.Future[object] = loop.create_future()
        hook.call(login, "secret", "192.0.2.1", answer.set_result)
        try:
            return await asyncio.wait_for(answer, 30)
        finally:
            hook.close()
            threads.close()

    return asyncio.run(ask())


@pytest.mark.parametrize(
    "function",
    [check, check_async, Callable(), functools.partial(check), functools.partial(check_async)],
    ids=["sync", "async", "object", "partial", "async-partial"],
)
def test_every_kind_of_function_answers(function: object) -> None:
    assert run(function) is True
    assert run(function, login="bob") is False


def failure(function: object, **options: float) -> str:
    outcome = run(function, **options)
    assert isinstance(outcome, Failure)
    return describe(outcome)


def test_exception_is_named_by_type_and_place_only() -> None:
    def broken(login: str, password: str, address: str) -> bool:
        raise RuntimeError(f"password was {password}")

    async def broken_async(login: str, password: str, address: str) -> bool:
        raise RuntimeError(f"password was {password}")

    for function in (broken, broken_async):
        text = failure(function)
        assert text.startswith("RuntimeError at ")
        assert "test_hook.py" in text
        assert "secret" not in text


def test_function_that_takes_too_long() -> None:
    gate = threading.Event()

    async def slow_async(login: str, password: str, address: str) -> bool:
        await asyncio.sleep(3600)
        return True

    assert failure(slow_async, timeout_s=0.01) == "no answer in time"
    assert failure(lambda *_: gate.wait(30), timeout_s=0.01) == "no answer in time"
    gate.set()


def test_function_that_cancels_itself_or_returns_a_coroutine() -> None:
    async def cancels(login: str, password: str, address: str) -> bool:
        raise asyncio.CancelledError

    assert failure(cancels).startswith("CancelledError at ")
    assert failure(lambda *fields: check_async(*fields)) == "TypeError"


def test_too_many_calls_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "CALLS_MAX", 2)

    async def ask() -> list[object]:
        loop = asyncio.get_running_loop()
        gate = threading.Event()

        async def wait(login: str, password: str, address: str) -> bool:
            while not gate.is_set():
                await asyncio.sleep(0.001)
            return True

        hook = Hook(wait, loop, Threads(loop, "test", 1, 1), 30.0)
        answers: list[object] = []
        for _ in range(3):
            hook.call("a", "b", "c", answers.append)
        assert [describe(one) for one in answers] == ["too many calls at once"]
        gate.set()
        while len(answers) < 3:
            await asyncio.sleep(0.001)
        hook.call("a", "b", "c", answers.append)  # there is room again
        while len(answers) < 4:
            await asyncio.sleep(0.001)
        hook.close()
        return answers[1:]

    assert asyncio.run(asyncio.wait_for(ask(), 30)) == [True] * 3


def test_too_many_calls_in_threads_and_a_cancelled_one() -> None:
    loop = FakeLoop()
    threads = Threads(loop, "test", 1, 1)
    gate = threading.Event()
    hook = Hook(lambda *_: gate.wait(30), loop, threads, 5.0)
    answers: list[object] = []
    cancel = hook.call("a", "b", "c", answers.append)
    hook.call("a", "b", "c", answers.append)
    hook.call("a", "b", "c", answers.append)
    assert [describe(one) for one in answers] == ["too many calls at once"]
    cancel()
    gate.set()
    loop.from_thread()
    loop.from_thread()
    assert answers[1:] == [True]
    assert loop.timers == []
    threads.close()


def test_answer_after_the_time_limit_is_not_given() -> None:
    loop = FakeLoop()
    threads = Threads(loop, "test", 1, 1)
    gate = threading.Event()
    hook = Hook(lambda *_: gate.wait(30), loop, threads, 5.0)
    answers: list[object] = []
    hook.call("a", "b", "c", answers.append)
    loop.advance(5)
    assert [describe(one) for one in answers] == ["no answer in time"]
    gate.set()
    loop.from_thread()
    assert len(answers) == 1
    threads.close()


def test_cancelled_call_is_not_answered() -> None:
    async def ask() -> list[object]:
        loop = asyncio.get_running_loop()
        hook = Hook(check_async, loop, Threads(loop, "test", 1, 1), 30.0)
        answers: list[object] = []
        hook.call("a", "b", "c", answers.append)()
        hook.call("a", "b", "c", answers.append)
        hook.close()
        await asyncio.sleep(0.01)
        return answers

    assert asyncio.run(ask()) == []


def test_coroutine_that_blocks_holds_up_nobody_else_and_is_given_up() -> None:
    """Two of them: the second is never begun, and given up as well."""
    gate = threading.Event()
    threads: list[str] = []

    async def blocks(login: str, password: str, address: str) -> bool:
        threads.append(threading.current_thread().name)
        return gate.wait(30)

    async def ask() -> list[object]:
        loop = asyncio.get_running_loop()
        hook = Hook(blocks, loop, Threads(loop, "test", 1, 1), 0.2)
        answers: list[object] = []
        began_s = loop.time()
        hook.call("a", "b", "c", answers.append)
        hook.call("a", "b", "c", answers.append)
        pauses_s = []
        while len(answers) < 2:
            before_s = loop.time()
            await asyncio.sleep(0.001)
            pauses_s.append(loop.time() - before_s)
        assert 0.2 <= loop.time() - began_s < 10
        assert len(pauses_s) > 20, "our loop went on"
        gate.set()
        hook.call("a", "b", "c", answers.append)
        while len(answers) < 3:
            await asyncio.sleep(0.001)
        hook.close()
        return answers

    told = asyncio.run(asyncio.wait_for(ask(), 30))
    assert [describe(one) if isinstance(one, Failure) else one for one in told] == [
        "no answer in time",
        "no answer in time",
        True,
    ]
    assert threads == ["auth-hook-loop"] * 2


def test_coroutine_given_up_is_cancelled_and_its_place_free_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(room, "CALLS_MAX", 1)
    ended: list[str] = []

    async def waits(login: str, password: str, address: str) -> bool:
        try:
            await asyncio.sleep(0 if login == "quick" else 3600)
        finally:
            ended.append(login)
        return True

    async def ask() -> None:
        loop = asyncio.get_running_loop()
        hook = Hook(waits, loop, Threads(loop, "test", 1, 1), 30.0)
        answers: list[object] = []
        for turn in range(20):
            cancel = hook.call("slow", "b", "c", answers.append)
            if turn % 2:
                await asyncio.sleep(0.002)  # else it is cancelled before it begins
            cancel()
            while hook._looping is None or hook._looping._owed_count:
                await asyncio.sleep(0.001)
        assert answers == []
        hook.call("quick", "b", "c", answers.append)
        while not answers:
            await asyncio.sleep(0.001)
        assert answers == [True]
        hook.close()

    asyncio.run(asyncio.wait_for(ask(), 30))
    assert "slow" in ended


def test_coroutine_that_ends_the_thread_does_not() -> None:
    async def leaves(login: str, password: str, address: str) -> bool:
        if login == "task":
            asyncio.get_running_loop().create_task(_exit())
            await asyncio.sleep(0.01)
            return True
        raise SystemExit(1)

    async def ask() -> list[object]:
        loop = asyncio.get_running_loop()
        hook = Hook(leaves, loop, Threads(loop, "test", 1, 1), 30.0)
        answers: list[object] = []
        for count, login in enumerate(("task", "alice", "task"), 1):
            hook.call(login, "b", "c", answers.append)
            while len(answers) < count:
                await asyncio.sleep(0.001)
        hook.close()
        return answers

    first, second, third = asyncio.run(asyncio.wait_for(ask(), 30))
    assert first is third is True
    assert isinstance(second, Failure)
    assert describe(second).startswith("SystemExit at ")


async def _exit() -> None:
    raise SystemExit(2)
