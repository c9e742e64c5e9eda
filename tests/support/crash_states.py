"""The classes S1 to S9 of states that a loss of power may leave, as choices of pending changes.

S1  exactly what is durable             S6  writes torn at 512 octets or 4 KiB
S2  everything                          S7  files that grew, with zeros in place of the data
S3  everything but one change           S8  names lost, or both names of a rename there
S4  one change alone                    S9  as ext4 orders it: names and sizes as a prefix of
S5  any subset                              their order, data before the size that covers it
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterable
from typing import NamedTuple

from tests.support.disk import Change, Disk, Operation, extending

SECTOR = 512
PAGE = 4096
SUBSETS_MAX = 10  # all subsets of at most so many changes


class Choice(NamedTuple):
    """Which pending changes survive a crash."""

    label: str  # class, and what is special about it
    changes: tuple[Operation, ...]


def crash_choices(
    disk: Disk, chance: random.Random, *, subsets: int = 32, cuts: int = 8
) -> dict[str, list[Choice]]:
    """Choices by class, for a crash now. S1 and S2 have one; of S5, S6 and S9 there is a sample:
    `subsets` (or all), and `cuts` for each write. Classes that would be empty are missing."""
    pending = disk.relevant()
    choices = {"S1": [Choice("S1", ())]}
    if not pending:
        return choices
    choices["S2"] = [Choice("S2", tuple(pending))]
    growing = extending(disk, pending)
    choices["S3"] = [
        Choice(f"S3 without {gone}", tuple(o for o in pending if o is not gone)) for gone in pending
    ]
    names = [o for o in pending if o.is_name]
    choices["S4"] = [
        Choice(f"S4 only {one}", tuple({*names, one} if with_names else [one]))
        for one in pending
        for with_names in ({not one.is_name, False} if names else {False})
    ]
    choices["S5"] = list(_subsets(pending, chance, subsets))
    choices["S6"] = list(_torn(pending, chance, cuts))
    choices["S7"] = list(_zeroed(pending, growing))
    choices["S8"] = list(_names(pending, names))
    choices["S9"] = list(_ordered(pending, growing, chance))
    return {kind: found for kind, found in choices.items() if found}


def _subsets(pending: list[Operation], chance: random.Random, count: int) -> Iterable[Choice]:
    if len(pending) <= SUBSETS_MAX and 2 ** len(pending) <= count:
        for flags in itertools.product((False, True), repeat=len(pending)):
            yield _subset(pending, flags)
        return
    for _ in range(count):
        share = chance.choice((0.1, 0.3, 0.5, 0.7, 0.9))
        yield _subset(pending, [chance.random() < share for _ in pending])


def _subset(pending: list[Operation], flags: Iterable[bool]) -> Choice:
    kept = tuple(o for o, is_kept in zip(pending, flags, strict=True) if is_kept)
    return Choice(f"S5 only {'; '.join(map(str, kept)) or 'nothing'}", kept)


def _torn(pending: list[Operation], chance: random.Random, count: int) -> Iterable[Choice]:
    for write in pending:
        if write.change is not Change.DATA:
            continue
        end = write.offset + len(write.data)
        cuts = {
            cut - write.offset
            for step in (SECTOR, PAGE)
            for cut in range(-(-(write.offset + 1) // step) * step, end, step)
        }
        others = [o for o in pending if o is not write]
        names = [o for o in others if o.is_name]
        for cut in chance.sample(sorted(cuts), min(count, len(cuts))):
            rest = chance.choice((others, names))
            step = chance.choice((SECTOR, PAGE))
            behind = min(cut + step, len(write.data))
            head, tail = write.part(0, cut), write.part(cut, len(write.data))
            where = f"{cut} octets into the {write}"
            yield Choice(f"S6 nothing after {where}", (*rest, head))
            yield Choice(f"S6 nothing before {where}", (*rest, tail))
            hole = (*rest, head, write.part(behind, len(write.data)))
            yield Choice(f"S6 {behind - cut} octets missing {where}", hole)


def _zeroed(pending: list[Operation], growing: set[Operation]) -> Iterable[Choice]:
    def zero(chosen: set[Operation]) -> tuple[Operation, ...]:
        return tuple(o.part(0, len(o.data), True) if o in chosen else o for o in pending)

    for one in pending:
        if one in growing:
            yield Choice(f"S7 zeros for the {one}", zero({one}))
    if len(growing) > 1:
        yield Choice("S7 zeros for all that grew", zero(growing))


def _names(pending: list[Operation], names: list[Operation]) -> Iterable[Choice]:
    data = [o for o in pending if not o.is_name]
    if not names:
        return
    yield Choice("S8 no name", tuple(data))
    for one in names:
        yield Choice(f"S8 only {one}", (*data, one))
        if one.whole is not None:
            both = tuple(o for o in pending if o is not one)
            yield Choice(f"S8 both names, without {one}", both)
    for directory in {o.node for o in names}:
        kept = tuple(o for o in pending if not (o.is_name and o.node is directory))
        yield Choice(f"S8 no new name in {directory.label}", kept)


def _ordered(
    pending: list[Operation], growing: set[Operation], chance: random.Random
) -> Iterable[Choice]:
    journal = [o for o in pending if o in growing or o.change is not Change.DATA]
    in_place = [o for o in pending if o not in growing and o.change is Change.DATA]
    for length in range(len(journal) + 1):
        prefix = journal[:length]
        some = [o for o in in_place if chance.random() < 0.5]
        for data in ([], in_place, some) if in_place else ([],):
            label = f"S9 {length} of {len(journal)} in order, {len(data)} writes in place"
            yield Choice(label, (*prefix, *data))
