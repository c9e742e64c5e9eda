"""A segment of the log: its header block and its place in the order of positions.

The first 4096 octets of a segment file are its header block:

    0 magic 8 | 8 format u32 | 12 log kind u32 | 16 epoch u64 | 24 sequence u64 | 32 base u64
    40 boot u64 | 48 segment octets u64 | 56 end of the log before this segment u64 | 64 CRC32C u32

(little-endian; the checksum covers octets 0 to 63). A block of zeros is a voided header: the file
is a spare. The position of an octet is base + its offset. The header is written together with the
segment's first group, in one flush: safe, because the void was durable before.
"""

import bisect
import enum
import os
import struct
from collections.abc import Iterator

from ._log import checksum
from .problem import SpoolFormat

HEADER_OCTETS = 4096
COLD_BASE = 1 << 62  # positions from here on are in the cold log
STRAYS_KEPT_MAX = 4096  # of one segment; beyond that the segment is read to find them
FORMAT = 2  # 1: only BATCH, MSG and STATE records
MAGIC = b"fmtaLOG\n"

_HEADER = struct.Struct("<8sIIQQQQQQ")
_CHECKSUM = struct.Struct("<I")


class LogKind(enum.IntEnum):
    """Which of the two generations a segment belongs to. Stored: never renumber."""

    HOT = 1
    COLD = 2


class Segment:
    """One open segment file."""

    __slots__ = (
        "base",
        "boot",
        "epoch",
        "fd",
        "is_suspect",
        "is_trimmed",
        "kind",
        "live",
        "live_octets",
        "path",
        "pins",
        "previous_end",
        "sequence",
        "size_octets",
        "strays",
    )

    def __init__(self, path: str, fd: int, size_octets: int, kind: LogKind = LogKind.HOT) -> None:
        self.path = path
        self.fd = fd
        self.size_octets = size_octets
        self.kind = kind
        self.epoch = 0
        self.sequence = 0
        self.base = 0
        self.boot = 0
        self.previous_end = 0  # where the log ended when this segment was begun
        self.live = 0  # messages that are not final and have their MSG or REF here
        self.live_octets = 0  # of those records, contents in files of their own not included
        self.pins = 0  # readers; only the index thread changes it
        # Messages from earlier segments that have a STATE here; None: too many, or not known.
        self.strays: list[bytes] | None = []
        self.is_trimmed = False  # everything that is needed of it stands in the cold log
        self.is_suspect = False  # a write or flush of it failed: never written again

    @property
    def end(self) -> int:
        """Position behind the segment's last octet."""
        return self.base + self.size_octets

    def encode_header(self) -> bytes:
        """The header block."""
        fields = _HEADER.pack(
            MAGIC,
            FORMAT,
            self.kind,
            self.epoch,
            self.sequence,
            self.base,
            self.boot,
            self.size_octets,
            self.previous_end,
        )
        return (fields + _CHECKSUM.pack(checksum(fields))).ljust(HEADER_OCTETS, b"\0")

    def parse_header(self, block: bytes) -> bool:
        """Take the fields from `block`; False when it is not a valid header. Raises SpoolFormat."""
        if len(block) < HEADER_OCTETS or not block.startswith(MAGIC):
            return False
        fields = block[: _HEADER.size]
        (stored,) = _CHECKSUM.unpack_from(block, _HEADER.size)
        if checksum(fields) != stored:
            return False
        _, form, kind, epoch, sequence, base, boot, size_octets, end = _HEADER.unpack(fields)
        if form > FORMAT:
            raise SpoolFormat(f"{self.path} has format {form}; this release knows up to {FORMAT}")
        if kind != self.kind:
            return False
        self.size_octets = size_octets  # the file may have been cut
        self.epoch, self.sequence, self.base, self.boot = epoch, sequence, base, boot
        self.previous_end = end
        return True

    def add_stray(self, id: bytes) -> None:
        """A STATE here belongs to a message from an earlier segment."""
        strays = self.strays
        if strays is not None:
            strays.append(id)
            if len(strays) > STRAYS_KEPT_MAX:
                self.strays = None

    def close(self) -> None:
        """Close the file."""
        os.close(self.fd)


def _base(segment: Segment) -> int:
    return segment.base


class SegmentTable:
    """The segments that hold the log, oldest first; found by position from any thread."""

    def __init__(self) -> None:
        self._segments: list[Segment] = []  # replaced, never shortened: others may be reading it

    def __iter__(self) -> Iterator[Segment]:
        return iter(self._segments)

    def __len__(self) -> int:
        return len(self._segments)

    @property
    def last(self) -> Segment | None:
        """The segment in use, if any."""
        return self._segments[-1] if self._segments else None

    def append(self, segment: Segment) -> None:
        """Add the segment that follows the last one."""
        if self._segments and segment.base < self._segments[-1].end:
            raise ValueError("segments overlap")
        self._segments.append(segment)

    def take_oldest(self, count: int) -> list[Segment]:
        """Remove the `count` oldest."""
        taken, self._segments = self._segments[:count], self._segments[count:]
        return taken

    def find(self, position: int) -> Segment | None:
        """The segment that `position` is in."""
        segments = self._segments
        at = len(segments) - 1
        if at >= 0 and position < segments[at].base:
            at = bisect.bisect_right(segments, position, key=_base) - 1
        if at < 0:
            return None
        segment = segments[at]
        return segment if position < segment.base + segment.size_octets else None


class Logs:
    """The two generations of the log. Every position tells which one it belongs to."""

    def __init__(self) -> None:
        self.hot = SegmentTable()
        self.cold = SegmentTable()

    def find(self, position: int) -> Segment | None:
        """The segment that `position` is in, if it is still part of its log."""
        return (self.hot if position < COLD_BASE else self.cold).find(position)

    def all(self) -> list[Segment]:
        """Every segment."""
        return [*self.cold, *self.hot]

    def octets(self) -> int:
        """What they take on the disk."""
        return sum(segment.size_octets for segment in self.all())

    def live_octets(self) -> int:
        """What of it is needed."""
        return sum(segment.live_octets for segment in self.all())
