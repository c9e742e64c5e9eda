"""Slow and stuck hooks hold up nobody else, and what runs late reaches nobody."""

import asyncio
import gc
import random
import threading
import time
import weakref
from typing import Any

import pytest

from fastmta.session.port import HookArgument
from fastmta.smtp import Verb
from fastmta.smtp.reply import R250_OK
from tests.support.hooking import (
    CONTENT,
    R451,
    TRANSACTION,
    World,
    handler_with,
    with_hooks,
)


def test_waiting_hook_holds_up_nobody_else() -> None:
    """Also not when a hundred of them wait."""
    gate = threading.Event()

    async def behave(server: Any, session: Any, envelope: Any, arg: str) -> str:
        while arg == "slow" and not gate.is_set():
            await asyncio.sleep(0.01)
        return "250 done"

    async def scenario(world: World) -> None:
        slow = [asyncio.create_task(world.session().say(b"NOOP slow")) for _ in range(100)]
        await asyncio.sleep(0.05)
        for _ in range(20):
            assert await asyncio.wait_for(world.session().say(b"NOOP quick"), 5) == "250 done"
        assert not any(task.done() for task in slow)
        gate.set()
        assert await asyncio.gather(*slow) == ["250 done"] * 100

    with_hooks(handler_with("NOOP", lambda *arguments: behave(*arguments)), scenario)


@pytest.mark.parametrize("is_def", [True, False])
def test_blocking_hook_holds_up_nobody_else(is_def: bool) -> None:
    """A coroutine that blocks its loop, and a plain function: others answer meanwhile."""
    gate = threading.Event()

    def block(server: Any, session: Any, envelope: Any, arg: str) -> str:
        if arg == "slow":
            assert gate.wait(10)
        return "250 done"

    async def scenario(world: World) -> None:
        started = asyncio.get_running_loop().time()
        slow = [asyncio.create_task(world.session().say(b"NOOP slow")) for _ in range(4)]
        for _ in range(10):
            assert await asyncio.wait_for(world.session().say(b"NOOP quick"), 5) == "250 done"
        assert asyncio.get_running_loop().time() - started < 5
        assert not any(task.done() for task in slow)
        gate.set()
        assert await asyncio.gather(*slow) == ["250 done"] * 4

    handler = handler_with("NOOP", block)
    if is_def:
        handler.handle_NOOP = block
    with_hooks(handler, scenario, timeout_s=10.0)


def test_hook_that_blocks_for_good_costs_one_session_each() -> None:
    """Threads are lost to it, others are found, and all are told in time."""
    gate = threading.Event()

    def block(server: Any, session: Any, envelope: Any, arg: str) -> str:
        if arg == "stuck":
            gate.wait(20)
        return "250 done"

    async def scenario(world: World) -> None:
        for _ in range(3):
            assert await world.session().say(b"NOOP stuck") == R451
            assert await world.session().say(b"NOOP") == "250 done"
        assert len(world.notes) == 3
        stuck = [asyncio.create_task(world.session().say(b"NOOP stuck")) for _ in range(5)]
        assert await asyncio.gather(*stuck) == [R451] * 5  # no thread is left now
        assert await world.session().say(b"NOOP") == R451
        gate.set()
        async with asyncio.timeout(5):
            while await world.session().say(b"NOOP") != "250 done":
                pass

    with_hooks(handler_with("NOOP", block), scenario, timeout_s=0.25, threads=4)


def test_one_thread_runs_hooks_one_by_one() -> None:
    order: list[str] = []

    def block(server: Any, session: Any, envelope: Any, arg: str) -> str:
        order.append(f"begin {arg}")
        time.sleep(0.15)
        order.append(f"end {arg}")
        return "250 done"

    async def scenario(world: World) -> None:
        await asyncio.gather(*(world.session().say(b"NOOP %d" % n) for n in range(3)))

    with_hooks(handler_with("NOOP", block), scenario, threads=1)
    assert order == [f"{what} {n}" for n in range(3) for what in ("begin", "end")]


def test_handler_that_waits_keeps_its_loop() -> None:
    """Loops are changed only after a long block once a hook has waited for the first one."""
    loops = set()

    async def behave(server: Any, session: Any, envelope: Any, arg: str) -> str:
        loops.add(asyncio.get_running_loop())
        await asyncio.sleep(0)
        time.sleep(0.02)
        return "250 done"

    async def scenario(world: World) -> None:
        await asyncio.gather(*(world.session().say(b"NOOP") for _ in range(20)))

    with_hooks(handler_with("NOOP", lambda *arguments: behave(*arguments)), scenario)
    assert len(loops) == 1


def test_handler_that_waits_and_blocks_is_left_after_a_second() -> None:
    gate = threading.Event()

    async def behave(server: Any, session: Any, envelope: Any, arg: str) -> str:
        await asyncio.sleep(0)
        if arg == "slow":
            gate.wait(10)
        return "250 done"

    async def scenario(world: World) -> None:
        slow = asyncio.create_task(world.session().say(b"NOOP slow"))
        await asyncio.sleep(0.1)
        assert await asyncio.wait_for(world.session().say(b"NOOP quick"), 5) == "250 done"
        assert not slow.done()
        gate.set()
        assert await slow == "250 done"

    handler = handler_with("NOOP", lambda *arguments: behave(*arguments))
    with_hooks(handler, scenario, timeout_s=10.0)


def test_many_sessions_each_get_their_own_answers() -> None:
    """Some wait, some block, some raise, some hang, in any order."""
    chance = random.Random(7)

    async def behave(server: Any, session: Any, envelope: Any, arg: str) -> str:
        kind, number = arg.split(" ")
        session.count = getattr(session, "count", 0) + 1
        if kind == "wait":
            await asyncio.sleep(0.001 * int(number))
        elif kind == "block":
            time.sleep(0.002)
        elif kind == "raise":
            raise RuntimeError(arg)
        elif kind == "hang":
            await asyncio.Event().wait()
        return f"250 {arg} {session.count}"

    async def client(world: World, number: int) -> None:
        session = world.session()
        for count in range(1, 11):
            kind = chance.choice(["quick", "quick", "wait", "block", "raise", "hang"])
            said = await session.say(f"NOOP {kind} {number % 20}".encode())
            if kind in ("raise", "hang"):
                assert said == R451
                failed.append(kind)
            else:
                assert said == f"250 {kind} {number % 20} {count}"
        session.hook.ended()

    async def scenario(world: World) -> None:
        await asyncio.gather(*(client(world, number) for number in range(40)))

    failed: list[str] = []
    handler = handler_with("NOOP", lambda *arguments: behave(*arguments))
    world = with_hooks(handler, scenario, timeout_s=0.3)
    assert len(world.notes) == len(failed)
    assert sum("raised" in note for note in world.notes) == failed.count("raise")


def test_late_hook_does_not_reach_the_transaction() -> None:
    """It was given up, and what it does afterwards to its envelope is its own affair."""
    gate, finished = threading.Event(), threading.Event()

    class Late:
        async def handle_RCPT(self, server, session, envelope, address, options):
            if address.startswith("slow"):
                gate.wait(10)
                await server.push("250-from the past")
            envelope.rcpt_tos.append(address)
            if address.startswith("slow"):
                finished.set()
            return "250 OK"

    async def scenario(world: World) -> None:
        session = world.session()
        await session.play([b"EHLO a", b"MAIL FROM:<a@example.com>", b"RCPT TO:<one@example.com>"])
        assert await session.say(b"RCPT TO:<slow@example.com>") == R451
        gate.set()
        await asyncio.to_thread(finished.wait, 10)
        assert await session.say(b"RCPT TO:<two@example.com>") == "250 OK"
        assert (await session.say(b"DATA")).startswith("354")
        await session.content(CONTENT)

    world = with_hooks(Late(), scenario, timeout_s=0.2)
    assert [each.decode() for each in world.stored[0].envelope.forward_paths] == [
        "one@example.com",
        "two@example.com",
    ]


def test_client_that_leaves_ends_its_hook() -> None:
    ended = threading.Event()

    async def behave(*arguments: Any) -> str:
        try:
            await asyncio.sleep(60)
        finally:
            ended.set()
        return "250 done"

    async def scenario(world: World) -> None:
        session = world.session()
        told: list[Any] = []
        session.hook.ask(Verb.NOOP, HookArgument(b"", b"", (), R250_OK), told.append)
        await asyncio.sleep(0.02)
        session.hook.ended()
        assert await asyncio.to_thread(ended.wait, 5)
        await asyncio.sleep(0.02)
        assert told == []

    world = with_hooks(handler_with("NOOP", lambda *arguments: behave()), scenario)
    assert world.notes == []


def test_threads_and_content_are_gone_afterwards() -> None:
    kept: list[weakref.ref[Any]] = []

    def keep(server: Any, session: Any, envelope: Any) -> str:
        kept.append(weakref.ref(envelope))
        return "250 OK"

    async def scenario(world: World) -> None:
        session = world.session()
        await session.play(TRANSACTION[:6])
        await asyncio.sleep(0.02)
        gc.collect()
        assert kept[-1]() is None  # though session and hooks are still there

    before = threading.active_count()
    handler = handler_with("DATA", keep)
    with_hooks(handler, scenario)
    handler.handle_DATA = keep
    with_hooks(handler, scenario)
    until_s = time.monotonic() + 10.0
    while threading.active_count() > before and time.monotonic() < until_s:
        time.sleep(0.01)  # a thread that was told to end needs a processor for that
    assert threading.active_count() <= before


def test_session_that_fails_stops_nobody() -> None:
    """A callback of a session that raises is that session's defect only."""
    defects: list[Any] = []

    async def behave(server: Any, session: Any, envelope: Any, arg: str) -> str:
        if arg == "hang":
            await asyncio.sleep(60)
        return "250 done"

    def fail(reply: Any) -> None:
        raise RuntimeError("a defect")

    async def scenario(world: World) -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda loop, context: defects.append(context["exception"]))
        for _ in range(2):
            for arg in (b"hang", b""):
                world.session().hook.ask(Verb.NOOP, HookArgument(arg, b"", (), R250_OK), fail)
            assert await world.session().say(b"NOOP") == "250 done"
            assert await world.session().say(b"NOOP hang") == R451

    with_hooks(handler_with("NOOP", lambda *arguments: behave(*arguments)), scenario, timeout_s=0.1)
    assert [str(error) for error in defects] == ["a defect"] * 4
