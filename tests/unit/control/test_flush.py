"""A flush that nobody waits for is done, or refused; it is never forgotten."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from fastmta.control import Desk, Refusal
from fastmta.control.station import Ticket
from fastmta.control.wire import ErrorCode, Request, Verb


class Clock:
    """Stands still."""

    def wall_ns(self) -> int:
        return 0

    def monotonic_s(self) -> float:
        return 0.0


async def untold(_: dict[str, Any]) -> None:  # Any: what JSON knows
    """Nobody listens."""


async def flush(desk: Desk, domain: str) -> None:
    if domain:
        request = Request(verb=Verb.FLUSH, is_detached=True, filter=f"domain:{domain}")
    else:
        request = Request(verb=Verb.FLUSH, is_detached=True, all=True)
    await desk.answer(Ticket(request, untold))
    await asyncio.sleep(0)


def test_each_is_begun_or_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> list[str | None]:
        desk = Desk([], Clock())
        begun: list[str | None] = []
        may_end = asyncio.Event()

        async def operate(_: object, ticket: Ticket) -> dict[str, Any]:
            begun.append(ticket.request.filter)
            await may_end.wait()
            raise Refusal(ErrorCode.TEMPORARY, "the spool has failed")

        monkeypatch.setattr(desk, "_operate", operate)
        await flush(desk, "a.test")
        await flush(desk, "b.test")  # while the first is under way
        await flush(desk, "")
        await flush(desk, "")  # the same
        await flush(desk, "c.test")
        with pytest.raises(Refusal, match="flushes are under way"):
            await flush(desk, "d.test")
        may_end.set()
        await asyncio.sleep(0.01)
        assert desk.close() == []
        await flush(desk, "d.test")
        return begun

    assert asyncio.run(run()) == [
        "domain:a.test", "domain:b.test", None, "domain:c.test", "domain:d.test"
    ]  # fmt: skip
