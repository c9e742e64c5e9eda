"""Where the sockets are: names, and paths that a socket address has room for. Imports little."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

PROTOCOL = 1
_PREFIX, _SUFFIX = "control-", ".sock"
MAILQ_PREFIX = "mailq-"  # of sockets that everybody may list mail at
_SHARD_PREFIX = "shard-"


def socket_path(directory: str, worker: int, prefix: str = _PREFIX) -> str:
    """Where worker `worker` listens."""
    return os.path.join(directory, f"{prefix}{worker}{_SUFFIX}")


def supervisor_path(directory: str) -> str:
    """Where the supervisor listens."""
    return os.path.join(directory, "control.sock")


def socket_paths(directory: str, prefix: str = _PREFIX) -> list[str]:
    """Where workers may listen, by worker."""
    with contextlib.suppress(FileNotFoundError):
        names = [
            name
            for name in os.listdir(directory)
            if name.startswith(prefix) and name.endswith(_SUFFIX)
        ]
        return [os.path.join(directory, name) for name in sorted(names)]
    return []


def shards_on_disk(root: str) -> list[int]:
    """The numbers of the shards of the spool at `root`."""
    # Others may give orders, and yet not see the spool.
    with contextlib.suppress(FileNotFoundError, NotADirectoryError, PermissionError):
        found = [
            name.removeprefix(_SHARD_PREFIX)
            for name in os.listdir(root)
            if name.startswith(_SHARD_PREFIX)
        ]
        return sorted(int(number) for number in found if number.isdecimal())
    return []


@contextlib.contextmanager
def short_path(path: str) -> Iterator[str]:
    """Another name of `path` that a socket address has room for (107 octets)."""
    directory, name = os.path.split(path)
    fd = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{fd}/{name}"
    finally:
        os.close(fd)
