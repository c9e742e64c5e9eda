"""One attempt: what the scheduler asks of a delivery agent, and what comes back.

They live here because scheduler and delivery may not import one another.
"""

from __future__ import annotations

from collections.abc import Sequence

from .message import Message
from .outcome import Outcome


class Job:
    """Some recipients of one message that go to one next hop together.

    The delivery agent reads `message` and `indices` only, says `is_connected` when a host has taken
    a connection for it, and hands the very same object back with the result. Times are monotonic
    seconds. A scheduler may subclass it to keep more.
    """

    __slots__ = (
        "entered_at_s",
        "indices",
        "is_connected",
        "lane",
        "message",
        "next_hop",
        "slot",
        "started_at_s",
    )

    def __init__(
        self,
        message: Message,
        next_hop: bytes,
        indices: tuple[int, ...],
        entered_at_s: float = 0.0,
        started_at_s: float = 0.0,
    ) -> None:
        self.message = message
        self.next_hop = next_hop
        self.indices = indices  # of message.envelope.forward_paths; at least one
        self.entered_at_s = entered_at_s  # when the scheduler got it
        self.started_at_s = started_at_s  # when the scheduler handed it to delivery
        self.is_connected = False  # delivery says so: the host has taken a connection
        self.lane: object = None  # the scheduler's
        self.slot = -1  # where its attempt is noted while the outcome is not durable


class AttemptResult:
    """What one attempt did, one outcome per recipient of the job.

    `trouble` is the path's own fault (connect, greeting, EHLO, 421, lost connection; its scope is
    HOST or wider): the scheduler slows the path and burns no attempts. None when the peer answered
    about this message or its recipients.
    """

    __slots__ = ("connect_s", "connection_use", "outcomes", "transmit_s", "trouble")

    def __init__(
        self,
        outcomes: Sequence[Outcome],
        trouble: Outcome | None = None,
        connect_s: float = 0.0,
        transmit_s: float = 0.0,
        connection_use: int = 1,
    ) -> None:
        self.outcomes = outcomes  # same order and length as the job's indices
        self.trouble = trouble
        self.connect_s = connect_s  # connection set-up, greeting and EHLO included; 0 when reused
        self.transmit_s = transmit_s  # MAIL to the last reply
        self.connection_use = connection_use  # messages on this connection, this one included
