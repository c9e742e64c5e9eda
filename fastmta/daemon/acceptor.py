"""How a message of a local program gets into the spool: nothing of it is attempted yet."""

from __future__ import annotations

import asyncio
import contextlib
import enum
import errno
from collections.abc import Awaitable, Callable
from typing import Any

from fastmta.drop.form import FormError
from fastmta.message import ContentFile, Message
from fastmta.scheduler import Scheduler
from fastmta.spool import Spool, SpoolFull

from .localmail import Prepared

_LOOK_S = 1.0  # whether a disk that is behind has caught up, besides being told


class Fate(enum.Enum):
    """What became of a message of a claimed letter."""

    OURS = "the spool has it"
    AGAIN = "the spool has it not: it is claimed anew"
    LEFT = "the spool may have it: the next start finds out"
    REFUSED = "it is in quarantine"


class Acceptor:
    """For one shard."""

    def __init__(
        self,
        shard: tuple[Spool, Scheduler],
        inline_octets: int,
        on_thread: Callable[..., Awaitable[Any]],  # Any: what the work returns
        refuse: Callable[[bytes, int, str], None],
        trouble: Callable[[Exception], None],
    ) -> None:
        """`refuse` puts a claim into quarantine; `trouble` hears of what may pass."""
        self._spool, self._scheduler = shard
        self._inline_octets = inline_octets
        self._on_thread = on_thread
        self._refuse = refuse
        self._trouble = trouble

    async def accept(self, prepared: Prepared) -> Fate:
        """Give a message to the spool, reserved in the scheduler."""
        message = prepared.message
        result: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()

        def done(_: Message, error: Exception | None) -> None:
            if not result.done():
                result.set_result(error)

        if prepared.pieces is not None or message.size_octets > self._inline_octets:
            problem = await self._spill(prepared)
            if problem is not None:
                return await self._fate(prepared, problem)
        self._scheduler.reserve(message)
        try:
            self._spool.accept(message, done)
            problem = await result
        except MemoryError as error:
            problem = error
        if problem is None:
            return Fate.OURS
        self._scheduler.forget(message)
        return await self._fate(prepared, problem)

    async def _fate(self, prepared: Prepared, problem: Exception) -> Fate:
        """What becomes of a letter that the spool does not have."""
        if isinstance(problem, FormError):
            letter = prepared.letter
            await self._on_thread(self._refuse, letter.id, letter.user_id, str(problem))
            return Fate.REFUSED
        self._trouble(problem)
        is_certain = isinstance(problem, SpoolFull | OSError | MemoryError)
        return Fate.AGAIN if is_certain else Fate.LEFT

    async def _spill(self, prepared: Prepared) -> Exception | None:
        """Move a large content to a file of the spool; what went wrong."""
        message, pieces = prepared.message, prepared.pieces
        caught_up = asyncio.Event()
        spill = self._spool.begin_big(message.id, caught_up.set)
        octets, message.content = message.content or b"", None
        finished: asyncio.Future[tuple[ContentFile | None, Exception | None]]
        finished = asyncio.get_running_loop().create_future()
        try:
            while octets:
                spill.write(octets)
                while spill.is_behind:
                    caught_up.clear()
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(caught_up.wait(), _LOOK_S)
                octets = b"" if pieces is None else await self._on_thread(pieces.next)
        except BaseException as problem:
            spill.abandon()
            if isinstance(problem, FormError | OSError):
                return problem
            raise
        spill.finish(lambda file, error: finished.set_result((file, error)))
        file, error = await finished
        if file is None:
            return error or OSError(errno.EIO, "its content could not be stored")
        message.file, message.size_octets = file, file.size_octets
        return None
