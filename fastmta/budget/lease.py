"""Limits that hold over all workers, and who divides them."""

from typing import Protocol


class Broker(Protocol):
    """Grants this worker its part of a limit. Ask again whenever it matters; answers may change."""

    def share(self, key: bytes, limit: int) -> int:
        """How much of `limit`, the limit over all workers of the thing `key`, is ours now."""


class DividedBroker:
    """The broker within one process: each worker has the same part, rounded up, at least 1.

    So with 2 workers a limit of 20 is 10 each, and a limit of 1 is 1 each: until there is a broker
    that the workers share, a limit below the number of workers is exceeded. The docs say so.
    Schedulers of one worker divide its part in the same way.
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
