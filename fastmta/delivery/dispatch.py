"""The one way out: hands each attempt to the agent of its site's transport."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

import msgspec

from fastmta.event import Event, Notice, Severity
from fastmta.message import AttemptResult, Job, Outcome, OutcomeKind
from fastmta.route import Site
from fastmta.route.way import Way

from . import trouble
from .attempt import Done
from .courier import Courier
from .discard import discard
from .error import refuse
from .filing import FileAgent
from .hold import hold

_AT_ONCE: Final[dict[str, Callable[[Way], Outcome]]] = {
    "discard": discard,
    "error": refuse,
    "hold": hold,
}


class Dispatch:
    """Delivers by every transport; `start` promises one `done`, never from within itself."""

    def __init__(
        self,
        courier: Courier,
        files: FileAgent,
        emit: Callable[[Event], None],
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self._courier = courier
        self._files = files
        self._emit = emit
        self._loop = loop
        self._at_once_count = 0

    @property
    def connection_count(self) -> int:
        """Open connections, idle ones included."""
        return self._courier.connection_count

    @property
    def idle_count(self) -> int:
        """Sessions that wait for a message."""
        return self._courier.idle_count

    @property
    def running_count(self) -> int:
        """Attempts whose `done` is still owed."""
        return self._courier.running_count + self._files.running_count + self._at_once_count

    def start(self, job: Job, site: Site, done: Done) -> None:
        """Begin one attempt; never raises."""
        transport = site.way.transport
        if transport in ("smtp", "lmtp"):
            self._courier.start(job, site, done)
        elif transport == "file":
            self._files.start(job, site, done)
        else:
            self._at_once_count += 1
            self._loop.call_soon(self._answer, job, site.way, done)

    def close_idle(self, site: Site, done: Callable[[], None]) -> None:
        """Close every idle connection to `site`; then, on a later turn, call `done`."""
        if site.way.transport in ("smtp", "lmtp"):
            self._courier.close_idle(site, done)
        else:
            self._loop.call_soon(done)

    async def close(self, deadline_s: float) -> None:
        """Let running attempts end within `deadline_s` seconds, then break them off."""
        await asyncio.gather(self._courier.close(deadline_s), self._files.close(deadline_s))

    def _answer(self, job: Job, way: Way, done: Done) -> None:
        self._at_once_count -= 1
        agent = _AT_ONCE.get(way.transport)
        if agent is None:
            text = f"no transport is named {way.transport!r}"
            self._emit(Notice("qmgr", text, Severity.ERROR, job.message.id))
            outcome = trouble.internal(text)
        else:
            outcome = agent(way)
            if job.message.envelope.is_probe and outcome.kind is OutcomeKind.DELIVERED:
                outcome = msgspec.structs.replace(outcome, kind=OutcomeKind.DELIVERABLE)
        try:
            done(job, AttemptResult([outcome] * len(job.indices)))
        except Exception as error:  # not ours: the daemon decides about it
            text = "a callback of delivery raised"
            self._loop.call_exception_handler({"message": text, "exception": error})
