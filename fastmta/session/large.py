"""A content that is too large for memory: handed to a `Spill` piece by piece while it comes in."""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import TypeAlias

from fastmta.message import ContentFile, Message
from fastmta.smtp import Reply
from fastmta.smtp import reply as replies

from .content import examine_header
from .port import Accept, Ports, Spill
from .transaction import Transaction

Stored: TypeAlias = Callable[[Message, Exception | None], None]

_NO_ROOM = frozenset((errno.ENOSPC, errno.EDQUOT, errno.EFBIG))


class LargeContent:
    """From the first piece, whose header section is examined, to the file or the refusal.

    The first piece is at least `inline_octets_max` long, so that a header section which does not
    end in it is over its own limit.
    """

    __slots__ = ("_accept", "_spill", "message_id_field", "refusal")

    def __init__(
        self,
        ports: Ports,
        transaction: Transaction,
        first: bytes,
        complete: Callable[[bytes, bytes], tuple[bytes, bytes]],
        caught_up: Callable[[], None],
    ) -> None:
        """`complete` takes and returns (first piece, Message-ID)."""
        self.refusal: Reply | None = None  # whatever follows is read and dropped
        self.message_id_field = b""
        self._spill: Spill | None = None
        self._accept = ports.accept
        examined = examine_header(first, transaction.trace_octets, ports.settings)
        if isinstance(examined, Reply):
            self.refusal = examined
            return
        first, self.message_id_field = complete(*examined)
        self._spill = ports.accept.begin_big(transaction.queue_id, caught_up)
        self._spill.write(first)

    @property
    def is_behind(self) -> bool:
        """Whether the disk is slower than the client: read no more until it has caught up."""
        return self._spill is not None and self._spill.is_behind

    def write(self, piece: bytes) -> None:
        """The next octets. Only without `refusal`."""
        assert self._spill is not None
        self._spill.write(piece)

    def store(self, message: Message, stored: Stored) -> None:
        """That was all: hand `message` over once its content is durable. Only without `refusal`."""
        spill, self._spill = self._spill, None
        assert spill is not None
        _finish(self._accept, spill, message, stored)

    def abandon(self) -> None:
        """It is not wanted any more."""
        spill, self._spill = self._spill, None
        if spill is not None:
            spill.abandon()


def spill_whole(accept: Accept, message: Message, content: bytes, stored: Stored) -> None:
    """A content that is here as a whole becomes a file; then `message` is handed over."""
    spill = accept.begin_big(message.id, _nothing)
    spill.write(content)
    _finish(accept, spill, message, stored)


def _nothing() -> None:
    """Nobody waits for a spill that is written in one piece."""


def _finish(accept: Accept, spill: Spill, message: Message, stored: Stored) -> None:
    message.content = None

    def spilled(file: ContentFile | None, error: Exception | None) -> None:
        if file is None:
            stored(message, error)
            return
        message.file = file
        message.size_octets = file.size_octets
        accept.accept(message, stored)

    spill.finish(spilled)


def failure_reply(error: Exception) -> Reply:
    """What a client hears when its content could not be made durable; never 5xx."""
    if isinstance(error, OSError) and error.errno in _NO_ROOM:
        return replies.R452_STORAGE_FULL
    return replies.R451_QUEUE_WRITE
