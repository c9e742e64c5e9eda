"""What requests are answered with: a shard, a ticket, and how to wait for the spool."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple, TypeAlias

from fastmta.message.situation import Situation
from fastmta.scheduler import Scheduler
from fastmta.spool import Spool
from fastmta.spool.search import Page

from .wire import ErrorCode, Refusal, Request

Result: TypeAlias = dict[str, Any]  # Any: what JSON knows
Tell: TypeAlias = Callable[[Result], Awaitable[None]]

SLOW_S = 30.0


class Station(NamedTuple):
    """One shard, and who delivers from it."""

    number: int
    spool: Spool
    scheduler: Scheduler

    @property
    def situation(self) -> Situation:
        """Where its mail stands just now."""
        return self.scheduler.standing.situation


class Ticket:
    """A request under way. Whoever gave it may cancel it: it then ends between two steps."""

    def __init__(self, request: Request, tell: Tell) -> None:
        self.request = request
        self.tell = tell
        self.is_cancelled = False
        self.patience_s = SLOW_S  # with a client that does not read


def sound(page: Page) -> Page:
    """`page`, if the spool could be read. Raises Refusal."""
    if page.error is not None:
        raise Refusal(ErrorCode.TEMPORARY, str(page.error))
    return page


async def wait_for(start: Callable[..., None]) -> Any:  # Any: whatever `done` is called with
    """Call `start(done=...)`; what `done` was called with."""
    future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    def done(value: object) -> None:
        if not future.done():
            future.set_result(value)

    start(done=done)
    return await future
