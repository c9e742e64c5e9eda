"""How many clients a worker has, over all its listeners, and whether one client has too many."""

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Protocol

_ROOM_AGAIN = 0.95  # of the limit


class Clients(Protocol):
    """Counts the connections of each client, over all workers."""

    def enter(self, address: str) -> bool:
        """One more; False: it has enough, and this one is not counted."""

    def leave(self, address: str) -> None:
        """One that entered has ended."""


class Parting(Protocol):
    """A connection that was told everything, and lasts only until its client has heard it."""

    def give_way(self) -> None:
        """End now, and leave the census at once."""


@dataclass(slots=True)
class Census:
    """Counts connections; whoever comes in must leave once.

    Those that part are counted as well, as they keep a descriptor, but make room when it is needed.
    """

    connections_max: int = 10_000
    clients: Clients | None = None
    count: int = 0
    # The longest first; not a dict, whose first one is slow to find when many were taken.
    _parting: OrderedDict[Parting, None] = field(default_factory=OrderedDict)

    @property
    def is_full(self) -> bool:
        """No further client fits, whoever it is."""
        return self.count >= self.connections_max

    @property
    def is_crowded(self) -> bool:
        """Still too full to let in those who wait, after nobody fitted."""
        return self.count > self.connections_max * _ROOM_AGAIN

    def enter(self, address: str) -> bool:
        """A connection of `address` begins; False: the client has enough, and it must not.

        "": nobody knows yet whose it is, and it counts in total only.
        """
        if address and self.clients is not None and not self.clients.enter(address):
            return False
        self.count += 1
        return True

    def rename(self, address: str, client: str) -> bool:
        """The one that entered as `address` is `client`; False: that one has enough.

        It stays what it was then, and leaves as that.
        """
        if self.clients is None:
            return True
        if not self.clients.enter(client):
            return False
        if address:
            self.clients.leave(address)
        return True

    def leave(self, address: str, connection: Parting | None = None) -> None:
        """A connection of `address` has ended; `connection` if it may have been parting."""
        if self._parting and connection is not None:
            self._parting.pop(connection, None)
        self.count -= 1
        if address and self.clients is not None:
            self.clients.leave(address)

    def part(self, connection: Parting) -> None:
        """One that entered may be ended, from now on until it leaves."""
        self._parting[connection] = None

    def make_room(self) -> bool:
        """End the connection that has been parting for longest; False: there is none."""
        if not self._parting:
            return False
        connection, _ = self._parting.popitem(last=False)
        connection.give_way()
        return True
