"""Counts that all workers share: the compiled Tally or its twin, and the size of its table."""

from typing import TYPE_CHECKING

from fastmta.smtp.twin import IS_PURE

from .tally_py import BUCKET, COUNTED, ENTRY_OCTETS, KEY_OCTETS, REFUSED, SHARED_PART, UNCOUNTED

if TYPE_CHECKING or not IS_PURE:
    from ._tally import Tally  # an ImportError here is a broken build: let it stop us
else:
    from .tally_py import Tally

__all__ = ["COUNTED", "ENTRIES", "REFUSED", "UNCOUNTED", "Tally", "table_octets"]

ENTRIES = 4096  # keys that one worker can count at a time: 240 KiB, of which only what is used


def table_octets(workers: int, entries: int = ENTRIES) -> int:
    """Size of the buffer for `workers` regions of at least `entries` keys each.

    Besides, each has the places that are shared, a quarter more.
    """
    if workers < 1 or entries < 1:
        raise ValueError("there is at least one worker and one key")
    buckets = -(-entries // BUCKET)
    buckets += buckets // (SHARED_PART - 1)
    return workers * buckets * BUCKET * (KEY_OCTETS + ENTRY_OCTETS)
