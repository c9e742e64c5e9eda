"""The first rows of one next hop: a bounded look at what waits there, by due time."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

from .indexer import Indexer

if TYPE_CHECKING:
    from .search import Search

_FOR_EVER_NS = (1 << 63) - 2

FirstDue: TypeAlias = Callable[[int | None], None]
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


class FirstRow:
    """When the next mail of one next hop is due."""

    needs_commit = True

    def __init__(self, search: Search, next_hop: bytes, done: FirstDue) -> None:
        self._search = search
        self._next_hop = next_hop
        self._done = done
        self._fresh: list[int] = []
        self._due_at_ns: int | None = None

    def refused(self, *_: object) -> None:
        """The spool has failed."""
        self._done(None)

    def begin(self) -> None:
        """Look at what the index will not have."""
        search, next_hop = self._search, self._next_hop
        for message in search.ledger.fresh():
            if next_hop in search.waiting(message):
                key = search.ledger.order_key(message, next_hop)
                self._fresh.append(int.from_bytes(key[:8], "big"))

    def look(self, indexer: Indexer) -> None:
        """Read the first row."""
        self._due_at_ns = indexer.index.first_due(self._next_hop)

    def answer(self) -> None:
        """The earlier of both."""
        due = self._fresh if self._due_at_ns is None else [*self._fresh, self._due_at_ns]
        self._done(min(due, default=None))
