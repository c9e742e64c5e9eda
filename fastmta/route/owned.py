"""Next hops by tenant, for those whose mail is not to stand behind that of others."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from fastmta.message import Envelope

from .hop import build_owner
from .table import KNOWN_MAX, RouteTable

Owner: TypeAlias = Callable[[Envelope], str]
_DIVIDED = (b"smtp:", b"lmtp:")  # mail that has no peer waits for nobody


class OwnedTable:
    """A route table whose next hops are divided by owner.

    What waits on the disk is read by next hop, so mail of an owner that has to wait is not in the
    way of what others send to the same place.
    """

    __slots__ = ("_known", "_owner", "_table", "fingerprint")

    def __init__(self, table: RouteTable, owner: Owner, fingerprint: bytes) -> None:
        """`owner` names whose mail it is, "" for all who are not told apart; `fingerprint` is
        another one whenever it may answer differently."""
        self._table = table
        self._owner = owner
        self._known: dict[tuple[bytes, str], bytes] = {}
        self.fingerprint = table.fingerprint + b" owners:" + fingerprint

    def next_hop(self, forward_path: bytes, envelope: Envelope) -> bytes:
        """As `RouteTable.next_hop`, and whose mail it is."""
        next_hop = self._table.next_hop(forward_path, envelope)
        owner = self._owner(envelope)
        if not owner:
            return next_hop
        known = self._known.get((next_hop, owner))
        if known is None:
            if len(self._known) >= KNOWN_MAX:
                self._known.clear()
            known = next_hop
            if next_hop.startswith(_DIVIDED):
                known += build_owner(owner)
            self._known[next_hop, owner] = known
        return known
