"""What lists show of a message: from its rows, or from memory, without a look at its record."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeAlias

import msgspec

from fastmta.message import Message, RecipientState

from .codec import is_final
from .indexer import Indexer
from .problem import SpoolError

if TYPE_CHECKING:
    from .search import Search

RECIPIENTS_MAX = 1_000  # of one message; the rest is counted


class RecipientEntry(msgspec.Struct, frozen=True, gc=False):
    """One recipient that is not final."""

    forward_path: bytes
    next_hop: bytes  # empty: it is held
    state: RecipientState | None  # None: queued, no attempt yet


class Entry(msgspec.Struct, frozen=True):
    """One message and those of its recipients that are not final."""

    id: bytes
    arrived_at_ns: int
    expires_at_ns: int
    size_octets: int
    reverse_path: bytes
    tenant: str
    recipient_count: int
    pending: int
    recipients: list[RecipientEntry]  # at most RECIPIENTS_MAX


Entered: TypeAlias = Callable[[list[Entry] | SpoolError], None]


class Entering:
    """A question for the index thread: entries of messages, those that are live, by id."""

    needs_commit = False

    def __init__(self, search: Search, ids: Sequence[bytes], done: Entered) -> None:
        self._search = search
        self._ids = ids
        self._done = done
        self._unwritten: dict[bytes, Message] = {}
        self._ended: set[bytes] = set()
        self._found: dict[bytes, Entry] | None = None

    def refused(self, *_: object) -> None:
        """The spool has failed."""
        self._done(SpoolError("the spool has failed"))

    def begin(self) -> None:
        """Note what the index will not have."""
        ledger = self._search.ledger
        self._unwritten = ledger.unwritten_of(self._ids)
        self._ended = ledger.ended()

    def look(self, indexer: Indexer) -> None:
        """Read the rows of what was not in memory."""
        found = self._found = {}
        wanted = [id for id in self._ids if id not in self._unwritten and id not in self._ended]
        for indexed in indexer.index.find(wanted):
            row = indexed.row
            found[indexed.id] = Entry(
                indexed.id,
                row.arrived_at_ns,
                row.expires_at_ns,
                row.size_octets,
                row.reverse_path,
                row.tenant.decode("utf-8", "replace"),
                row.recipient_count,
                row.pending,
                [
                    RecipientEntry(one.forward_path, one.next_hop, one.state)
                    for one in indexed.recipients.values()
                    if not is_final(one.state)
                ][:RECIPIENTS_MAX],
            )

    def answer(self) -> None:
        """Put both together, as they are now."""
        if self._found is None:
            self.refused()
            return
        ledger, found = self._search.ledger, self._found
        entries: list[Entry] = []
        for id in self._ids:
            held = ledger.messages.get(id) or self._unwritten.get(id)
            if held is not None:
                if held.pending:
                    entries.append(self._search.enter(held))
            elif id in found and not ledger.departed(id):
                entries.append(found[id])
        self._done(entries)
