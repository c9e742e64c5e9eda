"""The drop directory as a place: its parts, their modes, and the facts for the command."""

from __future__ import annotations

import errno
import os
import stat

UNFINISHED = "."  # begins the names of files that are being written
_NEW_MODE = 0o3733
_NEW_MODE_LEAST = 0o1733  # where set-group-id is forbidden
_FACTS_OCTETS_MAX = 4096
_MESSAGE_OCTETS = 25 * 1024 * 1024  # the schema's default; used where there are no facts yet


class Facts:
    """What `sendmail` must know of the server's configuration, which it may not be able to read."""

    __slots__ = ("free_share", "hostname", "message_octets", "origin", "spool")

    def __init__(self) -> None:
        self.hostname = ""
        self.origin = ""
        self.message_octets = _MESSAGE_OCTETS  # the largest content
        self.free_share = 0.03  # of the volume: nothing is taken below
        self.spool = ""  # where the control sockets are asked for

    def encode(self) -> bytes:
        """As lines."""
        return "".join(f"{name} {getattr(self, name)}\n" for name in self.__slots__).encode()

    @classmethod
    def decode(cls, octets: bytes) -> Facts:
        """From lines; what is not understood keeps its default."""
        facts = cls()
        for line in octets.decode("utf-8", "replace").split("\n"):
            name, _, text = line.partition(" ")
            if name in cls.__slots__:
                try:
                    setattr(facts, name, type(getattr(facts, name))(text))
                except ValueError:
                    continue
        return facts


class Place:
    """Paths below one drop directory."""

    def __init__(self, root: str) -> None:
        self.root = root
        self.new = os.path.join(root, "new")
        self.claimed = os.path.join(root, "claimed")
        self.quarantine = os.path.join(root, "quarantine")
        self.facts = os.path.join(root, "facts")
        self.wake = os.path.join(root, "wake")
        self.full = os.path.join(root, "full")

    # For the server.

    def prepare(self) -> None:
        """Make what is missing, with its mode; idempotent. Raises OSError.

        For root only while it belongs to root: else links may stand in the way.
        """
        for path, mode in (
            (self.root, 0o755),
            (self.new, _NEW_MODE),
            (self.claimed, 0o700),
            (self.quarantine, 0o700),
        ):
            _make_directory(path)
            _set_mode(path, mode)
        if not os.path.lexists(self.wake):
            os.mkfifo(self.wake)
        if not stat.S_ISFIFO(os.lstat(self.wake).st_mode):
            raise OSError(errno.EEXIST, "there is something else than a FIFO", self.wake)
        os.chmod(self.wake, 0o622)
        sync_directory(self.root)
        sync_directory(os.path.dirname(self.root))

    def write_facts(self, facts: Facts) -> None:
        """Tell the command. Raises OSError."""
        partial = f"{self.facts}.new"
        fd = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
        try:
            os.fchmod(fd, 0o644)
            os.write(fd, facts.encode())
        finally:
            os.close(fd)
        os.rename(partial, self.facts)

    def set_full(self, is_full: bool) -> None:
        """Whether the command may add files."""
        try:
            if is_full:
                os.close(os.open(self.full, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644))
            elif os.path.lexists(self.full):
                os.unlink(self.full)
        except OSError:
            return  # without room for it there is none for mail either

    # For the command.

    def read_facts(self) -> Facts:
        """What the server said at its latest start; defaults where it never ran."""
        try:
            fd = os.open(self.facts, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError:
            return Facts()
        try:
            return Facts.decode(os.read(fd, _FACTS_OCTETS_MAX))
        finally:
            os.close(fd)

    def refusal(self, octets: int, free_share: float) -> str:
        """Why no file of so many octets can be taken just now; "": it can. Raises OSError."""
        if os.path.lexists(self.full):
            return "too many messages wait already"
        volume = os.statvfs(self.new)
        free = volume.f_bavail * volume.f_frsize
        if free < octets * 3 // 2 or volume.f_bavail < volume.f_blocks * free_share:
            return "there is not enough room on the volume"
        if volume.f_files and volume.f_favail < volume.f_files * free_share:
            return "there are not enough inodes on the volume"
        return ""

    def is_served(self) -> bool | None:
        """Whether a server looks after it just now; None: that cannot be seen."""
        try:
            fd = os.open(self.wake, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError as problem:
            return False if problem.errno == errno.ENXIO else None
        try:
            return stat.S_ISFIFO(os.fstat(fd).st_mode) or None
        finally:
            os.close(fd)

    def call(self) -> bool:
        """Wake the server up; False: nobody is there."""
        try:
            fd = os.open(self.wake, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError:
            return False
        try:
            os.write(fd, b"W")
        except OSError:  # the pipe is full: it has been called often enough
            pass
        finally:
            os.close(fd)
        return True


def sync_directory(path: str) -> None:
    """Make the names in `path` durable. Raises OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _make_directory(path: str) -> None:
    """With its parents, which are for everybody."""
    parent = os.path.dirname(path)
    if not os.path.isdir(parent):
        _make_directory(parent)
    try:
        os.mkdir(path, 0o755)
    except FileExistsError:
        if not stat.S_ISDIR(os.lstat(path).st_mode):
            raise


def _set_mode(path: str, mode: int) -> None:
    wanted = (mode, _NEW_MODE_LEAST) if mode == _NEW_MODE else (mode,)
    if stat.S_IMODE(os.lstat(path).st_mode) in wanted:
        return  # perhaps made by somebody who may do more than we
    try:
        os.chmod(path, mode)
    except PermissionError:
        if mode != _NEW_MODE:
            raise
        os.chmod(path, _NEW_MODE_LEAST)
