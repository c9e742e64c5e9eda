"""Which messages are late, and nobody was told: a look at the rows of the index, page by page."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

from .indexer import Indexer
from .ledger import Ledger

ROWS_AT_ONCE = 200  # looked at in one turn of the index thread

Late: TypeAlias = Callable[[Sequence[bytes], bytes, bytes | None], None]


class Unwarned:
    """One page, by id; see `Backlog.unwarned` of the scheduler. Reads no record of the log.

    What the index does not have yet counts as young, whatever its age: it is looked at later.
    """

    needs_commit = True

    def __init__(self, ledger: Ledger, after: bytes, arrived_by_ns: int, done: Late) -> None:
        self._ledger = ledger
        self._after = after
        self._arrived_by_ns = arrived_by_ns
        self._done = done
        self._ids: list[bytes] = []
        self._last = b""
        self._young: bytes | None = None

    def refused(self, *_: object) -> None:
        """The spool has failed: there is nothing more to come."""
        self._done([], b"", None)

    def begin(self) -> None:
        """Note the first of what the index will not have."""
        ids = (message.id for message in self._ledger.fresh() if message.id > self._after)
        self._young = min(ids, default=None)

    def look(self, indexer: Indexer) -> None:
        """Read a page of rows."""
        rows = indexer.index.page(self._after, ROWS_AT_ONCE)
        old = [id for id, row in rows if row.arrived_at_ns <= self._arrived_by_ns]
        if len(rows) == ROWS_AT_ONCE and old:
            self._last = rows[-1][0]
        known = set(old)
        young = next((id for id, _ in rows if id not in known), None)
        if young is not None and (self._young is None or young < self._young):
            self._young = young
        for indexed in indexer.index.find(old):
            if not any(state.is_warned for state in indexed.states.values()):
                self._ids.append(indexed.id)

    def answer(self) -> None:
        """Tell."""
        self._done(self._ids, self._last, self._young)
