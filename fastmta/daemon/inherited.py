"""Listening sockets that the service manager opened: systemd's socket activation.

They are numbered from 3; LISTEN_FDS says how many, LISTEN_FDNAMES what each is for: the name of a
[listen.<name>] section. All workers share one such socket, and so its queue: the manager keeps it
over our restarts, and a client who comes meanwhile waits instead of being refused.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Collection, Iterable, MutableMapping
from dataclasses import dataclass

from .sockets import INHERITED, BadStart, Bound

FIRST_FD = 3
SOCKETS_MAX = 1024
_VARIABLES = ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES")
_FAMILIES = (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX)


@dataclass(frozen=True, slots=True)
class Inherited:
    """One socket of the manager's."""

    name: str  # of the [listen.<name>] section
    socket: socket.socket

    @property
    def address(self) -> str:
        """As `bind` would say it."""
        found = self.socket.getsockname()
        if self.socket.family == socket.AF_UNIX:
            return f"unix:{self.path}"
        host = f"[{found[0]}]" if self.socket.family == socket.AF_INET6 else found[0]
        return f"{host}:{found[1]}"

    @property
    def path(self) -> str:
        """Of a unix socket; `@` and a name when it has none in the file system."""
        if self.socket.family != socket.AF_UNIX:
            return ""
        found = self.socket.getsockname()
        if isinstance(found, bytes):
            return "@" + found[1:].decode("utf-8", "replace")
        return str(found) or "@"


def share_inherited(taken: Iterable[Inherited], workers: int) -> list[Bound]:
    """What `open_sockets` takes for their sections, at the start and at every reload."""
    bound: list[Bound] = []
    for one in taken:
        sockets = (one.socket, *(one.socket.dup() for _ in range(workers - 1)))
        key = f"{INHERITED}{len(bound)}"
        bound.append(Bound(one.name, one.address, sockets, one.path, key=key))
    return bound


def take_inherited(environ: MutableMapping[str, str], sections: Collection[str]) -> list[Inherited]:
    """The sockets that were handed to this process; the variables that say so are gone then.

    Raises BadStart: one is for no section of `sections`, or is no listening stream.
    """
    pid, count, names = (environ.pop(name, "") for name in _VARIABLES)
    if pid != str(os.getpid()) or not count.isdigit() or not int(count[:9]):
        return []
    number = int(count[:9])
    if number > SOCKETS_MAX:
        raise BadStart(f"LISTEN_FDS: {number} sockets are more than {SOCKETS_MAX}")
    told = names.split(":") if names else []
    told += ["unknown"] * (number - len(told))
    taken: list[Inherited] = []
    try:
        for at in range(number):
            taken.append(_take(FIRST_FD + at, told[at], sections))
    except BadStart:
        for one in taken:
            one.socket.close()
        raise
    return taken


def _take(fd: int, name: str, sections: Collection[str]) -> Inherited:
    if name not in sections:
        known = ", ".join(sections)
        raise BadStart(
            f"inherited socket {name!r}: there is no [listen.{name}]; set FileDescriptorName= of "
            f"its systemd socket to the name of a section that is there: {known}"
        )
    os.set_inheritable(fd, False)
    try:
        found = socket.socket(fileno=fd)
    except OSError as error:
        text = f"descriptor {fd} is no socket: {error.strerror}"
        raise BadStart(f"inherited socket {name!r}: {text}") from error
    is_stream = found.type == socket.SOCK_STREAM and found.family in _FAMILIES
    if not is_stream or not found.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        found.close()
        raise BadStart(
            f"inherited socket {name!r}: it does not listen for streams; its systemd socket needs "
            "ListenStream= and Accept=no"
        )
    found.setblocking(False)
    return Inherited(name, found)
