"""Replay: applying the logs to the index.

A record applies only above the position its message's row carries, so rows may have run ahead of
the checkpoint, and replaying twice changes nothing. With an index that is fit for use the hot log
is replayed from its checkpoint on and the cold log not at all: what the index does not know of it
are copies that were never put to use. Without one everything is replayed, the cold log first.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

from fastmta.message import Message, RecipientState, RecipientStatus

from ._scan import (
    parse_fold,
    parse_id,
    parse_message,
    parse_reference,
    parse_state,
    read_message,
)
from .codec import apply_states, decode_states
from .index import Index, MessageRow
from .rows import Batch, Keys, RowMaker, log_octets, tenant_key_of
from .segment import COLD_BASE, Logs, Segment
from .stored import (
    KIND_FOLD,
    KIND_MESSAGE,
    KIND_REFERENCE,
    KIND_STATE,
    KIND_TOMB,
    BigPath,
    Record,
    message_of,
)

_MESSAGES_MAX = 10_000  # held while replaying; more are written to the index in between

Records = list[tuple[int, int, int]]


class Replay:
    """Messages touched by the part of the logs that is being replayed.

    `skip`: messages that somebody else will write to the index. `checkpoint`: of the hot log, where
    replaying begins.
    """

    def __init__(
        self,
        index: Index,
        logs: Logs,
        maker: RowMaker,
        big_path: BigPath,
        checkpoint: int = 0,
        skip: Collection[bytes] = (),
    ) -> None:
        self._index = index
        self._logs = logs
        self._maker = maker
        self._big_path = big_path
        self._checkpoint = checkpoint
        self._skip = skip
        self._messages: dict[bytes, Message] = {}
        self._applied: dict[bytes, int] = {}
        self._old: dict[bytes, tuple[Keys, MessageRow]] = {}
        self._is_empty = index.count() == 0
        # Then a MSG of the hot log is the only one of its message.
        self._is_first_copy = self._is_empty and not len(logs.cold)

    def apply(self, segment: Segment, data: memoryview, records: Records) -> None:
        """Apply records of a segment."""
        for kind, offset, length in records:
            position = segment.base + offset
            if position < self._checkpoint:
                continue
            apply = _APPLY.get(kind)
            if apply is not None:
                apply(self, position, data, offset, length)

    @property
    def is_large(self) -> bool:
        """Whether it is time to write to the index."""
        return len(self._messages) >= _MESSAGES_MAX

    def take(self, applied: int, checkpoint: int) -> Batch:
        """The changes of the index so far.

        Every record of the hot log below `applied` is in; of what FOLDs told, more may be.
        """
        batch = Batch(checkpoint)
        for id, message in self._messages.items():
            keys, row = self._old.get(id, (None, None))
            position, octets = message.position, log_octets(message)
            if message.pending:
                rows = self._maker.make(message, max(applied, self._applied.get(id, 0)))
                batch.put(rows, keys, position, octets)
                if row is not None and row.position != position:
                    batch.counted.append((-1, row.position, row.log_octets))
                    batch.counted.append((1, position, octets))
            elif keys is not None and row is not None:
                batch.delete(id, keys, row.position, row.log_octets)
        self._is_empty = self._is_empty and not self._messages
        self._messages.clear()
        self._applied.clear()
        self._old.clear()
        return batch

    # One method per kind of record.

    def _apply_message(self, position: int, data: memoryview, offset: int, length: int) -> None:
        id, arrived_at_ns, envelope, size_octets = parse_message(data, offset, length)
        if self._is_new(id, position):
            message = message_of((id, arrived_at_ns, envelope, b""), position, self._big_path)
            message.content = None
            message.size_octets = size_octets
            self._messages[id] = message

    def _apply_reference(self, position: int, data: memoryview, offset: int, length: int) -> None:
        id, arrived_at_ns, envelope, size, checksum, boot = parse_reference(data, offset, length)
        if self._is_new(id, position):
            record: Record = (id, arrived_at_ns, envelope, (size, checksum, boot))
            self._messages[id] = message_of(record, position, self._big_path)

    def _apply_state(self, position: int, data: memoryview, offset: int, length: int) -> None:
        id, _, _, states = parse_state(data, offset, length)
        known = self._get(id)
        if known is not None and position >= self._applied.get(id, 0):
            count = len(known.envelope.forward_paths)
            changes = [change for change in decode_states(states) if 0 <= change.index < count]
            known.pending = apply_states(known.states, known.pending, changes)

    def _apply_fold(self, position: int, data: memoryview, offset: int, length: int) -> None:
        id, applied, states = parse_fold(data, offset, length)
        known = self._get(id)
        if known is not None and applied >= self._applied.get(id, 0):
            known.states.clear()
            known.pending = apply_states(
                known.states, len(known.envelope.forward_paths), decode_states(states)
            )
            self._applied[id] = applied

    def _apply_tomb(self, position: int, data: memoryview, offset: int, length: int) -> None:
        known = self._get(parse_id(data, offset, length))
        if known is not None:  # the records that made it final may follow in the hot log
            count = len(known.envelope.forward_paths)
            known.states = {at: RecipientState(at, RecipientStatus.DELETED) for at in range(count)}
            known.pending = 0

    def _is_new(self, id: bytes, position: int) -> bool:
        """Whether this MSG or REF is the first one of its message. A later copy is its place."""
        if id in self._skip:
            return False
        if self._is_first_copy:
            return id not in self._messages
        known = self._get(id)
        if known is not None and position >= COLD_BASE:
            known.position = position
        return known is None

    def _get(self, id: bytes) -> Message | None:
        """The message as known so far, from here or from the index."""
        message = self._messages.get(id)
        if message is not None or self._is_empty or id in self._skip:
            return message
        found = self._index.find([id])
        if not found:
            return None
        row = found[0].row
        segment = self._logs.find(row.position)
        if segment is None:
            return None
        record = read_message(
            segment.fd, segment.base, segment.size_octets, segment.epoch, row.position
        )
        if record is None:
            return None  # damaged: whoever fetches it will say so
        message = message_of(record, row.position, self._big_path)
        message.content = None
        message.states = found[0].states
        message.pending = row.pending
        self._messages[id] = message
        self._applied[id] = row.applied
        self._old[id] = (found[0].keys(tenant_key_of(message.envelope, id)), row)
        return message


_Apply = Callable[[Replay, int, memoryview, int, int], None]
_APPLY: dict[int, _Apply] = {
    KIND_MESSAGE: Replay._apply_message,
    KIND_REFERENCE: Replay._apply_reference,
    KIND_STATE: Replay._apply_state,
    KIND_FOLD: Replay._apply_fold,
    KIND_TOMB: Replay._apply_tomb,
}
