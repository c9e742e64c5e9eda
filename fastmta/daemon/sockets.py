"""Listening sockets: one per worker and address, with SO_REUSEPORT, opened before workers start.

At a path there can be one only: there the workers have duplicates of it, and share its queue. So
it is with one that the service manager opened; its section's own addresses are not used then.

The supervisor keeps them over worker restarts, so that the accept queue of a dead worker is served
by its successor instead of being reset.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from fastmta.config import Endpoint, Listen

from .unixsocket import Identity, open_path, remove_path

OpenPath: TypeAlias = Callable[[str, int, int], tuple[socket.socket, Identity]]
INHERITED = "inherited:"  # how the key of such sockets begins
_BACKLOG = 1024


class BadStart(Exception):
    """An address, the log or the spool cannot be used; the text names it and why."""


@dataclass(frozen=True, slots=True)
class Bound:
    """One listener's sockets at one address, by worker."""

    name: str  # of the [listen.<name>] section
    address: str  # text with the real port
    sockets: tuple[socket.socket, ...]
    path: str = ""  # of a unix socket
    identity: Identity = (0, 0)  # of one at a path, if it is for us to take away
    key: str = ""  # the endpoint as configured: the same in another configuration, the same sockets
    mode: str = ""  # of a unix socket

    @property
    def is_inherited(self) -> bool:
        """Whether the service manager opened it."""
        return self.key.startswith(INHERITED)

    @property
    def is_local(self) -> bool:
        """Whether it is a unix socket."""
        return bool(self.path)


def open_sockets(
    listeners: Mapping[str, Listen],
    workers: int,
    kept: Sequence[Bound] = (),
    at_path: OpenPath = open_path,
) -> list[Bound]:
    """Bind every address `workers` times; a port 0 becomes the same real port for all.

    What the service manager opened for a listener is `kept` in the place of its addresses; what
    else is `kept` for an address is taken for it, whatever the listener was called; `fresh_of`
    tells what was opened. `at_path` opens a unix socket. Raises BadStart: then nothing is open.
    """
    left = {each.key: each for each in kept}
    bound = [each for each in kept if each.is_inherited and each.name in listeners]
    theirs = {each.name for each in bound}
    try:
        for name, listen in listeners.items():
            if name in theirs:
                continue
            for endpoint in listen.bind:
                count = sum(each.key.partition("#")[0] == str(endpoint) for each in bound)
                key = f"{endpoint}#{count}" if count else str(endpoint)
                had = left.pop(key, None)
                mode = listen.socket_mode if endpoint.is_local else ""
                if had is not None:
                    bound.append(replace(had, name=name, mode=mode))
                elif endpoint.is_local:
                    first = _open_path(name, endpoint, int(mode, 8), at_path)
                    bound.append(replace(_shared(first, workers), key=key, mode=mode))
                else:
                    bound.append(replace(_open(name, endpoint, workers), key=key))
    except BadStart:
        close_sockets(fresh_of(bound, kept))
        raise
    return bound


def fresh_of(bound: Iterable[Bound], kept: Iterable[Bound]) -> list[Bound]:
    """Those of `bound` that `kept` has no sockets for."""
    known = {each.key for each in kept}
    return [each for each in bound if each.key not in known]


def close_sockets(bound: Iterable[Bound]) -> None:
    """The supervisor's part of the end: workers serve who is connected."""
    for each in bound:
        for listening in each.sockets:
            listening.close()
        if each.is_local:
            remove_path(each.path, each.identity)


def _open_path(name: str, endpoint: Endpoint, mode: int, at_path: OpenPath) -> Bound:
    path = endpoint.address
    try:
        first, identity = at_path(path, mode, _BACKLOG)
    except OSError as error:
        raise BadStart(f"listen.{name}: cannot listen on {endpoint}: {error.strerror}") from error
    return Bound(name, str(endpoint), (first,), path, identity)


def _shared(bound: Bound, workers: int) -> Bound:
    """With as many descriptors of its one socket."""
    (first,) = bound.sockets
    return replace(bound, sockets=(first, *(first.dup() for _ in range(workers - 1))))


def _open(name: str, endpoint: Endpoint, workers: int) -> Bound:
    opened: list[socket.socket] = []
    port = endpoint.port
    try:
        # With SO_REUSEPORT a second server would silently share the port with a first one.
        bind(endpoint.address, port, is_shared=False).close()
        for _ in range(workers):
            opened.append(bind(endpoint.address, port, is_shared=True))
            port = opened[0].getsockname()[1]
    except OSError as error:
        for each in opened:
            each.close()
        raise BadStart(f"listen.{name}: cannot listen on {endpoint}: {error.strerror}") from error
    return Bound(name, str(Endpoint(endpoint.address, port)), tuple(opened))


def bind(address: str, port: int, *, is_shared: bool) -> socket.socket:
    """A listening socket. Raises OSError."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    opened = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if is_shared:
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        opened.bind((address, port))
        opened.listen(_BACKLOG)
    except OSError:
        opened.close()
        raise
    return opened
