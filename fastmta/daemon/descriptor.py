"""How the descriptors of a worker are divided, so that no side can take those of another.

Pure. Sockets of clients are the ones that others decide about: they are capped first.
"""

from typing import NamedTuple

_SPOOL = 64  # of each shard: log, index, contents, a little of everything
_DNS = 64
_OUTBOUND_SHARE = 0.4  # of the rest, at least
_BACKLOG_MAX = 1024
_BACKLOG_SHARE = 1 / 16  # what one turn of the loop may accept before it counts


class Division(NamedTuple):
    """Most descriptors for each use; at least 1 each."""

    inbound: int
    outbound: int
    backlog: int  # of each listening socket


def divide(limit: int, shards: int, listeners: int) -> Division:
    """Divide `limit` descriptors (RLIMIT_NOFILE) of a worker with so many shards and sockets."""
    rest = max(3, limit - shards * _SPOOL - _DNS - listeners)
    outbound = max(1, int(rest * _OUTBOUND_SHARE))
    backlog = max(1, min(_BACKLOG_MAX, int(rest * _BACKLOG_SHARE / max(1, listeners))))
    return Division(max(1, rest - outbound - backlog * listeners), outbound, backlog)
