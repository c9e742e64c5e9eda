"""Where root may do something for the server's user: on ways that this user cannot bend.

A path that leads through a directory which that user may change leads where he wants it to, at any
moment: a link in it makes root read, make or give away something else than the path says. So such a
way is not gone as root. What lies at its end, that user can reach himself or not at all.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager

from .privilege import Identity, acting_as

_LINKS_MAX = 40  # as the kernel's


class Bendable(Exception):
    """`place`, on the way, is for the user to change."""

    def __init__(self, place: str) -> None:
        super().__init__(place)
        self.place = place


@contextmanager
def firm_way(path: str, identity: Identity) -> Iterator[tuple[int, list[str]]]:
    """A descriptor (O_PATH) of the end of the way to `path`, and the names that are missing there.

    The end is what is at `path`, or the last directory that is there. Nothing on the way there is
    `identity`'s to change, links of others are followed. Raises Bendable, OSError.
    """
    way = _Way(identity)
    try:
        yield way.go(path)
    finally:
        way.close()


def check_way(path: str, identity: Identity) -> None:
    """Raises Bendable, as `firm_way`. A path that leads nowhere is for others to complain of."""
    try:
        with firm_way(path, identity):
            pass
    except OSError:
        return


def is_closed(path: str, identity: Identity) -> bool:
    """Whether there is a file that this user, by its mode or its directories', cannot read."""
    try:
        with acting_as(identity):
            os.close(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC))
    except PermissionError:
        return True
    except OSError:
        return False
    return False


class _Way:
    """One walk, from the root on."""

    def __init__(self, identity: Identity) -> None:
        self._identity = identity
        self._place = "/"
        self._here = self._root()

    def close(self) -> None:
        os.close(self._here)

    def go(self, path: str) -> tuple[int, list[str]]:
        names = _names(path)
        links = 0
        while names:
            is_shared = self._check_here()
            name = names[0]
            flags = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
            try:
                found = os.open(name, flags, dir_fd=self._here)
            except FileNotFoundError:
                return self._here, names
            try:
                status = os.fstat(found)
                is_his = is_shared and self._may_be_his(status)
                if is_his or (stat.S_ISLNK(status.st_mode) and self._is_of(status)):
                    raise Bendable(os.path.join(self._place, name))
                target = ""
                if stat.S_ISLNK(status.st_mode):
                    target = os.readlink(name, dir_fd=self._here)
            except BaseException:
                os.close(found)
                raise
            del names[0]
            if target:
                os.close(found)
                links += 1
                if links > _LINKS_MAX:
                    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
                names[:0] = _names(target)
                if target.startswith("/"):
                    self._step(self._root(), "/")
            else:
                self._step(found, os.path.join(self._place, name))
        return self._here, names

    def _root(self) -> int:
        return os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)

    def _step(self, fd: int, place: str) -> None:
        os.close(self._here)
        self._here, self._place = fd, place

    def _check_here(self) -> bool:
        """Before a name is looked up: whether the user may add names, but not change others'."""
        status = os.fstat(self._here)
        if not stat.S_ISDIR(status.st_mode):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), self._place)
        if self._is_of(status):
            raise Bendable(self._place)
        with acting_as(self._identity):  # the kernel knows of groups and access lists
            may_write = os.access(".", os.W_OK, dir_fd=self._here, effective_ids=True)
        if may_write and not status.st_mode & stat.S_ISVTX:
            raise Bendable(self._place)
        return may_write

    def _may_be_his(self, status: os.stat_result) -> bool:
        """Whether the user may have put it into a directory such as /tmp: his own, or a second
        name of what is not."""
        return self._is_of(status) or (stat.S_ISREG(status.st_mode) and status.st_nlink > 1)

    def _is_of(self, status: os.stat_result) -> bool:
        return status.st_uid == self._identity.uid


def _names(path: str) -> list[str]:
    return [name for name in path.split("/") if name not in ("", ".")]
