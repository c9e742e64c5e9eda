"""A tail never holds up a worker, and says what it left out; nothing is kept when it has ended."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from functools import wraps
from typing import Any

import pytest

from fastmta.control import ErrorCode, Refusal, Request, Verb
from fastmta.control.station import Ticket
from fastmta.control.watch import TAILS_MAX, Tail, Watch, lines_with
from fastmta.event import Notice
from fastmta.journal import Journal, Origin
from fastmta.journal.journal import Outlets


def on_a_loop(test: Callable[[], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    """`test` as a function: Any is what nobody sends or receives."""

    @wraps(test)
    def run() -> None:
        asyncio.run(test())

    return run


def journal() -> Journal:
    return Journal(Outlets(), lambda: 1e9, Origin("relay.example", "postfix", 42))


def write(one: Journal, *texts: str) -> None:
    for text in texts:
        one.emit(Notice("qmgr", text))
    one.flush()


def test_lines_that_hold_a_text() -> None:
    block = b"one a\ntwo b\nthree a b\n"
    assert lines_with(block, [b"a"]) == b"one a\nthree a b\n"
    assert lines_with(block, [b"b", b"one"]) == block
    assert lines_with(block, [b"c"]) == b""


@on_a_loop
async def test_what_is_too_much_is_counted() -> None:
    tail = Tail([b"x"], octets_max=20)
    tail.add(b"x1\ny1\nx2\n", 3)
    tail.add(b"y\n" * 50, 50)
    tail.add(b"x" * 30 + b"\n", 1)
    tail.add(b"x3\n", 1)
    assert tail.take() == {"lines": "x1\nx2\nx3\n", "dropped": 1}
    assert tail.take() == {}


@on_a_loop
async def test_a_tail_is_told_what_is_written_until_it_is_cancelled() -> None:
    told: list[dict[str, Any]] = []  # Any: what JSON knows
    one = journal()
    write(one, "before")

    async def tell(value: dict[str, Any]) -> None:
        told.append(value)

    ticket = Ticket(Request(verb=Verb.TAIL), tell)
    watch = Watch(one, lambda: 0.001, 7)
    task = asyncio.ensure_future(watch.verbs[Verb.TAIL](ticket))
    await asyncio.sleep(0)
    write(one, "first", "second")
    await asyncio.sleep(0.05)
    assert told[0] == {"lines": "", "dropped": 0}
    (lines,) = [value["lines"] for value in told[1:]]
    assert [line.rpartition(" ")[2] for line in lines.split("\n")] == ["first", "second", ""]
    ticket.is_cancelled = True
    assert await task == {"is_cancelled": True}
    write(one, "after")
    assert len(told) == 2
    assert not one._taps


@on_a_loop
async def test_there_is_a_limit_to_readers_and_each_makes_room() -> None:
    one = journal()

    async def tell(value: dict[str, Any]) -> None:
        return None

    watch = Watch(one, lambda: 0.0, 0)
    tickets = [Ticket(Request(verb=Verb.TAIL), tell) for _ in range(TAILS_MAX)]
    tasks = [asyncio.ensure_future(watch.verbs[Verb.TAIL](ticket)) for ticket in tickets]
    await asyncio.sleep(0)
    with pytest.raises(Refusal) as refused:
        await watch.verbs[Verb.TAIL](Ticket(Request(verb=Verb.TAIL), tell))
    assert refused.value.code is ErrorCode.TEMPORARY
    tasks[0].cancel()
    await asyncio.gather(tasks[0], return_exceptions=True)
    last = Ticket(Request(verb=Verb.TAIL), tell)
    last.is_cancelled = True
    await watch.verbs[Verb.TAIL](last)
    for ticket in tickets:
        ticket.is_cancelled = True
    await asyncio.gather(*tasks, return_exceptions=True)
    assert not one._taps


@on_a_loop
async def test_counters_are_those_of_the_journal() -> None:
    one = journal()
    watch = Watch(one, lambda: 0.0025, 3)

    async def tell(value: dict[str, Any]) -> None:
        raise AssertionError

    found = await watch.verbs[Verb.COUNTERS](Ticket(Request(verb=Verb.COUNTERS), tell))
    assert (found["worker"], found["loop_lag_s"]) == (3, 0.0025)
    assert found["counters"] == one.counters.snapshot()
