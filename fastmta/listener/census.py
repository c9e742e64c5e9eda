"""How many clients a worker has: in total and by address, over all its listeners."""

from dataclasses import dataclass, field

_ROOM_AGAIN = 0.95  # of the limit


@dataclass(slots=True)
class Census:
    """Counts connections; whoever comes in must leave once."""

    connections_max: int = 10_000
    per_client_max: int = 50  # trusted clients are exempt
    count: int = 0
    _per_client: dict[str, int] = field(default_factory=dict)

    @property
    def is_full(self) -> bool:
        """No further client fits, whoever it is."""
        return self.count >= self.connections_max

    @property
    def is_crowded(self) -> bool:
        """Still too full to let in those who wait, after nobody fitted."""
        return self.count > self.connections_max * _ROOM_AGAIN

    def has_enough(self, address: str) -> bool:
        """Whether this client has as many connections as one may have."""
        return self._per_client.get(address, 0) >= self.per_client_max

    def enter(self, address: str) -> None:
        """A connection of `address` begins."""
        self.count += 1
        self._per_client[address] = self._per_client.get(address, 0) + 1

    def leave(self, address: str) -> None:
        """A connection of `address` has ended."""
        self.count -= 1
        left = self._per_client[address] - 1
        if left:
            self._per_client[address] = left
        else:
            del self._per_client[address]
