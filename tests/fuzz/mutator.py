"""Mutants of real segments that get deep: checksums, positions and epochs are mended again.

A segment is a list of pieces at offsets: records as the spool wrote them. One mutant is a few steps
of damage; most steps that change the inside of a record mend its checksum, so that the octets are
not refused at the door.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Callable
from typing import NamedTuple, TypeAlias

PAGE_OCTETS = 4096
RECORD_OCTETS = 32
BATCH_OCTETS = 56
STEPS_MAX = 6
_NUMBERS = (0, 1, 7, 8, 23, 24, 31, 32, 48, 0xFF, 0xFFFF, 1 << 20, 1 << 31, (1 << 32) - 1)
_KINDS = (0, 1, 2, 3, 4, 5, 6, 7, 255)

Checksum: TypeAlias = Callable[[bytes], int]
Place: TypeAlias = tuple[int, int, int]  # kind, offset, octets of the payload


class Seed(NamedTuple):
    """A segment that the spool wrote."""

    octets: bytes
    base: int
    epoch: int
    records: list[Place]


class Mutator:
    """Makes mutants of `seeds`; the same ones for the same generator."""

    def __init__(self, seeds: list[Seed], checksum: Checksum) -> None:
        self._seeds = seeds
        self._checksum = checksum

    def mutant(self, rng: random.Random) -> tuple[bytearray, Seed]:
        """A damaged segment, and the one it was made of."""
        seed = rng.choice(self._seeds)
        octets = bytearray(seed.octets)
        for _ in range(rng.randint(1, STEPS_MAX)):
            step = rng.choice(_STEPS)
            step(self, rng, octets, seed)
        return octets, seed

    def mend(self, octets: bytearray, offset: int, seed: Seed) -> None:
        """Make a valid record of what stands at `offset`, if its length lets it be one."""
        if offset + RECORD_OCTETS > len(octets):
            return
        struct.pack_into("<QQ", octets, offset + 8, seed.epoch, seed.base + offset)
        length = struct.unpack_from("<I", octets, offset + 4)[0]
        if length > len(octets) - offset - RECORD_OCTETS:
            return  # only its length keeps it from being read beyond the end
        covered = bytes(octets[offset + 4 : offset + RECORD_OCTETS + length])
        struct.pack_into("<I", octets, offset, self._checksum(covered))

    # Steps.

    def _flip(self, rng: random.Random, octets: bytearray, seed: Seed) -> None:
        for _ in range(rng.choice((1, 1, 2, 8))):
            octets[rng.randrange(len(octets))] ^= 1 << rng.randrange(8)

    def _damage_inside(self, rng: random.Random, octets: bytearray, seed: Seed) -> None:
        """Octets of a payload, mended: what the parsers and decoders see."""
        _, offset, length = rng.choice(seed.records)
        for _ in range(rng.choice((1, 1, 2, 4))):
            at = offset + RECORD_OCTETS + rng.randrange(max(1, min(length, 128)))
            octets[at] = rng.choice((0, 1, 0x7F, 0x80, 0xC0, 0xDC, 0xFF, rng.randrange(256)))
        self.mend(octets, offset, seed)

    def _number(self, rng: random.Random, octets: bytearray, seed: Seed) -> None:
        """A number of a header or payload: lengths, counts, positions."""
        kind, offset, length = rng.choice(seed.records)
        places = (4, 24, 32, 40, 48, 52) if kind == 1 else (4, 48, 56, 60, 64, 72)
        at = offset + rng.choice(places)
        room = len(octets) - offset - RECORD_OCTETS
        value = rng.choice((*_NUMBERS, length, length + 1, length - 1, length + 8, room, room + 1))
        value = (value + rng.choice((0, 0, 0, -1, 1))) & 0xFFFFFFFF
        if at + 4 <= len(octets):
            struct.pack_into("<I", octets, at, value)
        self.mend(octets, offset, seed)

    def _kind(self, rng: random.Random, octets: bytearray, seed: Seed) -> None:
        """A record of another kind: its payload is read with another layout."""
        _, offset, _ = rng.choice(seed.records)
        octets[offset + 24] = rng.choice(_KINDS)
        self.mend(octets, offset, seed)

    def _shorten(self, rng: random.Random, octets: bytearray, seed: Seed) -> None:
        """A valid record with less payload than its kind needs, at the end of what is there."""
        _, offset, length = rng.choice(seed.records)
        struct.pack_into("<I", octets, offset + 4, rng.randrange(min(length, 80) + 1))
        self.mend(octets, offset, seed)

    def _copy(self, rng: random.Random, octets: bytearray, seed: Seed) -> None:
        """Records or whole pages in another place, of this segment or another one."""
        source = rng.choice(self._seeds)
        _, offset, length = rng.choice(source.records)
        _, target, _ = rng.choice(seed.records)
        count = rng.choice((RECORD_OCTETS + length, PAGE_OCTETS, 3 * PAGE_OCTETS))
        if rng.random() < 0.3:
            offset, target = offset & -PAGE_OCTETS, target & -PAGE_OCTETS
        if rng.random() < 0.2:  # up to the very last octet
            target = (len(octets) - count) & -8
        piece = source.octets[offset : offset + count]
        piece = piece[: len(octets) - max(target, 0)]
        octets[max(target, 0) : max(target, 0) + len(piece)] = piece
        if rng.random() < 0.8:
            self.mend(octets, max(target, 0), seed)

    def _blank(self, rng: random.Random, octets: bytearray, seed: Seed) -> None:
        """Zeros, as of a page that was never written; or the octets of an older life."""
        _, offset, length = rng.choice(seed.records)
        if rng.random() < 0.5:
            offset, length = offset & -PAGE_OCTETS, PAGE_OCTETS
        end = min(offset + length, len(octets))
        octets[offset:end] = rng.choice((b"\0", b"\xff")) * (end - offset)

    def _cut(self, rng: random.Random, octets: bytearray, seed: Seed) -> None:
        """The end is missing: at a page, at a record's header, anywhere."""
        _, offset, length = rng.choice(seed.records)
        places = (
            offset,
            offset + rng.randrange(1, RECORD_OCTETS + 25),
            offset + RECORD_OCTETS + length - rng.choice((0, 1, 8)),
            offset & -PAGE_OCTETS,
            rng.randrange(len(octets)),
        )
        cut = max(2 * PAGE_OCTETS, rng.choice(places))
        blank = len(octets) - min(cut, len(octets))
        octets[len(octets) - blank :] = bytes(blank)

    def _mend_any(self, rng: random.Random, octets: bytearray, seed: Seed) -> None:
        """Whatever stands at some multiple of 8 becomes a valid record, also right at the end."""
        offset = rng.randrange(0, len(octets) - RECORD_OCTETS, 8)
        if rng.random() < 0.3:
            offset = (len(octets) - rng.choice((32, 40, 56, 64, 88))) & -8
        if rng.random() < 0.5:
            struct.pack_into("<I", octets, offset + 4, rng.randrange(96))
            octets[offset + 24] = rng.choice(_KINDS)
        self.mend(octets, offset, seed)

    def _last_group(self, rng: random.Random, octets: bytearray, seed: Seed) -> None:
        """A group that claims the last page of the segment, its records up to the last octet."""
        page = len(octets) - PAGE_OCTETS * rng.choice((1, 1, 2))
        kind, offset, length = rng.choice(seed.records)
        struct.pack_into("<IQQ", octets, page + 4, 24, seed.epoch, seed.base + page)
        octets[page + 24] = 1
        total = PAGE_OCTETS * rng.choice((1, 1, 2, 3)) + rng.choice((0, 0, 0, 1, 8))
        struct.pack_into("<QQII", octets, page + 32, 1, 0, total, rng.choice((1, 1, 2, 0)))
        self.mend(octets, page, seed)
        at = page + BATCH_OCTETS
        piece = seed.octets[offset : offset + RECORD_OCTETS + length][: len(octets) - at]
        octets[at : at + len(piece)] = piece
        room = len(octets) - at - RECORD_OCTETS
        claimed = rng.choice((length, room, room - 1, room - 8, room + 1, room + 8))
        struct.pack_into("<I", octets, at + 4, claimed & 0xFFFFFFFF)
        octets[at + 24] = rng.choice((kind, 2, 3, 4, 5))
        self.mend(octets, at, seed)


_Step: TypeAlias = Callable[[Mutator, random.Random, bytearray, Seed], None]
_STEPS: tuple[_Step, ...] = (
    Mutator._flip,
    Mutator._damage_inside,
    Mutator._damage_inside,
    Mutator._number,
    Mutator._number,
    Mutator._kind,
    Mutator._shorten,
    Mutator._copy,
    Mutator._blank,
    Mutator._cut,
    Mutator._mend_any,
    Mutator._last_group,
)


def mutate_value(rng: random.Random, value: bytes, others: list[bytes]) -> bytes:
    """A damaged value or key of an index row, or payload in msgpack."""
    octets = bytearray(value)
    for _ in range(rng.choice((1, 1, 2, 4))):
        choice = rng.choice((0, 0, 0, 1, 2, 3, 4, 4, 5))
        if choice == 0 and octets:
            octets[rng.randrange(len(octets))] = rng.randrange(256)
        elif choice == 1:
            del octets[rng.randrange(len(octets) + 1) :]
        elif choice == 2:
            octets += rng.randbytes(rng.randrange(20))
        elif choice == 3:
            other = rng.choice(others)
            at = rng.randrange(len(octets) + 1)
            octets[at:] = other[rng.randrange(len(other) + 1) :]
        elif choice == 4 and octets:  # heads of msgpack: arrays, maps, extensions, long lengths
            octets[rng.randrange(len(octets))] = rng.choice(b"\x90\xdc\xdd\xc6\xc9\xdb\xdf\xc1\xcf")
        elif choice == 5 and octets:
            at = rng.randrange(len(octets))
            octets[at:at] = octets[at : at + rng.randrange(1, 9)]
    return bytes(octets)
