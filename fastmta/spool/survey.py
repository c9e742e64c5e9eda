"""A look at the files of a shard that changes nothing, whether a process has the shard or not.

In a shard in use the oldest segments are voided and taken into use again at any moment, and the
last one grows. A header is written before the first group that counts and voided before anything
is overwritten. So whoever has read something of a segment looks at its header again: the same
epoch says that all that was read belongs to one life of the file.
"""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import os
from collections.abc import Iterator
from typing import NamedTuple

import lmdb

from ._row import unpack_message
from .index import MessageRow
from .layout import LAYOUT_FORMAT, Layout, read_whole
from .problem import SpoolFormat
from .recovery import extent
from .segment import HEADER_OCTETS, LogKind, Segment

_TRIES = 5  # until two listings in a row say the same


class Survey(NamedTuple):
    """The files of one log. No segment is open: `fd` is -1."""

    segments: list[Segment]  # in the order of the log
    spares: list[str]
    suspects: list[str]  # their headers are neither valid nor void

    def extents(self, proof: int) -> list[tuple[Segment, int, int]]:
        """Each segment; below which offset all must be there; from which on nothing counts."""
        segments = self.segments
        return [(each, *extent(segments, at, proof)) for at, each in enumerate(segments)]

    def gaps(self, checkpoint: int) -> list[tuple[int, int]]:
        """Positions between which the log is missing, as far as recovery would miss it."""
        pairs = itertools.pairwise(self.segments)
        return [(one.end, two.base) for one, two in pairs if one.end != two.base > checkpoint]


def survey(layout: Layout, kind: LogKind) -> Survey:
    """List a log. Raises OSError, and SpoolFormat when a newer release wrote it."""
    found = _survey(layout, kind)
    for _ in range(_TRIES):
        again = _survey(layout, kind)
        if _identity(found) == _identity(again):
            break
        found = again  # while the first was read, files changed their places
    return found


def _identity(found: Survey) -> list[tuple[str, int]]:
    return [(segment.path, segment.epoch) for segment in found.segments]


def _survey(layout: Layout, kind: LogKind) -> Survey:
    found = Survey([], [], [])
    directory = layout.hot if kind is LogKind.HOT else layout.cold
    if not os.path.isdir(directory):
        return found  # a spool of the first format has no cold log
    for name in sorted(os.listdir(directory)):
        if not name.endswith(".seg"):
            continue
        path = os.path.join(directory, name)
        try:
            with opened(path) as fd:
                segment = Segment(path, -1, os.fstat(fd).st_size, kind)
                block = read_whole(fd, HEADER_OCTETS, 0)
        except FileNotFoundError:
            continue  # a spare that was not needed
        if segment.parse_header(block):
            found.segments.append(segment)
        else:
            (found.suspects if any(block) else found.spares).append(path)
    found.segments.sort(key=_base)
    return found


def _base(segment: Segment) -> int:
    return segment.base


@contextlib.contextmanager
def opened(path: str) -> Iterator[int]:
    """A file to be read once, from its beginning to its end."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_SEQUENTIAL)
        yield fd
    finally:
        os.close(fd)


def is_same(fd: int, segment: Segment) -> bool:
    """Whether the file is still in the life in which `segment` was listed."""
    again = Segment(segment.path, -1, segment.size_octets, segment.kind)
    return again.parse_header(read_whole(fd, HEADER_OCTETS, 0)) and again.epoch == segment.epoch


@contextlib.contextmanager
def only_reader(layout: Layout) -> Iterator[bool]:
    """Keep every process from opening the shard; False when one has it, then nothing is kept.

    Changes nothing: the lock is shared with others that only read.
    """
    try:
        fd = os.open(os.path.join(layout.shard, "lock"), os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        yield True  # nobody ever opened it: a copy
        return
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(fd)


def read_format(root: str) -> int:
    """The format of a spool. Raises OSError, and SpoolFormat for one that we do not know."""
    with open(os.path.join(root, "format"), "rb") as file:
        text = file.read(32).strip()
    if not text.isdigit():
        raise SpoolFormat(f"{root}/format does not hold a format number")
    if int(text) > LAYOUT_FORMAT:
        raise SpoolFormat(
            f"{root}/format says format {int(text)}; this release knows up to {LAYOUT_FORMAT}"
        )
    return int(text)


def shard_numbers(root: str) -> list[int]:
    """The shards below a spool directory. Raises OSError when it cannot be listed."""
    names = (name.removeprefix("shard-") for name in os.listdir(root) if name.startswith("shard-"))
    return sorted(int(name) for name in names if name.isdigit())


@contextlib.contextmanager
def _index_opened(layout: Layout) -> Iterator[lmdb.Environment]:
    env = lmdb.open(layout.index, readonly=True, lock=False, create=False, max_dbs=16)
    try:
        yield env
    finally:
        env.close()


def read_index_meta(layout: Layout) -> dict[str, int] | None:
    """What the index says of itself; None when it cannot be read. Only for the `only_reader`."""
    try:
        with _index_opened(layout) as env, env.begin() as txn:
            table = env.open_db(b"meta", txn, create=False)
            return {key.decode(): int(value) for key, value in txn.cursor(table)}
    except (lmdb.Error, ValueError):
        return None


def read_live(layout: Layout) -> tuple[int, int]:
    """Messages in the index, and octets of their contents. Only for the `only_reader`.

    Raises lmdb.Error.
    """
    count = octets = 0
    with _index_opened(layout) as env, env.begin() as txn:
        for value in txn.cursor(env.open_db(b"message", txn, create=False)).iternext(keys=False):
            count += 1
            octets += MessageRow(*unpack_message(value)).size_octets
    return count, octets


def proof_of(meta: dict[str, int] | None, kind: LogKind) -> tuple[int, int]:
    """Of a log: below which position the index has all, and which it surely reached."""
    if not meta:
        return 0, 0
    end = meta.get("checkpoint" if kind is LogKind.HOT else "cold_end", 0)
    return end, end if meta.get("durable", 1) else 0
