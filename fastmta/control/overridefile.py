"""`overrides.json` in the root of the spool: read, check, change. Whoever changes it has it alone.

A change is a whole new file: written beside the old one, synced, renamed over it, its directory
synced. So at any moment, after a crash too, the name stands for the old file or for the new one.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import time
from collections.abc import Callable, Iterator

import msgspec

from .override import OverrideError, Overrides

FILE_NAME = "overrides.json"
FILE_OCTETS_MAX = 4 * 1024 * 1024
LOCK_WAIT_S = 5.0
_UNFINISHED = ".new"
_decode = msgspec.json.Decoder(Overrides).decode


def override_path(root: str) -> str:
    """Where they are, in the spool at `root`."""
    return os.path.join(root, FILE_NAME)


def read_overrides(root: str) -> Overrides:
    """Everything in the file, ended or not; nothing when there is no file.

    Raises OverrideError: the file cannot be read, or not be understood. It is never taken for
    empty then: limits would be lost without a word.
    """
    path = override_path(root)
    try:
        with open(path, "rb") as file:
            octets = file.read(FILE_OCTETS_MAX + 1)
        if len(octets) > FILE_OCTETS_MAX:
            raise OverrideError(f"more than {FILE_OCTETS_MAX} octets")
        overrides = _decode(octets)
        overrides.check()
    except FileNotFoundError:
        return Overrides()
    except OSError as error:
        raise OverrideError(f"{path}: {error.strerror}") from error
    except (msgspec.DecodeError, UnicodeDecodeError, OverrideError) as error:
        advice = "correct it, or move it away and give the `fastmta dest` commands again"
        raise OverrideError(f"{path}: {error}; {advice}") from None
    return overrides


def change_overrides(root: str, change: Callable[[Overrides], Overrides]) -> Overrides:
    """Put what `change` makes of the overrides in their place, durably; what is there now.

    Raises OverrideError: nothing has changed; or, and then it says so, the new file may not
    survive a loss of power. Not more than one change is made at a time, whoever makes it. Root
    does it as the owner of the directory, who may have put links there.
    """
    try:
        directory = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise OverrideError(f"{root}: {error.strerror}") from error
    try:
        _lock(root, directory)
        with _as_owner(directory):
            old = read_overrides(root)
            new = change(old)
            new.check()
            if new != old:
                _replace(root, directory, msgspec.json.format(msgspec.json.encode(new)) + b"\n")
        return new
    finally:
        os.close(directory)


@contextlib.contextmanager
def _as_owner(directory: int) -> Iterator[None]:
    owner = os.fstat(directory)
    if os.geteuid() or not owner.st_uid:
        yield
        return
    before = os.getgroups()
    os.setgroups((owner.st_gid,))
    os.setegid(owner.st_gid)
    os.seteuid(owner.st_uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)
        os.setgroups(before)


def _lock(root: str, directory: int) -> None:
    """Until the directory is closed."""
    end_s = time.monotonic() + LOCK_WAIT_S
    while True:
        try:
            fcntl.flock(directory, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except OSError as error:
            if error.errno not in (errno.EWOULDBLOCK, errno.EINTR):
                raise OverrideError(f"{root}: {error.strerror}") from error
        if time.monotonic() >= end_s:
            raise OverrideError(f"{root}: somebody else is changing {FILE_NAME}; try again")
        time.sleep(0.01)


def _replace(root: str, directory: int, octets: bytes) -> None:
    path = override_path(root)
    temporary = path + _UNFINISHED
    try:
        with _fresh(temporary) as fd:
            view = memoryview(octets)
            while view:
                view = view[os.write(fd, view) :]
            os.fsync(fd)
        os.rename(temporary, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise OverrideError(f"{temporary}: {error.strerror}; nothing has changed") from error
    try:
        os.fsync(directory)
    except OSError as error:
        text = "the new file is in place, but a loss of power may undo that; give the command again"
        raise OverrideError(f"{root}: {error.strerror}: {text}") from error


@contextlib.contextmanager
def _fresh(path: str) -> Iterator[int]:
    """A new file, whatever a process that died has left."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    fd = os.open(path, flags, 0o600)
    try:
        yield fd
    finally:
        os.close(fd)
