"""Memory in which one worker counts and others read: words, and a directory of what they are.

The supervisor makes it before it forks, so it outlives the worker: the next one finds its
predecessor's series and goes on. Everybody writes words of his own only, whole ones, so nobody
waits and nobody reads half a number. An entry of the directory is never changed; one that is being
written is told by its checksum, and by the number of entries, which is written last.

    words      64 of 8 octets: see `Word`
    directory  SERIES_MAX entries: CRC-32 u32 | family u16 | size of labels u16 | slot u32 | labels
    slots      SLOTS_MAX words; slot 0 takes what there was no room for

Labels are separated by NUL. A gauge is a double in its word; NaN says that there is none now.
"""

from __future__ import annotations

import enum
import struct
import zlib
from collections.abc import Sequence
from typing import NamedTuple

from .family import FAMILIES, NUMBERS, WIDTH, Family, Kind

SERIES_MAX = 8192
SLOTS_MAX = 32768
LOST = 0  # the slot of what there was no room for
LABEL_CHARACTERS_MAX = 80
_HEAD_OCTETS = 64 * 8
_ENTRY_OCTETS = 256
_SLOTS_AT = _HEAD_OCTETS + SERIES_MAX * _ENTRY_OCTETS
BLOCK_OCTETS = _SLOTS_AT + SLOTS_MAX * 8
_CRC = struct.Struct("<I")
_ENTRY = struct.Struct("<HHI")
_FRONT_OCTETS = _CRC.size + _ENTRY.size
_WORD_MASK = (1 << 64) - 1
_CLEAN = dict.fromkeys((*range(32), 127), "?")


class Word(enum.IntEnum):
    """What stands in front of the directory, and who writes it."""

    PID = 0  # the supervisor; 0: the worker does not run
    STARTS = 1  # the supervisor
    SERIES = 2  # the worker from here on: entries of the directory
    STATE = 3  # `State`; the supervisor sets STARTING before the worker lives
    BEAT_NS = 4  # monotonic, of its last sign of life
    PRESSURE = 5  # 0 green to 3 black
    IS_HEALTHY = 6  # its spool


class State(enum.IntEnum):
    """Of a worker."""

    STARTING = 0
    READY = 1
    DRAINING = 2


class Series(NamedTuple):
    """One entry of the directory."""

    family: Family
    labels: tuple[str, ...]
    slot: int


class Block:
    """One worker's part, seen by whoever has it mapped."""

    __slots__ = ("_directory", "_words", "slots")

    def __init__(self, buffer: memoryview) -> None:
        """`buffer` is BLOCK_OCTETS long, writable and aligned; zeros at first."""
        if len(buffer) != BLOCK_OCTETS:
            raise ValueError("not a block of counters")
        self._words = buffer[:_HEAD_OCTETS].cast("Q")
        self._directory = buffer[_HEAD_OCTETS:_SLOTS_AT]
        self.slots = buffer[_SLOTS_AT:].cast("Q")

    @classmethod
    def alone(cls) -> Block:
        """One that nobody else sees."""
        return cls(memoryview(bytearray(BLOCK_OCTETS)))

    def get(self, word: Word) -> int:
        """What stands there now."""
        return self._words[word]

    def set(self, word: Word, value: int) -> None:
        """For the writer of that word."""
        self._words[word] = value & _WORD_MASK

    def add(self, word: Word, amount: int = 1) -> None:
        """The same."""
        self.set(word, self._words[word] + amount)

    def read(self, start: int = 0) -> list[Series]:
        """The entries from number `start` on, up to the first that is not whole yet."""
        found = []
        for number in range(start, min(self.get(Word.SERIES), SERIES_MAX)):
            series = self._read(number)
            if series is None:
                break
            found.append(series)
        return found

    def append(self, family: Family, labels: Sequence[str], slot: int) -> bool:
        """The worker's: another series. False: there is no room."""
        number = self.get(Word.SERIES)
        width = WIDTH if family.kind is Kind.HISTOGRAM else 1
        text = "\0".join(clean_label(label) for label in labels).encode("ascii")
        size = len(text)
        if number >= SERIES_MAX or slot + width > SLOTS_MAX or size > _ENTRY_OCTETS - _FRONT_OCTETS:
            return False
        body = _ENTRY.pack(NUMBERS[family], size, slot) + text
        at = number * _ENTRY_OCTETS
        entry = _CRC.pack(zlib.crc32(body)) + body
        self._directory[at : at + len(entry)] = entry
        self.set(Word.SERIES, number + 1)
        return True

    def _read(self, number: int) -> Series | None:
        at = number * _ENTRY_OCTETS
        entry = bytes(self._directory[at : at + _ENTRY_OCTETS])
        number, size, slot = _ENTRY.unpack_from(entry, _CRC.size)
        body = entry[_CRC.size : _FRONT_OCTETS + size]
        if zlib.crc32(body) != _CRC.unpack_from(entry)[0] or number >= len(FAMILIES):
            return None
        family = FAMILIES[number]
        labels = body[_ENTRY.size :].decode("ascii")
        return Series(family, tuple(labels.split("\0")) if family.labels else (), slot)


def blocks_of(memory: memoryview, workers: int) -> list[Block]:
    """One for each worker, of memory for all of them."""
    return [
        Block(memory[BLOCK_OCTETS * index : BLOCK_OCTETS * (index + 1)]) for index in range(workers)
    ]


def clean_label(text: str) -> str:
    """Printable ASCII of bounded length: what peers and names may hold is not for a scraper."""
    cut = text[:LABEL_CHARACTERS_MAX].translate(_CLEAN)
    return cut.encode("ascii", "replace").decode("ascii")
