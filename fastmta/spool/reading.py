"""One message with its content, to be looked at: nobody holds it for that."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

from fastmta.message import Message

from .indexer import Indexer
from .problem import SpoolError

if TYPE_CHECKING:
    from .search import Search

# None: there is no such message. One without content, and without a file, cannot be read.
ReadBack: TypeAlias = Callable[[Message | SpoolError | None], None]


class Reading:
    """A question for the index thread."""

    needs_commit = False

    def __init__(self, search: Search, id: bytes, done: ReadBack) -> None:
        self._search = search
        self._id = id
        self._done = done
        self._held: Message | None = None
        self._found: Message | None = None
        self._has_looked = self._is_ended = False

    def refused(self, *_: object) -> None:
        """The spool has failed."""
        self._done(SpoolError("the spool has failed"))

    def begin(self) -> None:
        """Note what the index will not have."""
        ledger = self._search.ledger
        self._is_ended = self._id in ledger.ended()
        held = ledger.messages.get(self._id)
        self._held = held or ledger.unwritten_of([self._id]).get(self._id)

    def look(self, indexer: Indexer) -> None:
        """Read the record, unless the content is in memory."""
        self._has_looked = True
        if self._is_ended:
            return
        if self._held is not None:
            if not self._held.has_content:
                self._found = indexer.read(self._id, self._held.position)
            return
        for indexed in indexer.index.find([self._id]):
            self._found = indexer.read(self._id, indexed.row.position)
            if self._found is not None:
                self._found.states = indexed.states
                self._found.pending = indexed.row.pending

    def answer(self) -> None:
        """As it is now."""
        if not self._has_looked:
            self.refused()
            return
        held, found = self._held, self._found
        if held is not None:
            seen = (
                found
                if found is not None
                else Message(held.id, held.envelope, b"", held.arrived_at_ns)
            )
            if found is None:
                seen.content, seen.file = held.content, held.file
                seen.size_octets = held.size_octets
            seen.states, seen.pending = dict(held.states), held.pending
            found = seen
        ended = self._search.ledger.departed(self._id) or (found is not None and not found.pending)
        self._done(None if ended else found)
