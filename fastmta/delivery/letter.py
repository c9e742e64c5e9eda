"""One message for one recipient on its way to a file of its own. Every call may block.

Order: temporary file, its octets, fsync, rename, fsync of the directory; only then is it delivered.
The name is made of queue id and recipient, so a repeat after a crash takes the place of what the
crash left, and no second copy appears. Mode 0600, line ends CR LF as they came.
"""

from __future__ import annotations

import contextlib
import errno
import os
from typing import Final

from fastmta.message import Message, Outcome, OutcomeKind, Scope
from fastmta.message.category import Category

LOCAL: Final = "local"  # relay= of the log line, as for Postfix's local(8)
_MODE: Final = 0o600
_FULL: Final = frozenset((errno.ENOSPC, errno.EDQUOT, errno.EFBIG))
_CONTROLS: Final = bytes(0x3F if octet < 0x20 or octet == 0x7F else octet for octet in range(256))


def head_of(message: Message, index: int) -> bytes:
    """The fields of a final delivery (RFC 5321 4.4), in the order in which Postfix writes them."""
    envelope = message.envelope
    reverse_path = envelope.reverse_path.translate(_CONTROLS)
    forward_path = envelope.forward_paths[index].translate(_CONTROLS)
    return b"Return-Path: <%b>\r\nX-Original-To: %b\r\nDelivered-To: %b\r\n" % (
        reverse_path,
        forward_path,
        forward_path,
    )


def name_of(message: Message, index: int) -> str:
    """The file's name: the same for every attempt at this recipient."""
    id = message.id.decode("ascii")
    if not id.isalnum():
        raise ValueError("a queue id that is no file name")
    return f"{id}-{index}.eml"


class Letter:
    """The file of one recipient. After an OSError only `abandon` may be called."""

    __slots__ = ("_directory", "_directory_fd", "_fd", "_name")

    def __init__(self, directory: str, name: str) -> None:
        self._directory = directory
        self._name = name
        self._directory_fd = -1
        self._fd = -1

    @property
    def path(self) -> str:
        """Where it is once it is delivered."""
        return f"{self._directory}/{self._name}"

    @property
    def _temporary(self) -> str:
        return f"{self._directory}/.{self._name}.tmp"

    def open(self) -> None:
        """Begin, in place of what an attempt that was cut short has left."""
        if not self._directory.startswith("/"):
            raise NotADirectoryError(errno.ENOTDIR, "it is no absolute path")
        self._directory_fd = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            self._fd = self._create()
        except FileExistsError:
            os.unlink(self._temporary)
            self._fd = self._create()

    def write(self, octets: bytes) -> None:
        """Append all of `octets`."""
        rest = memoryview(octets)
        while rest:
            rest = rest[os.write(self._fd, rest) :]

    def deliver(self) -> None:
        """Make it durable under its name."""
        os.fsync(self._fd)
        fd, self._fd = self._fd, -1
        os.close(fd)
        os.rename(self._temporary, self.path)
        os.fsync(self._directory_fd)
        at, self._directory_fd = self._directory_fd, -1
        os.close(at)

    def abandon(self) -> None:
        """Let go of everything; never raises. A temporary file is removed if that is possible."""
        fd, self._fd = self._fd, -1
        at, self._directory_fd = self._directory_fd, -1
        if at >= 0:
            with contextlib.suppress(OSError):
                os.unlink(self._temporary)
        for each in (fd, at):
            if each >= 0:
                with contextlib.suppress(OSError):
                    os.close(each)

    def _create(self) -> int:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        return os.open(self._temporary, flags, _MODE)

    # What came of it.

    def delivered(self) -> Outcome:
        """It is durable."""
        return Outcome(
            OutcomeKind.DELIVERED,
            "2.0.0",
            f"delivered to file: {self.path}",
            Scope.RECIPIENT,
            LOCAL,
        )


def try_directory(directory: str) -> Outcome:
    """Whether files could be made there, of what a look at it tells. Raises OSError if not."""
    if not directory.startswith("/"):
        raise NotADirectoryError(errno.ENOTDIR, "it is no absolute path")
    os.close(os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
    is_effective = os.access in os.supports_effective_ids
    if not os.access(directory, os.W_OK | os.X_OK, effective_ids=is_effective):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    text = f"delivers to file: {directory}"
    return Outcome(OutcomeKind.DELIVERABLE, "2.0.0", text, Scope.RECIPIENT, LOCAL)


def refused(directory: str, error: OSError) -> Outcome:
    """The directory takes no file now: full, missing, not ours. Its site waits, not the message."""
    status = "4.3.1" if error.errno in _FULL else "4.3.5"
    reason = error.strerror or type(error).__name__
    text = f"cannot deliver to directory {directory}: {reason}"
    return Outcome(
        OutcomeKind.DEFERRED, status, text, Scope.SITE, LOCAL, category=Category.LOCAL_DISK.value
    )
