"""Limits that hold over all workers, and who divides them."""

from typing import Protocol

PART_LEAST = 2  # of a divided limit, for each


class Broker(Protocol):
    """Grants this worker its part of a limit. Ask again whenever it matters; answers may change."""

    def share(self, key: bytes, limit: int) -> int:
        """How much of `limit`, the limit over all workers of the thing `key`, is ours now."""


class DividedBroker:
    """The broker within one process: each worker has the same part, rounded up, at least 1.

    So with 2 workers a limit of 20 is 10 each, and a limit of 1 is 1 each: good enough for what
    protects us and not others. Schedulers of one worker divide its part in the same way.
    """

    __slots__ = ("_scheduler_count", "_worker_count")

    def __init__(self, worker_count: int) -> None:
        if worker_count < 1:
            raise ValueError("there is at least one worker")
        self._worker_count = worker_count
        self._scheduler_count = 1

    def join(self) -> None:
        """One more scheduler of this worker takes part."""
        self._scheduler_count += 1

    def share(self, key: bytes, limit: int) -> int:
        """The same for every key."""
        return max(1, -(-limit // (self._worker_count * self._scheduler_count)))


class LeasedSites(DividedBroker):
    """Beside a broker that the workers share: limits that cannot be divided well are leased.

    A place that goes from one worker to another costs a connection, so what is enough for everybody
    is divided, rounded down: busy workers would hand the places of their relay to and fro. What has
    no key, the connections in total, is divided like that of others.
    """

    __slots__ = ()

    def share(self, key: bytes, limit: int) -> int:
        """Our part; all of `limit` when that is less than PART_LEAST for each: then whoever wants a
        place has to lease it besides, see lease.py."""
        if not key:
            return super().share(key, limit)
        part = limit // (self._worker_count * self._scheduler_count)
        return part if part >= PART_LEAST else limit
