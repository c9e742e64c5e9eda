"""The index file as `_walk` reads it: mapped beside LMDB, by the one thread that also writes it.

A look at a row costs some tens of nanoseconds, without the GIL; through LMDB's cursors it is a
microsecond with it. Where the file is not as expected, nobody walks: the slow way knows the same.
"""

from __future__ import annotations

import mmap
import os

from fastmta.message.situation import Situation

from ._walk import CODE, DOMAIN, HOP, ID, RECIPIENT, SENDER, TENANT, Rows, Sieve, Suspended
from .filter import Filter, Limits

_KINDS = {
    "id": ID,
    "from": SENDER,
    "tenant": TENANT,
    "to": RECIPIENT,
    "domain": DOMAIN,
    "dest": HOP,
    "code": CODE,
}
_LARGEST = (1 << 63) - 1


class Walking:
    """Maps one index file, again when it has grown. The index thread's."""

    def __init__(self, directory: str) -> None:
        self._path = os.path.join(directory, "data.mdb")
        self._rows: Rows | None = None
        self._octets = 0
        self.is_off = False  # it was not as expected

    def rows(self) -> Rows | None:
        """The rows as of the last commit; None: they cannot be walked."""
        if self.is_off:
            return None
        try:
            octets = os.stat(self._path).st_size
            if self._rows is not None and octets == self._octets:
                self._rows.refresh()
            else:
                self._rows, self._octets = self._map(), octets
        except (OSError, ValueError):
            self.is_off = True
            self._rows = None
        return self._rows

    def close(self) -> None:
        """Give the file up."""
        self._rows = None

    def _map(self) -> Rows:
        fd = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            return Rows(mmap.mmap(fd, 0, prot=mmap.PROT_READ))
        finally:
            os.close(fd)


def sieve_of(filter: Filter, now_ns: int) -> Sieve:
    """`filter` as a walk understands it: what it says of mail that is not active."""
    patterns = [
        (_KINDS[field], [one if field == "id" else one.lower() for one in found])
        for field, found in filter.globs
    ]
    mask = sum(1 << status for status in filter.statuses)
    sieve = Sieve(patterns, mask, filter.needs_states)
    queues = sum(1 << queue for queue in filter.queues)
    sieve.situate(_suspended(filter.situation), queues)
    age, arrived, size = filter.age_ns, filter.arrived_at_ns, filter.size_octets
    arrived = arrived.narrowed(">", -1)
    if age.above is not None:
        arrived = arrived.narrowed("<", now_ns - age.above)
    if age.below is not None:
        arrived = arrived.narrowed(">", now_ns - age.below)
    sieve.bound(*_ends(arrived), *_ends(size.narrowed(">", -1)))
    return sieve


def _suspended(situation: Situation) -> Suspended:
    """Made once for each situation."""
    if not isinstance(situation.prepared, Suspended):
        found = [
            (next_hop, trouble.text.encode("utf-8", "replace"), trouble.status.encode())
            for next_hop, trouble in situation.suspended.items()
        ]
        situation.prepared = Suspended(found)
    return situation.prepared


def _ends(limits: Limits) -> tuple[int, int]:
    above, below = limits
    low = -1 if above is None else above
    high = _LARGEST if below is None else below
    return max(-1, min(low, _LARGEST)), max(-1, min(high, _LARGEST))
