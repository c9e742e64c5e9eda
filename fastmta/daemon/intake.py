"""Where a received message becomes ours: the spool first, then the 250, then the scheduler."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Protocol

from fastmta.message import Message
from fastmta.session import ContentRoom, Spill
from fastmta.smtp import Reply
from fastmta.smtp import reply as replies

from .pressure import Pressure, State

Done = Callable[[Message, Exception | None], None]
_RED = State.RED  # asked about at each MAIL


class Store(Protocol):
    """What intake needs of a spool."""

    @property
    def is_healthy(self) -> bool: ...
    def new_id(self) -> bytes: ...
    def begin_big(self, id: bytes, caught_up: Callable[[], None]) -> Spill: ...
    def accept(self, message: Message, done: Done) -> None: ...


class Intake:
    """The `Accept` port of sessions over one shard.

    Order per message: durable, answered, scheduled. Why a message is refused: `Pressure`, and the
    room on the volume that contents under way have been promised.
    """

    def __init__(
        self,
        store: Store,
        accepted: Callable[[Message], None],
        pressure: Pressure,
        room: ContentRoom,
        *,
        message_octets_max: int,
        large_octets: int,
    ) -> None:
        self.new_id = store.new_id
        self.begin_big = store.begin_big
        self._store = store
        self._accepted = accepted
        self._pressure = pressure
        self._room = room
        self._message_octets_max = message_octets_max
        self._large_octets = large_octets  # a larger message waits until we are green

    def renew(self, *, message_octets_max: int, large_octets: int) -> None:
        """Other limits hold from now on."""
        self._message_octets_max = message_octets_max
        self._large_octets = large_octets

    def refusal(self, declared_octets: int) -> Reply | None:
        """451 while the spool is broken, 452 while we are short of something; never 5xx."""
        if not self._store.is_healthy:
            return replies.R451_LOCAL_ERROR
        pressure = self._pressure
        state = pressure.state
        if state and (state >= _RED or declared_octets > self._large_octets):
            return replies.R452_STORAGE_FULL
        expected = self._room.octets_expected + (declared_octets or self._message_octets_max)
        if expected > pressure.promisable_octets:
            return replies.R452_STORAGE_FULL
        return None

    def accept(self, message: Message, done: Done) -> None:
        """Store, then `done`, then schedule."""
        try:
            self._store.accept(message, partial(self._durable, done))
        except MemoryError as error:
            self._durable(done, message, error)

    def _durable(self, done: Done, message: Message, error: Exception | None) -> None:
        try:
            done(message, error)
        finally:  # it is ours, whatever its session does with the news
            if error is None:
                self._accepted(message)
