"""The first rows of one next hop: a bounded look at what waits there, by due time."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

from .indexer import Indexer

if TYPE_CHECKING:
    from .search import Search

_FOR_EVER_NS = (1 << 63) - 2

Sampled: TypeAlias = Callable[[list[bytes], bool], None]  # ids, whether these are all


class Sampling:
    """A question for the index thread."""

    needs_commit = True

    def __init__(self, search: Search, next_hop: bytes, limit: int, done: Sampled) -> None:
        self._search = search
        self._next_hop = next_hop
        self._limit = limit
        self._done = done
        self._fresh: list[bytes] = []
        self._ids: list[bytes] = []

    def refused(self, *_: object) -> None:
        """The spool has failed."""
        self._done([], False)

    def begin(self) -> None:
        """Look at what the index will not have."""
        search, next_hop = self._search, self._next_hop
        for message in search.ledger.fresh():
            if next_hop in search.waiting(message):
                self._fresh.append(message.id)

    def look(self, indexer: Indexer) -> None:
        """Read the first rows."""
        self._ids, _ = indexer.index.due(self._next_hop, _FOR_EVER_NS, b"", self._limit)

    def answer(self) -> None:
        """Both together."""
        is_whole = len(self._ids) < self._limit and len(self._fresh) <= self._limit
        ids = dict.fromkeys((*self._fresh[: self._limit], *self._ids))
        self._done(list(ids), is_whole)
