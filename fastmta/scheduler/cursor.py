"""Where in the backlog of a next hop a message stands."""

from collections.abc import Callable, Iterable

from fastmta.message import Envelope, Message, RecipientStatus

DUE_OCTETS = 8


def tail(due_at_ns: int, id: bytes) -> bytes:
    """The position of a row: due time, then id."""
    return due_at_ns.to_bytes(DUE_OCTETS, "big") + id


def just_before(position: bytes) -> bytes:
    """A position before `position` with nothing between that is not known already."""
    return position[:-1] + bytes((position[-1] - 1,)) if position else b""


def due_times(
    message: Message, next_hop: bytes, hop_of: Callable[[bytes, Envelope], bytes]
) -> Iterable[tuple[int, int]]:
    """(index, due time) of its recipients of `next_hop` that are neither final nor held.

    A recipient that had no attempt yet is due since the message arrived.
    """
    states, envelope = message.states, message.envelope
    for index, forward_path in enumerate(envelope.forward_paths):
        state = states.get(index)
        due_at_ns = message.arrived_at_ns
        if state is not None and state.status is not RecipientStatus.QUEUED:
            if state.status is not RecipientStatus.DEFERRED:
                continue
            due_at_ns = state.due_at_ns
        if hop_of(forward_path, envelope) == next_hop:
            yield index, due_at_ns


def position(
    messages: list[Message],
    next_hop: bytes,
    hop_of: Callable[[bytes, Envelope], bytes],
    after: bytes,
) -> bytes:
    """How far a read from beyond `after` got that found `messages`, in order."""
    for message in reversed(messages):
        tails = (tail(due, message.id) for _, due in due_times(message, next_hop, hop_of))
        beyond = [one for one in tails if one > after]
        if beyond:
            return min(beyond)
    return after
