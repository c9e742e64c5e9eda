"""The writing end of the cold log. Only the trimmer uses it, on the index thread.

Nobody waits for it: a group that cannot be written is forgotten, since all that it holds still
stands where it was copied from. Its file is not written again.
"""

from __future__ import annotations

import os
from typing import NamedTuple

from ._log import Log
from .keeper import Keeper
from .option import Durability, SpoolOptions
from .problem import SpoolError
from .segment import HEADER_OCTETS, Logs, Segment

GROUP_OCTETS_MAX = 1024 * 1024


class Copied(NamedTuple):
    """A record in the open group."""

    id: bytes
    old: int  # its position so far
    offset: int  # in the group
    octets: int  # of the record, as the index counts them


class NoSpare(Exception):
    """There is no segment to write to just now."""


class ColdLog:
    """Appends groups of copies."""

    def __init__(
        self, logs: Logs, keeper: Keeper, options: SpoolOptions, boot: int, end: int, base: int
    ) -> None:
        self.end = end  # of what is durable
        self._logs = logs
        self._keeper = keeper
        self._boot = boot
        self._base = base
        self._is_flushing = options.durability is Durability.FULL
        room = options.segment_octets - HEADER_OCTETS - 256
        self._log = Log(-1, -1, min(GROUP_OCTETS_MAX, room), room)
        self._segment: Segment | None = None
        self._fill = 0
        last = logs.cold.last
        self._number = last.sequence << 20 if last else 0

    def has_room(self, octets: int) -> bool:
        """Whether records with so much payload go into the open group."""
        return self._log.has_room(octets)

    def append(self, kind: int, payload: bytes) -> int:
        """Append a copy of a MSG or REF; its offset in the group. Raises SpoolError: too large."""
        try:
            return self._log.append_copy(kind, payload)
        except ValueError as problem:
            raise SpoolError(f"a record cannot be moved: {problem}") from problem

    def append_fold(self, id: bytes, applied: int, states: bytes) -> None:
        """Append all that is known of a message's recipients. Raises SpoolError: too large."""
        try:
            self._log.append_fold(id, applied, states)
        except ValueError as problem:
            raise SpoolError(f"the states of a message cannot be moved: {problem}") from problem

    def append_tomb(self, id: bytes) -> None:
        """Append that a message is final."""
        self._log.append_tomb(id)

    def discard(self) -> None:
        """Forget the open group."""
        self._log.discard()

    def commit(self) -> int:
        """Write and flush the open group; its position. 0: it is empty.

        Raises NoSpare (then it is for `discard`), SpoolError (it is forgotten).
        """
        log = self._log
        if not log.open_count:
            return 0
        header = b""
        segment = self._segment
        if segment is None or self._fill + log.open_octets > segment.size_octets:
            segment = self._keeper.take()
            if segment is None:
                raise NoSpare
            if HEADER_OCTETS + log.open_octets > segment.size_octets:
                log.discard()
                self._keeper.put_back(segment)
                raise SpoolError("a record and the states of its message do not fit a segment")
            header = self._begin(segment)
        start = segment.base + self._fill
        octets = log.open_octets
        self._number += 1
        durable = self.end if self._is_flushing else 0
        log.place(segment.fd, self._fill, start, segment.epoch)
        problem = log.commit_here(self._number, durable, header, self._is_flushing)
        self._fill += octets
        if problem:
            self._segment = None
            segment.is_suspect = True
            raise SpoolError(f"{segment.path} could not be written: {os.strerror(problem)}")
        self.end = start + octets
        return start

    def reset(self) -> None:
        """Every segment of the cold log was given back."""
        if self._segment is not None:
            self._base = max(self._base, self._segment.end)
            self._segment = None

    def _begin(self, spare: Segment) -> bytes:
        last = self._logs.cold.last
        spare.epoch = int.from_bytes(os.urandom(8), "little")
        spare.sequence = last.sequence + 1 if last else 1
        spare.base = self._base = max(last.end if last else 0, self._base)
        spare.boot = self._boot
        spare.previous_end = self.end
        self._logs.cold.append(spare)
        self._segment, self._fill = spare, HEADER_OCTETS
        return spare.encode_header()
