"""Where in the backlog of a next hop a message stands."""

from collections.abc import Callable, Iterable

from fastmta.message import Message, RecipientStatus

DUE_OCTETS = 8


def due_times(
    message: Message, next_hop: bytes, hop_of: Callable[[bytes], bytes]
) -> Iterable[tuple[int, int]]:
    """(index, due time) of its recipients of `next_hop` that are neither final nor held.

    A recipient that had no attempt yet is due at 0.
    """
    states = message.states
    for index, forward_path in enumerate(message.envelope.forward_paths):
        state = states.get(index)
        due_at_ns = 0
        if state is not None and state.status is not RecipientStatus.QUEUED:
            if state.status is not RecipientStatus.DEFERRED:
                continue
            due_at_ns = state.due_at_ns
        if hop_of(forward_path) == next_hop:
            yield index, due_at_ns


def position(
    messages: list[Message], next_hop: bytes, hop_of: Callable[[bytes], bytes], after: bytes
) -> bytes:
    """The position (due time, id) up to which a read from beyond `after` got.

    `messages` is what it found, in order. Empty, the beginning, when nothing of it waits any more.
    """
    for message in reversed(messages):
        tails = [
            due_at_ns.to_bytes(DUE_OCTETS, "big") + message.id
            for _, due_at_ns in due_times(message, next_hop, hop_of)
        ]
        beyond = [tail for tail in tails if tail > after]
        if beyond:
            return min(beyond)
    return b""
