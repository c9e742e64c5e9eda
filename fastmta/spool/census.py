"""A few numbers about a whole shard, from what the index counts anyway: no look at its rows."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeAlias

from .indexer import Indexer


class Census(NamedTuple):
    """What the index knew; mail that is final before it gets there was never counted."""

    held: int  # messages of which nobody waits: all that are not final are on hold
    recipients: int  # that wait
    oldest_ns: int  # when the oldest message arrived; 0: there is none
    waiting: dict[bytes, int]  # recipients, by the next hops that were asked for
    took_s: float  # to find out


Taken: TypeAlias = Callable[[Census | None], None]


class CensusTaking:
    """A question to the index thread; see `indexer.Question`."""

    needs_commit = False

    def __init__(self, next_hops: Sequence[bytes], done: Taken) -> None:
        """`done(None)`: the spool has failed."""
        self._next_hops = next_hops
        self._done = done
        self._census: Census | None = None

    def refused(self, *_: object) -> None:
        """The spool has failed."""
        self._done(None)

    def begin(self) -> None:
        """What is only in memory is not asked for."""

    def look(self, indexer: Indexer) -> None:
        """Read the counts."""
        begin_s = time.perf_counter()
        index = indexer.index
        first = index.page(b"", 1)
        self._census = Census(
            index.held(),
            index.waiting_recipients(),
            first[0][1].arrived_at_ns if first else 0,
            {next_hop: index.waiting_for(next_hop)[1] for next_hop in self._next_hops},
            time.perf_counter() - begin_s,
        )

    def answer(self) -> None:
        """Hand it over."""
        self._done(self._census)
