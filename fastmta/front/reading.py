"""What all workers have counted, taken together."""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from typing import TypeAlias

from fastmta.journal import family as f
from fastmta.journal.block import Block, Series, Word
from fastmta.journal.family import WIDTH, Family, Kind, Merge

from .health import Health

Labels: TypeAlias = tuple[str, ...]
Value: TypeAlias = int | float | list[int]  # a histogram: its words, see `family.WIDTH`
Values: TypeAlias = dict[Family, dict[Labels, Value]]

_WORD = struct.Struct("<Q")
_DOUBLE = struct.Struct("<d")


class Reader:
    """Reads blocks while they are written. Entries of a directory are read once."""

    def __init__(self, blocks: Sequence[Block], version: str) -> None:
        self._blocks = blocks
        self._series: list[list[Series]] = [[] for _ in blocks]
        self._version = version

    def read(self, health: Health) -> Values:
        """The values of this moment."""
        values: Values = {}
        for index, block in enumerate(self._blocks):
            known = self._series[index]
            known += block.read(len(known))
            slots = block.slots
            worker = str(index)
            for family, labels, slot in known:
                of_family = values.setdefault(family, {})
                if family.merge is Merge.WORKER:
                    labels = (*labels, worker)
                value = _value(slots, family, slot)
                if value is not None:
                    had = of_family.get(labels)
                    of_family[labels] = value if had is None else _merge(family, had, value)
        self._add_desk(values, health)
        return values

    def _add_desk(self, values: Values, health: Health) -> None:
        values[f.READY] = {(): int(health.is_ready)}
        values[f.BUILD_INFO] = {(self._version,): 1}
        for family in (f.WORKER_UP, f.WORKER_STARTS, f.PRESSURE, f.SPOOL_HEALTHY):
            values[family] = {}
        for worker, block in zip(health.workers, self._blocks, strict=True):
            labels = (str(worker.number),)
            values[f.WORKER_UP][labels] = int(worker.is_alive)
            values[f.WORKER_STARTS][labels] = block.get(Word.STARTS)
            values[f.PRESSURE][labels] = block.get(Word.PRESSURE)
            values[f.SPOOL_HEALTHY][labels] = block.get(Word.IS_HEALTHY)


def _value(slots: memoryview, family: Family, slot: int) -> Value | None:
    if family.kind is Kind.HISTOGRAM:
        return slots[slot : slot + WIDTH].tolist()
    word: int = slots[slot]
    if family.kind is Kind.COUNTER:
        return word
    value: float = _DOUBLE.unpack(_WORD.pack(word))[0]
    return None if math.isnan(value) else value


def _merge(family: Family, had: Value, value: Value) -> Value:
    if isinstance(had, list):
        assert isinstance(value, list)
        return [one + other for one, other in zip(had, value, strict=True)]
    assert not isinstance(value, list)
    return max(had, value) if family.merge is Merge.MAX else had + value
