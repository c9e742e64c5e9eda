"""Whether a message can be taken now: never 5xx for a shortage of our own."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from fastmta.daemon.intake import Intake
from fastmta.daemon.pressure import Limits, Pressure, Readings
from fastmta.message import ClientIdentity, Envelope, Message
from fastmta.session import ContentRoom, Spill

KIB, MIB = 1 << 10, 1 << 20
MESSAGE = Message(
    b"0" * 16, Envelope(b"a@x.example", (b"b@y.example",), ClientIdentity("::1", "x")), b"x\r\n", 1
)


class Store:
    """A spool that answers as it is told."""

    def __init__(self) -> None:
        self.is_healthy = True
        self.error: Exception | None = None

    def new_id(self) -> bytes:
        return b"0" * 16

    def begin_big(self, id: bytes, caught_up: Callable[[], None]) -> Spill:
        raise NotImplementedError

    def accept(self, message: Message, done: Callable[[Message, Exception | None], None]) -> None:
        if self.error is not None:
            raise self.error
        done(message, None)


class World:
    """An intake under readings of the test's choice."""

    def __init__(self) -> None:
        self.store = Store()
        self.pressure = Pressure(Limits())
        self.room = ContentRoom(MIB)
        self.accepted: list[Message] = []
        self.intake = Intake(
            self.store,
            self.accepted.append,
            self.pressure,
            self.room,
            message_octets_max=10 * MIB,
            large_octets=512 * KIB,
        )

    def code(self, declared_octets: int = 0) -> int:
        reply = self.intake.refusal(declared_octets)
        return reply.code if reply else 250


@pytest.mark.parametrize(
    ("free", "small", "large"), [(0.5, 250, 250), (0.1, 250, 452), (0.05, 452, 452), (0, 452, 452)]
)
def test_states_decide_about_sizes(free: float, small: int, large: int) -> None:
    world = World()
    world.pressure.note(Readings(volume_free=free), 1.0)
    assert (world.code(), world.code(KIB), world.code(513 * KIB)) == (small, small, large)


def test_a_spool_that_failed_is_451() -> None:
    world = World()
    world.store.is_healthy = False
    assert world.code() == 451


def test_contents_under_way_reserve_room_on_the_volume() -> None:
    world = World()
    world.pressure.note(Readings(volume_octets=30 * MIB), 1.0)
    assert world.code() == 250  # 15 MiB may come of it
    world.room.octets_expected = 10 * MIB  # somebody sends without having said how much
    assert world.code() == 250
    assert world.code(11 * MIB) == 452
    world.room.octets_expected = 15 * MIB
    assert world.code() == 452, "half as much again as 25 MiB"
    assert world.code(KIB) == 250, "a small one that says so still fits"


def test_no_memory_is_451_for_that_message_only() -> None:
    world = World()
    world.store.error = MemoryError()
    errors: list[Exception | None] = []
    world.intake.accept(MESSAGE, lambda message, error: errors.append(error))
    assert isinstance(errors[0], MemoryError)
    assert world.accepted == []
    world.store.error = None
    world.intake.accept(MESSAGE, lambda message, error: errors.append(error))
    assert errors[1] is None
    assert world.accepted == [MESSAGE]
