"""The server's side of the drop directory: finding, claiming, reading, quarantining.

Everything here blocks, so it runs on a thread. Files are anybody's: whatever is in them and
whatever is done to them meanwhile, each is read at most once into memory and judged by that.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import stat
from collections.abc import Callable, Sequence

from .form import HEAD_OCTETS_MAX, TRAILER_OCTETS, FormError, Submission, checksum, encode_trailer
from .place import UNFINISHED, Place, sync_directory
from .plan import PLAN_OCTETS_MAX, Plan

SCAN_MAX = 1_000  # files that one look brings
UNFINISHED_S = 36 * 3600  # after which nobody will finish a file
UNFINISHED_MAX = 1_000  # files of one owner that are being written; of those beyond that ...
UNFINISHED_MANY_S = 3600  # ... nobody will finish one after this
QUARANTINE_MAX = 1_000  # files in quarantine; beyond that what is refused is removed
_IGNORED_MAX = 1_000
_PIECE_OCTETS = 1 << 20
_HEAD_PIECE_OCTETS = 64 * 1024
_TRAILER = re.compile(rb"\nend ([0-9a-f]{8}) ([0-9a-f]{16})\n")
_ID = re.compile(r"[0-9A-Za-z]{12,20}")
_PLAN, _PARTIAL = ".plan", ".new"  # behind the name of a claim
_NS = 1_000_000_000

Refused = Callable[[str, int, str], None]  # name, user id (-1: unknown), why


class Letter:
    """One claimed file, found to be sound. `close` it."""

    __slots__ = ("_fd", "content", "content_octets", "id", "offset", "submission", "user_id")

    def __init__(self, id: bytes, user_id: int, submission: Submission) -> None:
        self.id = id
        self.user_id = user_id
        self.submission = submission
        self.content: bytes | None = None  # as the program wrote it; None: it is large, `read` it
        self.content_octets = 0
        self.offset = 0  # where the content begins: how long its head is
        self._fd = -1

    def keep(self, fd: int, end: int) -> None:
        """The content is large: this file up to `end`."""
        self._fd = os.dup(fd)
        os.set_inheritable(self._fd, False)
        self.content_octets = end - self.offset

    def read(self, position: int) -> bytes:
        """The next piece of a large content. Raises OSError."""
        count = min(_PIECE_OCTETS, self.content_octets - position)
        return os.pread(self._fd, count, self.offset + position) if count > 0 else b""

    def close(self) -> None:
        """Done with it. Idempotent."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class Box:
    """The files of one place. One thread at a time."""

    def __init__(self, place: Place, octets_max: int, inline_octets: int, refused: Refused) -> None:
        """`octets_max` limits a content; a larger one than `inline_octets` stays in its file.

        `refused` hears of each file that was not taken.
        """
        self.place = place
        self.waiting = 0  # files, as of the latest look
        self._octets_max = octets_max
        self._inline_octets = inline_octets
        self._refused = refused
        self._ignored: set[str] = set()  # what is not a file, and cannot be removed
        self._unfinished: dict[int, int] = {}  # files that are being written, by their owners

    def claims(self) -> list[bytes]:
        """The ids under which files are claimed. Raises OSError."""
        names = os.listdir(self.place.claimed)
        return [name.encode() for name in names if _ID.fullmatch(name)]

    def planned(self) -> list[bytes]:
        """The ids of plans, those too whose claims are gone. Raises OSError."""
        names = os.listdir(self.place.claimed)
        for name in names:
            if name.endswith(_PLAN + _PARTIAL):
                with contextlib.suppress(OSError):
                    os.unlink(os.path.join(self.place.claimed, name))
        return [name.removesuffix(_PLAN).encode() for name in names if name.endswith(_PLAN)]

    def look(self, now_ns: int) -> list[str]:
        """Names of files that wait, those first that were written first. Raises OSError."""
        found: list[tuple[int, str]] = []
        self.waiting = 0
        self._unfinished.clear()
        with os.scandir(self.place.new) as entries:
            for entry in entries:
                if entry.name.startswith(UNFINISHED):
                    self._sweep(entry, now_ns)
                elif not entry.is_file(follow_symlinks=False):
                    self._remove_odd(entry)
                else:
                    self.waiting += 1
                    if len(found) < SCAN_MAX:
                        with contextlib.suppress(OSError):
                            mtime_ns = entry.stat(follow_symlinks=False).st_mtime_ns
                            found.append((mtime_ns, entry.name))
        found.sort()
        return [name for _, name in found]

    def claim(self, names: Sequence[tuple[str, bytes]]) -> list[bytes]:
        """Take these files, each under its id, durably. The ids of those taken. Raises OSError."""
        taken = []
        for name, id in names:
            try:
                os.rename(os.path.join(self.place.new, name), self._claimed(id))
            except FileNotFoundError:  # its owner has thought better of it
                continue
            taken.append(id)
        if taken:
            sync_directory(self.place.claimed)
            sync_directory(self.place.new)
        return taken

    def claim_again(self, renamed: Sequence[tuple[bytes, bytes]]) -> list[bytes]:
        """(old, new): claims of which nothing was accepted have these ids now, durably.

        The new ids of those that are there. Raises OSError.
        """
        taken = []
        for old, new in renamed:
            with contextlib.suppress(FileNotFoundError):
                os.rename(self._claimed(old), self._claimed(new))
                taken.append(new)
        sync_directory(self.place.claimed)
        return taken

    def read(self, id: bytes) -> Letter | None:
        """The letter in a claimed file; None: it was refused. Raises OSError."""
        name, user_id = id.decode(), -1
        try:
            flags = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC
            fd = os.open(self._claimed(id), flags)
        except OSError as problem:
            if problem.errno not in (errno.ELOOP, errno.ENXIO, errno.EACCES, errno.EPERM):
                raise
            self.refuse(id, user_id, f"it cannot be opened: {problem.strerror}")
            return None
        try:
            found = os.fstat(fd)
            user_id = found.st_uid
            if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1:
                raise FormError("it is not a file with one name")
            return self._read(id, fd, found)
        except FormError as problem:
            self.refuse(name.encode(), user_id, str(problem))
            return None
        finally:
            os.close(fd)

    def remove(self, ids: Sequence[bytes]) -> None:
        """These claims are dealt with: they are gone, durably. Idempotent. Raises OSError."""
        for id in ids:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._claimed(id))
        if ids:
            sync_directory(self.place.claimed)

    def read_plan(self, id: bytes) -> Plan | None:
        """The plan of a claim, None if it has none. Raises OSError, FormError."""
        try:
            with open(self._claimed(id) + _PLAN, "rb") as file:
                return Plan.decode(file.read(PLAN_OCTETS_MAX))
        except FileNotFoundError:
            return None

    def write_plan(self, id: bytes, plan: Plan) -> None:
        """From now on this is the plan of a claim, durably. Raises OSError."""
        path = self._claimed(id) + _PLAN
        with open(path + _PARTIAL, "wb") as file:
            file.write(plan.encode())
            file.flush()
            os.fsync(file.fileno())
        os.rename(path + _PARTIAL, path)
        sync_directory(self.place.claimed)

    def remove_planned(self, id: bytes) -> None:
        """The claim is dealt with, then its plan: else it would be taken for one without any.

        Idempotent. Raises OSError.
        """
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._claimed(id))
        self.forget_plan(id)

    def forget_plan(self, id: bytes) -> None:
        """Of a claim that is gone for good, so is its plan. Idempotent. Raises OSError."""
        sync_directory(self.place.claimed)
        if not os.path.lexists(self._claimed(id)):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._claimed(id) + _PLAN)

    def refuse(self, id: bytes, user_id: int, why: str) -> None:
        """Put a claimed file where a person may look at it."""
        path, name = self._claimed(id), id.decode()
        if not os.path.lexists(path):  # it was refused before: several messages are made of it
            return
        is_kept = self._quarantined() < QUARANTINE_MAX
        with contextlib.suppress(OSError):
            if is_kept:
                os.rename(path, os.path.join(self.place.quarantine, name))
            else:
                os.unlink(path)
        self._refused(name, user_id, f"{why}; it is {'in quarantine' if is_kept else 'removed'}")

    def _quarantined(self) -> int:
        try:
            return len(os.listdir(self.place.quarantine))
        except OSError:
            return QUARANTINE_MAX

    def _claimed(self, id: bytes) -> str:
        return os.path.join(self.place.claimed, id.decode())

    def _sweep(self, entry: os.DirEntry[str], now_ns: int) -> None:
        """Remove what was begun long ago; of an owner who has very many, what is not so old."""
        with contextlib.suppress(OSError):
            found = entry.stat(follow_symlinks=False)
            count = self._unfinished[found.st_uid] = self._unfinished.get(found.st_uid, 0) + 1
            age_s = UNFINISHED_S if count <= UNFINISHED_MAX else UNFINISHED_MANY_S
            if now_ns - found.st_mtime_ns > age_s * _NS and not stat.S_ISDIR(found.st_mode):
                os.unlink(entry.path)

    def _remove_odd(self, entry: os.DirEntry[str]) -> None:
        """A link, FIFO, socket, device or directory is of no use to anybody."""
        if entry.name in self._ignored or len(self._ignored) >= _IGNORED_MAX:
            return
        user_id, why = -1, "it is not a file; it is removed"
        try:
            user_id = entry.stat(follow_symlinks=False).st_uid
            if entry.is_dir(follow_symlinks=False):
                os.rmdir(entry.path)
            else:
                os.unlink(entry.path)
        except OSError as problem:
            self._ignored.add(entry.name)
            why = f"it is not a file, and cannot be removed: {problem.strerror}"
        self._refused(entry.name, user_id, why)

    def _read(self, id: bytes, fd: int, found: os.stat_result) -> Letter:
        size = found.st_size
        if size > self._octets_max + HEAD_OCTETS_MAX:
            raise FormError(f"it has {size} octets")
        begin = size - TRAILER_OCTETS
        trailer = _TRAILER.fullmatch(os.pread(fd, TRAILER_OCTETS, begin)) if begin > 0 else None
        if trailer is None or int(trailer[2], 16) != begin:
            raise FormError("it is not whole")
        if size <= self._inline_octets:
            return self._read_small(id, fd, found.st_uid, begin)
        crc = position = 0
        while position < begin:
            piece = os.pread(fd, min(_PIECE_OCTETS, begin - position), position)
            if not piece:
                break
            crc = checksum(piece, crc)
            position += len(piece)
        if encode_trailer(crc, position) != trailer[0]:
            raise FormError("it is damaged")
        submission, offset = _decode_head(fd)
        letter = Letter(id, found.st_uid, submission)
        letter.offset = offset
        letter.keep(fd, begin)
        return letter

    def _read_small(self, id: bytes, fd: int, user_id: int, begin: int) -> Letter:
        octets = os.pread(fd, begin + TRAILER_OCTETS, 0)
        whole = octets[:begin]
        if octets[begin:] != encode_trailer(checksum(whole), begin):
            raise FormError("it is damaged")
        submission, offset = Submission.decode(whole)
        letter = Letter(id, user_id, submission)
        letter.offset = offset
        letter.content = whole[offset:]
        letter.content_octets = len(letter.content)
        return letter


def _decode_head(fd: int) -> tuple[Submission, int]:
    octets = os.pread(fd, _HEAD_PIECE_OCTETS, 0)
    if b"\n\n" not in octets:
        octets = os.pread(fd, HEAD_OCTETS_MAX, 0)
    return Submission.decode(octets)
