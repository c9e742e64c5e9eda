"""How much waits for each next hop, kept with the `hop` rows and in the same transactions.

A count of 1,000,000 rows would take a second; here it is one row for each next hop.

    waiting    key next hop, as in the `hop` keys
               value: messages u64 | recipients u64 [| long next hop]

A message whose recipients at one next hop are due at different times has that many `hop` rows and
is counted for each.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import Any

import lmdb

from .rows import Batch

_TAIL_OCTETS = 1 + 8 + 16  # NUL, due time and id at the end of a `hop` key
_COUNT_OCTETS = 4  # recipients, in front of a `hop` value
_VALUE = struct.Struct(">QQ")


def write(txn: lmdb.Transaction, hops: Any, waiting: Any, batch: Batch) -> None:
    """Delete and put the `hop` rows of `batch`; `hops` and `waiting` are handles of py-lmdb."""
    counts: dict[bytes, list[int]] = {}
    long_names: dict[bytes, bytes] = {}
    with txn.cursor(hops) as cursor:
        for key in batch.deletes["hop"]:
            old = cursor.pop(key)
            if old is not None:
                count = counts.setdefault(key[:-_TAIL_OCTETS], [0, 0])
                count[0] -= 1
                count[1] -= _recipients(old)
        for key, value in batch.puts["hop"]:
            old = cursor.replace(key, value)
            name = key[:-_TAIL_OCTETS]
            count = counts.setdefault(name, [0, 0])
            count[0] += old is None
            count[1] += _recipients(value) - (0 if old is None else _recipients(old))
            if len(value) > _COUNT_OCTETS:
                long_names[name] = value[_COUNT_OCTETS:]
    for name, (messages, recipients) in counts.items():
        known = txn.get(name, db=waiting)
        if known is not None:
            had_messages, had_recipients = _VALUE.unpack_from(known)
            messages, recipients = messages + had_messages, recipients + had_recipients
            long_names.setdefault(name, bytes(known[_VALUE.size :]))
        if messages > 0:
            packed = _VALUE.pack(messages, recipients) + long_names.get(name, b"")
            txn.put(name, packed, db=waiting)
        else:
            txn.delete(name, db=waiting)


def read(value: bytes | memoryview) -> tuple[int, int]:
    """Messages and recipients of a row."""
    messages, recipients = _VALUE.unpack_from(value)
    return messages, recipients


def read_all(rows: Iterable[tuple[Any, Any]]) -> list[tuple[bytes, int, int]]:
    """Next hop, messages and recipients of every row; there may be 10,000 and more."""
    size, unpack = _VALUE.size, _VALUE.unpack_from
    return [(value[size:] or key, *unpack(value)) for key, value in rows]


def _recipients(value: bytes | memoryview) -> int:
    return int.from_bytes(value[:_COUNT_OCTETS], "big")
