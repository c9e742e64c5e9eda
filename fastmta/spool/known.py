"""Which of some messages are live, exactly: for whoever keeps something until the spool has it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from .indexer import Indexer
from .ledger import Ledger


class Known:
    """A question about `ids`; waits for the index if that is being rebuilt."""

    needs_commit = True

    def __init__(
        self, ledger: Ledger, ids: Sequence[bytes], done: Callable[[set[bytes] | None], None]
    ) -> None:
        """`done` hears which are live, or None when the spool has failed."""
        self._ledger = ledger
        self._ids = ids
        self._done = done
        self._found: set[bytes] = set()

    def refused(self, *_: object) -> None:
        """The spool has failed."""
        self._done(None)

    def begin(self) -> None:
        """Note those that the index will not have."""
        fresh = {message.id for message in self._ledger.fresh()}
        self._found = fresh.intersection(self._ids)

    def look(self, indexer: Indexer) -> None:
        """Find the others."""
        self._found.update(indexed.id for indexed in indexer.index.find(list(self._ids)))

    def answer(self) -> None:
        """Tell."""
        self._done(self._found)
