"""Backup: a copy of a shard that opens to a state that the shard had, while it is in use or not.

Mail moves while it is copied, always in the same way: what is live in the oldest segment of a log
is appended to the cold log and flushed there, only then is the segment voided, only then is its
file written again. So, per pass:

1. the hot log is copied; copies of segments that were voided meanwhile are dropped;
2. the cold log is copied: it has whatever was live in the segments dropped (or missed) above;
3. what has come to the hot log meanwhile is copied: no FOLD of the cold log is ahead of it.

A pass is whole when nothing was voided under our hands in 2, and the copies after 3 are one piece
of the hot log, without a gap, from a segment that was there before 2 to one that was there after 3.
Until then there is another one, of what is new. See `survey.py` for what a listing of the files of
a log in use is worth. A segment is copied up to the end that the next header states, or that
recovery would find in it; its header is looked at again afterwards.

Large contents come last, because they go last: one that a record of the copy refers to and that is
gone by then belongs to a message that has become final, so the logs are copied on to where they say
so. Most are copied before the logs, and the rest is opened before any of it is copied: else more
would come and go while that is done than can be caught up with.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
from collections.abc import Callable
from typing import NamedTuple

from .layout import DIRECTORY_MODE, FILE_MODE, Layout, read_whole, sync_directory, write_file
from .problem import SpoolError
from .segment import LogKind, Segment
from .survey import Survey, is_same, is_there, opened, survey
from .verdict import Report
from .verify import read_and_judge, verify_shard

_PASSES_MAX = 50
_LOST_CONTENT_TRIES = 5
_BIG_PASSES_MAX = 5
_FEW = 10  # large contents
_OPEN_MAX = 256
_PIECE_OCTETS = 1024 * 1024

Tell = Callable[[str], None]


class _Copy(NamedTuple):
    """A segment as it was copied."""

    path: str
    base: int
    end: int
    octets: int  # of the log in it
    previous_end: int  # where the log ended before it


class _LogCopy:
    """The copies of one log's segments. Their names are new: a file is used more than once."""

    def __init__(self, source: Layout, target: Layout, kind: LogKind) -> None:
        self._source = source
        self._directory = target.hot if kind is LogKind.HOT else target.cold
        self._kind = kind
        self._copies: dict[int, _Copy] = {}  # by epoch
        self._number = 0

    def refresh(self) -> bool:
        """Copy what there is, and drop the copies of what has been voided.

        False when something that was there, or was moved on meanwhile, may not be among them.
        """
        found = survey(self._source, self._kind)
        listed = {segment.epoch for segment in found.segments}
        for epoch in [epoch for epoch in self._copies if epoch not in listed]:
            os.unlink(self._copies.pop(epoch).path)
        if not self._copy_all(found):
            return False
        if found.is_settled:
            return True
        oldest = next(iter(found.segments), None)  # when it stays, nothing was voided
        if oldest is None or oldest.epoch not in found.known or not is_there(oldest):
            return False
        return self._is_in_one_piece(found)

    def extend(self) -> bool:
        """Copy what has come, and keep the copies of what has been voided.

        False when they do not reach from where they began to where the log is now.
        """
        has_begun = bool(self._copies)
        found = survey(self._source, self._kind)
        if not self._copy_all(found):
            return False
        if not (has_begun and found.segments):
            return found.is_settled and not self._copies
        return is_there(found.segments[-1]) and self._is_in_one_piece(found)

    def _copy_all(self, found: Survey) -> bool:
        is_whole = True
        for segment, proven, limit in found.extents(0):
            is_whole &= self._copy(segment, proven, limit)
        return is_whole

    def _is_in_one_piece(self, found: Survey) -> bool:
        """Whether each copy goes to where the next one says, but for gaps of the log itself."""
        listed = {segment.epoch: segment for segment in found.segments}
        copies = sorted(self._copies.items(), key=lambda item: item[1].base)
        for (first, one), (second, two) in itertools.pairwise(copies):
            if one.end == two.base:
                is_good = two.previous_end - one.base <= one.octets  # or it went on after that
            elif first in listed and second in listed:
                is_good = found.is_gap(listed[first], listed[second])
            else:
                is_good = False
            if not is_good:
                return False
        return True

    def _copy(self, segment: Segment, proven: int, limit: int) -> bool:
        known = self._copies.get(segment.epoch)
        if known is not None and known.octets >= limit:
            return True
        try:
            with opened(segment.path) as fd:
                end = limit
                if proven < limit:  # nothing says where it ends
                    data, scan = read_and_judge(fd, segment, proven, limit)
                    data.release()
                    end = scan.end
                if known is None or known.octets < end:
                    path = known.path if known is not None else self._new_path()
                    _copy_octets(fd, path, end, segment.size_octets)
                    known = _Copy(path, segment.base, segment.end, end, segment.previous_end)
                is_good = is_same(fd, segment)
        except FileNotFoundError:
            is_good = False
        if is_good:
            assert known is not None
            self._copies[segment.epoch] = known
        elif known is not None:
            os.unlink(known.path)
            self._copies.pop(segment.epoch, None)
        return is_good

    def _new_path(self) -> str:
        self._number += 1
        return os.path.join(self._directory, f"{self._number:016x}.seg")


class _BigCopy:
    """The copies of large contents, which never change once a record refers to them."""

    def __init__(self, source: Layout, target: Layout) -> None:
        self._source, self._target = source.big, target.big
        self._sizes: dict[str, int] = {}  # of the copies

    def follow(self) -> int:
        """Copy what is not there yet; how many."""
        if not os.path.isdir(self._source):
            return 0
        names = [entry.name for entry in os.scandir(self._source) if self._is_new(entry)]
        return sum(
            self._copy(names[begin : begin + _OPEN_MAX])
            for begin in range(0, len(names), _OPEN_MAX)
        )

    def _is_new(self, entry: os.DirEntry[str]) -> bool:
        try:
            return self._sizes.get(entry.name) != entry.stat(follow_symlinks=False).st_size
        except FileNotFoundError:
            return False  # its message has become final

    def _copy(self, names: list[str]) -> int:
        with contextlib.ExitStack() as stack:
            held: dict[str, int] = {}
            for name in names:
                with contextlib.suppress(FileNotFoundError):
                    path = os.path.join(self._source, name)
                    held[name] = stack.enter_context(opened(path))
            for name, fd in held.items():
                size = os.fstat(fd).st_size
                _copy_octets(fd, os.path.join(self._target, name), size, size)
                self._sizes[name] = size
            return len(held)


def back_up(source: Layout, target_root: str, tell: Tell) -> Report:
    """Copy a shard below `target_root`, which must exist; the copy, verified.

    Everything is durable when this returns. Raises OSError and SpoolError.
    """
    target = Layout(target_root, source.number)
    for path in (target.shard, target.hot, target.cold, target.big):
        os.mkdir(path, DIRECTORY_MODE)
    boot = os.path.join(source.shard, "boot")
    if os.path.exists(boot):
        with opened(boot) as fd:
            write_file(os.path.join(target.shard, "boot"), read_whole(fd, 32, 0))
    hot = _LogCopy(source, target, LogKind.HOT)
    cold = _LogCopy(source, target, LogKind.COLD)
    big = _BigCopy(source, target)
    for attempt in range(_LOST_CONTENT_TRIES):
        for _ in range(_BIG_PASSES_MAX):
            if big.follow() <= _FEW:
                break
        passes = _follow(hot, cold)
        big.follow()
        for path in (target.hot, target.cold, target.big, target.shard):
            sync_directory(path)
        report = verify_shard(target)
        tell(f"shard {source.number}: copied in {passes} passes, {report.octets} octets checked")
        if attempt and not report.damage:
            break
        if not any(problem.file.startswith(target.big) for problem in report.damage):
            break
    return report


def _follow(hot: _LogCopy, cold: _LogCopy) -> int:
    """Copy both logs; how many passes it took."""
    for number in range(1, _PASSES_MAX + 1):
        hot.refresh()
        is_whole = cold.refresh()
        if hot.extend() and is_whole:
            return number
    raise SpoolError(
        f"the logs were rewritten faster than they could be copied {_PASSES_MAX} times"
    )


def _copy_octets(fd: int, path: str, count: int, size: int) -> None:
    """Copy the first `count` octets to a file of `size`, whose rest is a hole, and make it durable.

    Octets, never a link or a shared block: segments are overwritten in place, and disks fail.
    """
    out = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, FILE_MODE)
    try:
        at = 0
        while at < count:
            piece = memoryview(os.pread(fd, min(_PIECE_OCTETS, count - at), at))
            if not piece:
                break  # the file was cut: what is missing reads as zeros
            while piece:
                written = os.pwrite(out, piece, at)
                at += written
                piece = piece[written:]
        os.ftruncate(out, size)
        os.fsync(out)
    finally:
        os.close(out)


class Target:
    """Where a backup goes: beside its name until it is whole, so that a half never looks whole."""

    def __init__(self, source_root: str, path: str) -> None:
        """Raises SpoolError when there is something already, or it lies within the spool."""
        self.path = os.path.abspath(path)
        self.partial = f"{self.path}.partial"
        for each in (self.path, self.partial):
            if os.path.lexists(each):
                raise SpoolError(f"{each} exists: a backup overwrites nothing")
        if os.path.commonpath([os.path.abspath(source_root), self.path]) == os.path.abspath(
            source_root
        ):
            raise SpoolError(f"{self.path} is inside the spool")

    def begin(self, form: int) -> None:
        """Make the directory."""
        os.mkdir(self.partial, DIRECTORY_MODE)
        write_file(os.path.join(self.partial, "format"), b"%d\n" % form)

    def finish(self) -> None:
        """It is whole: give it its name, durably."""
        sync_directory(self.partial)
        os.rename(self.partial, self.path)
        sync_directory(os.path.dirname(self.path))

    def abandon(self) -> None:
        """Remove what there is of it."""
        shutil.rmtree(self.partial)
