"""Directories and files of a spool, and what makes their names durable.

<root>/format                       version of this layout
<root>/shard-NN/lock                held by the one process that has the shard open
<root>/shard-NN/hot/<number>.seg    segments and spares, 16 hexadecimal digits
<root>/shard-NN/cold/<number>.seg   the same of the cold log
<root>/shard-NN/big/<boot>-<id>     contents too large for a record of the log
<root>/shard-NN/boot                number of the latest start; makes queue ids unique
<root>/shard-NN/doubt               deliveries under way, and lists of those in doubt after a crash:
<root>/shard-NN/in-doubt-<boot>.txt
<root>/shard-NN/suspended           next hops to which nothing went at the end, for lists
<root>/shard-NN/index/              LMDB; derived, may be deleted while the shard is closed
<root>/shard-NN/quarantine/         copies of damaged regions, <position>-<length>
"""

import errno
import fcntl
import os
import shutil
import time

from .problem import SpoolError, SpoolFormat

DIRECTORY_MODE = 0o700
FILE_MODE = 0o600
LAYOUT_FORMAT = 2  # 1: no cold log, no big contents
_UNFINISHED = ".new"


def sync_directory(path: str) -> None:
    """Make the names in `path` durable."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def make_directory(path: str) -> None:
    """Make `path` and every missing parent, and make each name durable in its parent."""
    if os.path.isdir(path):
        return
    parent = os.path.dirname(path)
    make_directory(parent)
    try:
        os.mkdir(path, DIRECTORY_MODE)
    except FileExistsError:
        if not os.path.isdir(path):
            raise
    sync_directory(parent)


def remove_tree(path: str) -> None:
    """Remove a directory and all below it, durably; no-op when it is missing. Raises OSError."""
    if os.path.lexists(path):
        shutil.rmtree(path)
        sync_directory(os.path.dirname(path))


def write_file(path: str, octets: bytes) -> None:
    """Put a file in place as a whole, durably."""
    temporary = (
        f"{path}.{os.getpid()}{_UNFINISHED}"  # workers may start a new spool at the same time
    )
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, FILE_MODE)
    try:
        view = memoryview(octets)
        while view:
            view = view[os.write(fd, view) :]
        os.fsync(fd)
    except OSError:
        os.unlink(temporary)
        raise
    finally:
        os.close(fd)
    os.rename(temporary, path)
    sync_directory(os.path.dirname(path))


def _overwrite_file(path: str, octets: bytes) -> None:
    """Put `octets`, less than a sector, where as many are already: this needs no new block."""
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.pwrite(fd, octets, 0)
        os.fsync(fd)
    finally:
        os.close(fd)


def read_whole(fd: int, count: int, offset: int) -> bytes:
    """`count` octets at `offset`; fewer only at the end of the file."""
    pieces = []
    while count:
        piece = os.pread(fd, count, offset)
        if not piece:
            break
        pieces.append(piece)
        count -= len(piece)
        offset += len(piece)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


class Layout:
    """Paths of one shard; owns the lock."""

    def __init__(self, root: str, shard: int) -> None:
        self.root = os.path.abspath(root)
        self.number = shard
        self.shard = os.path.join(self.root, f"shard-{shard:02d}")
        self.hot = os.path.join(self.shard, "hot")
        self.cold = os.path.join(self.shard, "cold")
        self.big = os.path.join(self.shard, "big")
        self.index = os.path.join(self.shard, "index")
        self.quarantine = os.path.join(self.shard, "quarantine")
        self.doubt = os.path.join(self.shard, "doubt")
        self.suspended = os.path.join(self.shard, "suspended")
        self._lock_fd = -1

    def prepare(self) -> None:
        """Make what is missing and take the lock. Raises SpoolError."""
        make_directory(self.root)
        self._check_format()
        for path in (self.shard, self.hot, self.cold, self.big, self.quarantine):
            make_directory(path)
        self._lock()
        self._sweep()

    def release(self) -> None:
        """Give the lock up."""
        if self._lock_fd >= 0:
            os.close(self._lock_fd)
            self._lock_fd = -1

    def big_path(self, boot: int, id: bytes) -> str:
        """The file of a large content that was received in start `boot`."""
        return os.path.join(self.big, f"{boot:x}-{id.decode('ascii')}")

    def begin_boot(self, seen: int) -> int:
        """The number of this start: larger than `seen` and than that of any start before.

        Durable before it is used, and at least the time, so that it survives a lost file as well.
        """
        path = os.path.join(self.shard, "boot")
        text = b""
        if os.path.exists(path):
            with open(path, "rb") as file:
                text = file.read(32)
        last = int(text) if text.strip().isdigit() else 0
        number = max(last + 1, seen + 1, time.time_ns() // 1_000_000_000)
        octets = b"%d\n" % number
        try:
            write_file(path, octets)
        except OSError as problem:  # a queue that cannot start cannot make room either
            if problem.errno not in (errno.ENOSPC, errno.EDQUOT) or len(octets) != len(text):
                raise
            _overwrite_file(path, octets)
        return number

    def _sweep(self) -> None:
        """Remove what a process left that died inside `write_file`."""
        for directory in (self.shard, self.quarantine):
            for name in os.listdir(directory):
                if name.endswith(_UNFINISHED):
                    os.unlink(os.path.join(directory, name))

    def _check_format(self) -> None:
        path = os.path.join(self.root, "format")
        try:
            with open(path, "rb") as file:
                text = file.read(32)
        except FileNotFoundError:
            write_file(path, b"%d\n" % LAYOUT_FORMAT)
            return
        number = text.strip()
        if not number.isdigit():
            raise SpoolFormat(f"{path} does not hold a format number")
        if int(number) > LAYOUT_FORMAT:
            raise SpoolFormat(
                f"{path} says format {int(number)}; this release knows up to {LAYOUT_FORMAT}"
            )
        if int(number) < LAYOUT_FORMAT:  # an older release must not overlook what we add
            write_file(path, b"%d\n" % LAYOUT_FORMAT)

    def _lock(self) -> None:
        path = os.path.join(self.shard, "lock")
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, FILE_MODE)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = os.pread(fd, 32, 0).strip().decode("ascii", "replace") or "unknown"
            os.close(fd)
            raise SpoolError(f"{self.shard} is in use by process {owner}") from None
        text = b"%d\n" % os.getpid()
        os.pwrite(fd, text, 0)  # cut afterwards: a full volume might not give the block back to us
        os.ftruncate(fd, len(text))
        self._lock_fd = fd
