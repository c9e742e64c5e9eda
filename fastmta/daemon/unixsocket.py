"""A listening socket at a path: made with its mode, also in place of a stale one, and taken away.

A path outlives who listened there. Ours replaces another socket only when nobody listens at that
any more, which is found out under a lock on the directory: of two servers that start at the same
time neither takes the other's new socket for a stale one.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket
import stat
from collections.abc import Iterator

Identity = tuple[int, int]  # device and inode of a path


def open_path(path: str, mode: int, backlog: int) -> tuple[socket.socket, Identity]:
    """Listen at `path`. Raises OSError."""
    with _locked(os.path.dirname(path)):
        _remove_stale(path)
        opened = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        mask = os.umask(0o777)  # nobody connects before it has its mode
        try:
            opened.bind(path)
        except OSError:
            opened.close()
            raise
        finally:
            os.umask(mask)
        try:
            opened.listen(backlog)
            return opened, set_mode(path, mode)
        except OSError:
            opened.close()
            os.unlink(path)
            raise


def set_mode(path: str, mode: int, identity: Identity | None = None) -> Identity:
    """Let others connect to the socket at `path`, and to nothing else that somebody puts there.

    Raises OSError: also when it is not `identity`.
    """
    fd = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        found = os.fstat(fd)
        here = found.st_dev, found.st_ino
        if not stat.S_ISSOCK(found.st_mode) or identity not in (None, here):
            raise FileExistsError(errno.EEXIST, "somebody has put something else there", path)
        os.chmod(f"/proc/self/fd/{fd}", mode)
        return here
    finally:
        os.close(fd)


def remove_path(path: str, identity: Identity) -> None:
    """Take the socket away that `open_path` made, unless another one is there by now."""
    with contextlib.suppress(OSError), _locked(os.path.dirname(path)):
        found = os.lstat(path)
        if (found.st_dev, found.st_ino) == identity:
            os.unlink(path)


@contextlib.contextmanager
def _locked(directory: str) -> Iterator[None]:
    """One at a time in `directory`. Raises OSError: also when somebody else is at it."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(fd)


def _remove_stale(path: str) -> None:
    """Make room for a socket. Raises OSError when there is something else, or one in use."""
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(found.st_mode):
        raise FileExistsError(errno.EEXIST, "there is something else than a socket", path)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as client:
        try:
            client.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
            return
        except BlockingIOError:  # somebody listens whose queue is full
            pass
    raise OSError(errno.EADDRINUSE, "somebody listens there", path)
