"""What is done with each mutant: all that recovery, the index, fetches and `verify` do with it."""

from __future__ import annotations

import array
import os
import random
import struct
from collections import Counter
from collections.abc import Callable
from typing import Any, Final

import msgspec

from fastmta.spool._row import unpack_due, unpack_index, unpack_message
from fastmta.spool._scan import (
    find_batch,
    find_record,
    is_padding,
    parse_batch,
    parse_fold,
    parse_id,
    parse_message,
    parse_record_head,
    parse_reference,
    parse_state,
    read_message,
    read_record,
    scan_groups,
)
from fastmta.spool._verify import Walker
from fastmta.spool.codec import decode_envelope, decode_states
from fastmta.spool.index import IndexedMessage, MessageRow
from fastmta.spool.recovery import scan_segment
from fastmta.spool.rows import RecipientRow, decode_recipient
from fastmta.spool.segment import HEADER_OCTETS, Segment
from fastmta.spool.stored import message_of
from tests.fuzz.mutator import BATCH_OCTETS, RECORD_OCTETS, Place, Seed

# What recovery, index and fetch take for damage.
DAMAGE: Final = (ValueError, msgspec.DecodeError)
KIND_NAMES = ("none", "batch", "message", "state", "reference", "fold", "tomb")
Rows = dict[str, list[tuple[str, str]]]


class Target:
    """Counts in `reached` how deep the mutants get: one that stays at the door proves little."""

    def __init__(self, rows: Rows, reached: Counter[str]) -> None:
        self._reached = reached
        self._walker = Walker()
        self._fd = os.memfd_create("mutant")
        self._rows = {
            name: [(bytes.fromhex(key), bytes.fromhex(value)) for key, value in pairs]
            for name, pairs in rows.items()
        }
        self._values = [
            octets for pairs in self._rows.values() for pair in pairs for octets in pair
        ]

    def segment(self, rng: random.Random, octets: array.array[int], seed: Seed) -> None:
        """A mutant of the segment `seed`, in a buffer with nothing behind it."""
        size = len(octets)
        segment = Segment("mutant", self._fd, size)
        segment.base, segment.epoch = seed.base, seed.epoch
        pages = size // HEADER_OCTETS + 1
        limit = rng.choice((size, size, rng.randrange(1, pages) * HEADER_OCTETS))
        proven = rng.choice((0, limit, rng.randrange(pages) * HEADER_OCTETS))
        with memoryview(octets) as view:
            scan = scan_segment(view, segment, min(proven, limit), limit)
            self._reached["holes"] += len(scan.holes)
            whole, stop, group_end = scan_groups(view, seed.base, seed.epoch, HEADER_OCTETS, 0)
            unsound = {
                place for place in {*scan.records, *whole} if not self._is_sound(view, seed, place)
            }
            is_sound = not unsound.intersection(whole) and has_sound_groups(view, whole)
            self._look_anywhere(rng, view, seed)
            os.pwrite(self._fd, view, 0)
            self._read(rng, segment, scan.records)
        self._walk(segment, whole, (stop, group_end), is_sound)

    def _is_sound(self, view: memoryview, seed: Seed, place: Place) -> bool:
        """Whether the parser of its kind takes the record; its decoder need not."""
        kind, at, length = place
        assert at + RECORD_OCTETS + length <= len(view), "a record beyond its segment"
        head = struct.unpack_from("<QQ", view, at + 8)
        assert head == (seed.epoch, seed.base + at), "a record of another place"
        known = KIND_NAMES[kind] if kind < len(KIND_NAMES) else "unknown"
        if place not in seed.records:
            self._reached[f"changed {known}"] += 1
        if kind == 1:
            assert at % 4096 == 0, "a group that does not begin with a page"
            parse_batch(view, at)
            return length == BATCH_OCTETS - RECORD_OCTETS
        if kind not in _PARSE:
            return False
        try:
            parse_id(view, at, length)
            parsed = _PARSE[kind](view, at, length)
        except ValueError:
            self._reached[f"refused {known}"] += 1
            return False
        try:
            _DECODE[kind](parsed)
        except DAMAGE as problem:
            self._reached[f"not decoded {known}: {type(problem).__name__}"] += 1
        return True

    def _look_anywhere(self, rng: random.Random, view: memoryview, seed: Seed) -> None:
        """The searches from any place, as recovery begins them behind damage."""
        pos = rng.randrange(0, len(view) + 1, 8)
        stop = rng.randrange(pos, len(view) + 1)
        found = find_record(view, seed.base, seed.epoch, pos, stop)
        assert found == stop or pos <= found < stop
        find_batch(view, seed.base, seed.epoch, pos)
        is_padding(view, pos, rng.choice((stop, len(view) + 4096)))
        at = rng.choice((min(pos, len(view) - 1), len(view) - rng.randrange(1, 60)))
        try:
            parse_record_head(view, at)
        except ValueError:
            self._reached["too short for a head"] += 1

    def _read(
        self, rng: random.Random, segment: Segment, records: list[tuple[int, int, int]]
    ) -> None:
        """From the file, as a fetch does with the position that a row carries."""
        size = segment.size_octets
        chosen = rng.sample(records, min(len(records), 8))
        anywhere = (rng.randrange(size + 64), size - 32, size - 64, size - 1, size + 8)
        for offset in [*(record[1] for record in chosen), *anywhere]:
            place = (self._fd, segment.base, size, segment.epoch, segment.base + offset)
            record = read_record(*place)
            try:
                found = read_message(*place)
                if found is None:
                    continue
                self._reached["messages read"] += 1
                assert record is not None, "a message where there is no record"
                message_of(found, offset, _big_path)
            except DAMAGE as problem:
                self._reached[f"refused when read: {type(problem).__name__}"] += 1
        if segment.base:
            place = (self._fd, segment.base, size, segment.epoch, segment.base - 1)
            assert read_message(*place) is None

    def _walk(
        self, segment: Segment, records: list[Place], stop: tuple[int, int], is_sound: bool
    ) -> None:
        """`verify` sees what the scan sees; it also wants the payloads of a segment sound."""
        size = segment.size_octets
        *place, counts = self._walker.walk(self._fd, segment.base, segment.epoch, size, size)
        self._walker.references()
        end = tuple(place)
        if not is_sound:
            assert end != (size, 0)
            return
        assert (end == (size, 0)) == (stop == (size, 0)), (end, stop)
        if end == (size, 0):
            found = Counter(kind for kind, _, _ in records)
            assert [found[kind] for kind in range(len(counts))] == counts
            self._reached["whole segments"] += 1

    def row(
        self, rng: random.Random, mutate: Callable[[random.Random, bytes, list[bytes]], bytes]
    ) -> None:
        """The rows of one message, one octet string of them damaged."""
        id, value = rng.choice(self._rows["message"])
        key, recipient = rng.choice(self._rows["recipient"])
        due, _ = rng.choice(self._rows["hop"])
        damaged = rng.randrange(5)
        parts = [value, key, recipient, due, id]
        parts[damaged] = mutate(rng, parts[damaged], self._values)
        value, key, recipient, due, id = parts
        try:
            unpack_due(due)
            row = MessageRow(*unpack_message(value))
            rows: dict[int, RecipientRow] = {unpack_index(key): decode_recipient(recipient)}
            indexed = IndexedMessage(id, row, rows)
            indexed.keys(b"")
            _ = indexed.states
            self._reached["rows taken"] += 1
        except DAMAGE as problem:
            self._reached[f"rows refused: {type(problem).__name__}"] += 1
        try:
            decode_envelope(recipient)
            decode_states(recipient)
        except DAMAGE:
            self._reached["payloads refused"] += 1


def has_sound_groups(view: memoryview, records: list[Place]) -> bool:
    """Whether no BATCH stands within the group of another one."""
    end = 0
    for kind, offset, _ in records:
        if offset >= end:
            end = offset + parse_batch(view, offset)[2]
        elif kind == 1:
            return False
    return True


def _big_path(boot: int, id: bytes) -> str:
    return f"{boot:x}-{id!r}"


def _decode_message(parsed: tuple[bytes, int, bytes, int]) -> object:
    id, arrived_at_ns, envelope, _ = parsed
    return message_of((id, arrived_at_ns, envelope, b""), 0, _big_path)


def _decode_reference(parsed: tuple[bytes, int, bytes, int, int, int]) -> object:
    id, arrived_at_ns, envelope, size_octets, checksum, boot = parsed
    return message_of((id, arrived_at_ns, envelope, (size_octets, checksum, boot)), 0, _big_path)


_PARSE: Final[dict[int, Callable[[memoryview, int, int], Any]]] = {
    2: parse_message,
    3: parse_state,
    4: parse_reference,
    5: parse_fold,
    6: parse_id,
}
_DECODE: Final[dict[int, Callable[[Any], object]]] = {  # what the parsers give differs by kind
    2: _decode_message,
    3: lambda parsed: decode_states(parsed[3]),
    4: _decode_reference,
    5: lambda parsed: decode_states(parsed[2]),
    6: lambda parsed: parsed,
}
