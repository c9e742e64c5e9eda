"""A look at the files of a shard that changes nothing, whether a process has the shard or not.

In a shard in use the oldest segments are voided and taken into use again at any moment, and the
last one grows. A header is written before the first group that counts and voided before anything
is overwritten. So whoever has read something of a segment looks at its header again: the same
epoch says that all that was read belongs to one life of the file.

A listing takes its time too. A file that was read as a spare may hold a segment a moment later, so
a listing can lack a segment between two that it has. What can be said of it for sure:

- it has every segment that the log had when it began, but for those voided before their turn; and
  the oldest are voided first: if it has one that is still there, it has all younger ones of then;
- when two in a row say the same of all files, the log was like that at the moment between them;
- a gap before a segment that an earlier listing had is one, if what is before it is still there.
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
    stamps: list[tuple[str, int]]  # what tells one state of the files from another
    known: frozenset[int] = frozenset()  # epochs that an earlier listing had
    is_settled: bool = False  # this is how the log was at one moment

    def extents(self, proof: int) -> list[tuple[Segment, int, int]]:
        """Each segment; below which offset all must be there; from which on nothing counts."""
        segments = self.segments
        return [(each, *extent(segments, at, proof)) for at, each in enumerate(segments)]

    def gaps(self, checkpoint: int) -> list[tuple[Segment, Segment]]:
        """Segments between which the log is missing, as far as recovery would miss it.

        Not those of which only this listing may not have seen what is between them.
        """
        pairs = itertools.pairwise(self.segments)
        wide = [(one, two) for one, two in pairs if one.end != two.base > checkpoint]
        return [(one, two) for one, two in wide if self.is_gap(one, two)]

    def is_gap(self, one: Segment, two: Segment) -> bool:
        """Whether nothing of the log is between these, which stand side by side in this listing."""
        return self.is_settled or (two.epoch in self.known and is_there(one))


def survey(layout: Layout, kind: LogKind) -> Survey:
    """List a log. Raises OSError, and SpoolFormat when a newer release wrote it."""
    found = _survey(layout, kind)
    for _ in range(_TRIES):
        again = _survey(layout, kind)
        found = again._replace(
            known=frozenset(segment.epoch for segment in found.segments),
            is_settled=found.stamps == again.stamps,
        )
        if found.is_settled:
            break  # else files changed their places while they were read
    return found


def _survey(layout: Layout, kind: LogKind) -> Survey:
    found = Survey([], [], [], [])
    directory = layout.hot if kind is LogKind.HOT else layout.cold
    if not os.path.isdir(directory):
        return found  # a spool of the first format has no cold log
    found.stamps.append(("", os.stat(directory).st_mtime_ns))
    for name in sorted(os.listdir(directory)):
        if not name.endswith(".seg"):
            continue
        path = os.path.join(directory, name)
        try:
            with opened(path) as fd:
                status = os.fstat(fd)
                segment = Segment(path, -1, status.st_size, kind)
                block = read_whole(fd, HEADER_OCTETS, 0)
        except FileNotFoundError:
            continue  # a spare that was not needed
        if segment.parse_header(block):
            found.segments.append(segment)
            found.stamps.append((name, segment.epoch))
        else:
            (found.suspects if any(block) else found.spares).append(path)
            found.stamps.append((name, status.st_mtime_ns))
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


def is_there(segment: Segment) -> bool:
    """Whether its file is still part of the log."""
    try:
        with opened(segment.path) as fd:
            return is_same(fd, segment)
    except FileNotFoundError:
        return False


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
