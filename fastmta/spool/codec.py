"""Payloads of log records and values of index rows that are not of fixed width: msgpack."""

from collections.abc import Sequence

import msgspec

from fastmta.message import Envelope, RecipientState, RecipientStatus

_FINAL_FIRST = RecipientStatus.DELIVERED
_FINAL_LAST = RecipientStatus.EXPIRED
_DELETED = RecipientStatus.DELETED
_REQUEUED = RecipientStatus.REQUEUED
_QUEUED = RecipientStatus.QUEUED

encode = msgspec.msgpack.Encoder().encode
decode_envelope = msgspec.msgpack.Decoder(Envelope).decode
decode_states = msgspec.msgpack.Decoder(list[RecipientState]).decode


def is_final(state: RecipientState | None) -> bool:
    """As `RecipientStatus.is_final`, by comparing numbers: several times cheaper."""
    return state is not None and (
        _FINAL_FIRST <= state.status <= _FINAL_LAST or state.status == _DELETED
    )


def apply_states(
    states: dict[int, RecipientState], pending: int, changes: Sequence[RecipientState]
) -> int:
    """Put `changes` into `states`; what remains pending of `pending` recipients.

    A final outcome stands, whatever is recorded after it: only a requeue reopens it.
    """
    for change in changes:
        index = change.index
        was_final = index in states and is_final(states[index])
        if change.status == _REQUEUED:
            states[index] = RecipientState(index, _QUEUED)
            pending += was_final
        elif not was_final:
            states[index] = change
            pending -= is_final(change)
    return pending
