"""Listening sockets: one per worker and address, with SO_REUSEPORT, opened before workers start.

At a path there can be one only: there the workers have duplicates of it, and share its queue.

The supervisor keeps them over worker restarts, so that the accept queue of a dead worker is served
by its successor instead of being reset.
"""

import socket
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from fastmta.config import Endpoint, Listen

from .unixsocket import Identity, open_path, remove_path

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
    identity: Identity = (0, 0)

    @property
    def is_local(self) -> bool:
        """Whether it is a unix socket."""
        return bool(self.path)


def open_sockets(listeners: Mapping[str, Listen], workers: int) -> list[Bound]:
    """Bind every address `workers` times; a port 0 becomes the same real port for all."""
    bound: list[Bound] = []
    try:
        for name, listen in listeners.items():
            for endpoint in listen.bind:
                if endpoint.is_local:
                    bound.append(_open_path(name, endpoint, int(listen.socket_mode, 8), workers))
                else:
                    bound.append(_open(name, endpoint, workers))
    except BadStart:
        close_sockets(bound)
        raise
    return bound


def close_sockets(bound: Iterable[Bound]) -> None:
    """The supervisor's part of the end: workers serve who is connected."""
    for each in bound:
        for listening in each.sockets:
            listening.close()
        if each.is_local:
            remove_path(each.path, each.identity)


def _open_path(name: str, endpoint: Endpoint, mode: int, workers: int) -> Bound:
    path = endpoint.address
    try:
        first, identity = open_path(path, mode, _BACKLOG)
    except OSError as error:
        raise BadStart(f"listen.{name}: cannot listen on {endpoint}: {error.strerror}") from error
    sockets = (first, *(first.dup() for _ in range(workers - 1)))
    return Bound(name, str(endpoint), sockets, path, identity)


def _open(name: str, endpoint: Endpoint, workers: int) -> Bound:
    opened: list[socket.socket] = []
    port = endpoint.port
    try:
        # With SO_REUSEPORT a second server would silently share the port with a first one.
        _bind(endpoint.address, port, is_shared=False).close()
        for _ in range(workers):
            opened.append(_bind(endpoint.address, port, is_shared=True))
            port = opened[0].getsockname()[1]
    except OSError as error:
        for each in opened:
            each.close()
        raise BadStart(f"listen.{name}: cannot listen on {endpoint}: {error.strerror}") from error
    return Bound(name, str(Endpoint(endpoint.address, port)), tuple(opened))


def _bind(address: str, port: int, *, is_shared: bool) -> socket.socket:
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
