"""A simulated message: what the scheduler knows of any, and what the simulator notes beside it."""

from __future__ import annotations

from fastmta.message import Envelope, Message

QUEUE_ID = b"%016d"  # the number is the order of arrival, and of ids


class Mail(Message):
    """A message without content. `size_octets` is what it counts in RAM."""

    __slots__ = ("arrived_s", "first_start_s", "is_held", "rows", "tenant")

    def __init__(
        self, number: int, envelope: Envelope, arrived_at_ns: int, arrived_s: float, tenant: int
    ) -> None:
        super().__init__(QUEUE_ID % number, envelope, b"", arrived_at_ns)
        self.position = 1  # it is durable
        self.tenant = tenant  # index
        self.arrived_s = arrived_s  # monotonic; for mail of the backlog the beginning
        self.first_start_s = -1.0  # of its first attempt
        self.is_held = False  # by the scheduler
        self.rows: list[tuple[bytes, bytes]] = []  # its (next hop, key) in the index
