"""The most that one client did, in the words of Postfix's anvil, from what the log tells anyway.

It costs a look into a dict for each connection, in the batches in which lines are made. Clients are
a bounded number; who comes when there is no room is not counted. Numbers are those of one worker.
"""

from __future__ import annotations

WINDOW_S = 60
INTERVAL_S = 600  # anvil_status_update_time
CLIENTS_MAX = 10_000


class _Client:
    """What one client does."""

    __slots__ = ("began", "connections", "count")

    def __init__(self, began: int) -> None:
        self.began = began  # of the window
        self.count = 0  # of connections begun within it
        self.connections = 0  # open ones


class _Most:
    """The largest number of one kind; whose, and when."""

    __slots__ = ("number", "second", "whose")

    def __init__(self) -> None:
        self.number = self.second = 0
        self.whose = ("", "")

    def raise_to(self, number: int, whose: tuple[str, str], second: int) -> None:
        self.number, self.whose, self.second = number, whose, second


class Anvil:
    """Counts connections by client; every ten minutes there is something to say."""

    __slots__ = ("_clients", "_due", "_most_clients", "_most_connections", "_rate", "_swept")

    def __init__(self) -> None:
        self._clients: dict[tuple[str, str], _Client] = {}
        self._due = 0  # when the next lines are; 0: nothing to say yet
        self._swept = 0
        self._rate = _Most()
        self._most_connections = _Most()
        self._most_clients = _Most()

    def connected(self, service: str, client: str, second: int) -> None:
        """A client has come."""
        whose = (service, client)
        known = self._clients.get(whose)
        if known is None:
            if second - self._swept >= WINDOW_S:
                self._sweep(second)
            if len(self._clients) >= CLIENTS_MAX:
                return
            known = self._clients[whose] = _Client(second)
        elif second - known.began >= WINDOW_S:
            known.began, known.count = second, 0
        known.count += 1
        known.connections += 1
        if known.count > self._rate.number:
            self._rate.raise_to(known.count, whose, second)
        if known.connections > self._most_connections.number:
            self._most_connections.raise_to(known.connections, whose, second)
        if len(self._clients) > self._most_clients.number:
            self._most_clients.raise_to(len(self._clients), whose, second)
        if not self._due:
            self._due = second + INTERVAL_S

    def disconnected(self, service: str, client: str) -> None:
        """A client is gone."""
        known = self._clients.get((service, client))
        if known is not None and known.connections:
            known.connections -= 1

    def take(self, second: int) -> list[tuple[str, int]]:
        """Lines that are due, each without the time that ends it; and that time."""
        if not self._due or second < self._due:
            return []
        self._due = 0
        most = (self._rate, self._most_connections, self._most_clients)
        self._rate, self._most_connections, self._most_clients = _Most(), _Most(), _Most()
        self._sweep(second)
        rate, connections, clients = most
        return [
            (f"max connection rate {rate.number}/{WINDOW_S}s for {_shown(rate)}", rate.second),
            (f"max connection count {connections.number} for {_shown(connections)}",
             connections.second),
            (f"max cache size {clients.number}", clients.second),
        ]  # fmt: skip

    def _sweep(self, second: int) -> None:
        """Forget who has gone a while ago."""
        self._swept = second
        self._clients = {
            whose: known
            for whose, known in self._clients.items()
            if known.connections or second - known.began < WINDOW_S
        }


def _shown(most: _Most) -> str:
    service, client = most.whose
    address = client.rpartition("[")[2].removesuffix("]")
    return f"({service or 'smtp'}:{address})"
