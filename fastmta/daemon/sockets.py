"""Listening sockets: one per worker and address, with SO_REUSEPORT, opened before workers start.

The supervisor keeps them over worker restarts, so that the accept queue of a dead worker is served
by its successor instead of being reset.
"""

import socket
from collections.abc import Mapping
from dataclasses import dataclass

from fastmta.config import Endpoint, Listen

_BACKLOG = 1024


class BadStart(Exception):
    """An address, the log or the spool cannot be used; the text names it and why."""


@dataclass(frozen=True, slots=True)
class Bound:
    """One listener's sockets at one address, by worker."""

    name: str  # of the [listen.<name>] section
    address: str  # text with the real port
    sockets: tuple[socket.socket, ...]


def open_sockets(listeners: Mapping[str, Listen], workers: int) -> list[Bound]:
    """Bind every address `workers` times; a port 0 becomes the same real port for all."""
    return [
        _open(name, endpoint, workers)
        for name, listen in listeners.items()
        for endpoint in listen.bind
    ]


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
