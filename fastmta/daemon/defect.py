"""What happens when a callback raises: a defect of ours, after which nobody calls again.

An exception that comes out of the scheduler leaves jobs in memory that nothing will ever move. The
log has them all, so the worker ends and its successor reads them back. Whatever else raises (one
session, one look-up) is told, and the others go on.
"""

import asyncio
from collections.abc import Callable
from traceback import walk_tb
from typing import Any

_SCHEDULER = "fastmta.scheduler"


def halt_on_defect(loop: asyncio.AbstractEventLoop, on_halt: Callable[[str], None]) -> None:
    """Call `on_halt` with the reason when an exception on `loop` came out of the scheduler."""

    def handle(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:  # Any: asyncio's
        loop.default_exception_handler(context)
        error = context.get("exception")
        if isinstance(error, BaseException) and _came_through_scheduler(error):
            on_halt(f"internal error in the scheduler: {error!r}")

    loop.set_exception_handler(handle)


def _came_through_scheduler(error: BaseException) -> bool:
    rooms = (frame.f_globals.get("__name__", "") for frame, _ in walk_tb(error.__traceback__))
    return any(room == _SCHEDULER or room.startswith(_SCHEDULER + ".") for room in rooms)
