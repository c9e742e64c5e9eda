"""A defect in the scheduler ends the worker; one elsewhere is told, and the others go on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
import uvloop

from fastmta.daemon.defect import halt_on_defect
from fastmta.daemon.intake import Done, Intake
from fastmta.daemon.pressure import Limits, Pressure
from fastmta.message import ClientIdentity, Envelope, Message
from fastmta.scheduler.due import DueTimes
from fastmta.session import ContentRoom, Spill


class Clock:
    stepped_at_s = float("-inf")

    def wall_ns(self) -> int:
        return 0

    def monotonic_s(self) -> float:
        return 0.0


def broken(*_: object) -> None:
    raise RuntimeError("broken")


def halts_after(start: Callable[[asyncio.AbstractEventLoop], None]) -> list[str]:
    halts: list[str] = []

    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        halt_on_defect(loop, halts.append)
        start(loop)
        await asyncio.sleep(0.05)

    uvloop.run(scenario())
    return halts


def test_a_timer_of_the_scheduler_that_raises_halts() -> None:
    def start(loop: asyncio.AbstractEventLoop) -> None:
        hop: Any = type("Hop", (), {"due_at_ns": None, "mail_due_ns": None})()
        DueTimes(Clock(), loop, broken).note(hop, 0)

    assert halts_after(start) == ["internal error in the scheduler: RuntimeError('broken')"]


def test_another_callback_that_raises_is_only_told(caplog: pytest.LogCaptureFixture) -> None:
    assert halts_after(lambda loop: loop.call_soon(broken) and None) == []
    assert "broken" in caplog.text


class Store:
    """Durable at once."""

    is_healthy = True

    def new_id(self) -> bytes:
        return b"1"

    def begin_big(self, id: bytes, caught_up: Callable[[], None]) -> Spill:
        raise NotImplementedError

    def accept(self, message: Message, done: Done) -> None:
        done(message, None)


def test_a_session_that_fails_at_its_250_does_not_leave_its_message_unscheduled() -> None:
    scheduled: list[Message] = []
    intake = Intake(
        Store(),
        scheduled.append,
        Pressure(Limits()),
        ContentRoom(1),
        message_octets_max=1,
        large_octets=1,
    )
    message = Message(b"1", Envelope(b"", (b"a@b.example",), ClientIdentity()), b"", 0)
    with pytest.raises(RuntimeError):
        intake.accept(message, broken)
    assert scheduled == [message]
