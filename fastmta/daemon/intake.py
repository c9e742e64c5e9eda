"""Where a received message becomes ours: the spool first, then the 250, then the scheduler."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Protocol

from fastmta.message import Message
from fastmta.smtp import Reply
from fastmta.smtp import reply as replies

Done = Callable[[Message, Exception | None], None]


class Store(Protocol):
    """What intake needs of a spool."""

    @property
    def is_healthy(self) -> bool: ...
    def new_id(self) -> bytes: ...
    def accept(self, message: Message, done: Done) -> None: ...


class Intake:
    """The `Accept` port of sessions over one shard.

    Order per message: durable, answered, scheduled. `watch_space` is to be called every second or
    so; between calls the last verdict stands.
    """

    def __init__(
        self, store: Store, accepted: Callable[[Message], None], volume: str, free_space_min: float
    ) -> None:
        self.new_id = store.new_id
        self._store = store
        self._accepted = accepted
        self._volume = volume
        self._free_space_min = free_space_min
        self.is_full = False
        self._waiting: dict[bytes, Done] = {}

    def refusal(self) -> Reply | None:
        """451 while the spool is broken, 452 while the volume is short of space; never 5xx."""
        if not self._store.is_healthy:
            return replies.R451_LOCAL_ERROR
        return replies.R452_STORAGE_FULL if self.is_full else None

    def accept(self, message: Message, done: Done) -> None:
        """Store, then `done`, then schedule."""
        self._waiting[message.id] = done
        try:
            self._store.accept(message, self._durable)
        except MemoryError as error:
            self._durable(message, error)

    def _durable(self, message: Message, error: Exception | None) -> None:
        try:
            self._waiting.pop(message.id)(message, error)
        finally:  # it is ours, whatever its session does with the news
            if error is None:
                self._accepted(message)

    def watch_space(self) -> None:
        """Look at the volume again."""
        try:
            volume = os.statvfs(self._volume)
        except OSError:
            self.is_full = True  # a volume that cannot be looked at takes no mail
            return
        self.is_full = volume.f_bavail < volume.f_blocks * self._free_space_min
