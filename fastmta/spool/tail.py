"""The tail of the hot log: which segment takes the next group, and where in it."""

from __future__ import annotations

import os

from ._log import Log
from .keeper import Keeper
from .segment import HEADER_OCTETS, Segment, SegmentTable


class Tail:
    """Hands groups to the committer, one at a time. Loop thread only.

    A segment is left when the next group does not fit, or when it failed: the header of the next
    one says where the durable log ended in it, and that nothing beyond counts.
    """

    __slots__ = (
        "_base",
        "_boot",
        "_fill",
        "_is_flushing",
        "_keeper",
        "_log",
        "_number",
        "_segments",
        "end",
        "flying_end",
        "flying_start",
        "segment",
    )

    def __init__(self, log: Log, segments: SegmentTable, keeper: Keeper, is_flushing: bool) -> None:
        self._log = log
        self._segments = segments
        self._keeper = keeper
        self._is_flushing = is_flushing
        self._fill = 0  # offset in the segment where the next group goes
        self._base = 0  # of the first segment begun here
        self._boot = 0
        self._number = 0  # of groups
        self.segment: Segment | None = None
        self.flying_start = self.flying_end = 0
        self.end = 0  # of what is durable

    def start(self, end: int, base: int, boot: int, number: int) -> None:
        """Begin behind `end` in a new segment at `base`."""
        self.end, self._base, self._boot, self._number = end, base, boot, number

    @property
    def has_place(self) -> bool:
        """Whether the open group fits into the segment in use."""
        segment = self.segment
        return segment is not None and self._fill + self._log.open_octets <= segment.size_octets

    def post(self) -> bool:
        """Hand the open group to the committer. False: no segment is ready."""
        header = b""
        octets = self._log.open_octets
        segment = self.segment
        if segment is None or self._fill + octets > segment.size_octets:
            spare = self._keeper.take()
            if spare is None:
                return False
            header = self._begin(spare)
        self._place(octets)
        durable = self.end if self._is_flushing else 0
        self._log.post(self._number, durable, header, self._is_flushing)
        return True

    def post_again(self) -> bool:
        """Hand the group that failed over once more, to another segment. False: none is ready."""
        spare = self._keeper.take()
        if spare is None:
            return False
        header = self._begin(spare)
        self._place(self.flying_end - self.flying_start)
        durable = self.end if self._is_flushing else 0
        self._log.post_again(self._number, durable, header, self._is_flushing)
        return True

    def _place(self, octets: int) -> None:
        segment = self.segment
        assert segment is not None
        self._number += 1
        self.flying_start = segment.base + self._fill
        self._log.place(segment.fd, self._fill, self.flying_start, segment.epoch)
        self._fill += octets
        self.flying_end = segment.base + self._fill

    def _begin(self, spare: Segment) -> bytes:
        """Make `spare` the segment in use; its header block, to be written with its first group."""
        last = self._segments.last
        spare.epoch = int.from_bytes(os.urandom(8), "little")
        spare.sequence = last.sequence + 1 if last else 1
        spare.base = last.end if last and self.segment else self._base
        spare.boot = self._boot
        spare.previous_end = self.end
        self._segments.append(spare)
        self.segment, self._fill = spare, HEADER_OCTETS
        return spare.encode_header()
