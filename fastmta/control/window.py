"""A socket at which every user of this machine may look at the queue, as at Postfix's `mailq`.

Off unless the configuration says so. It answers lists of whole shards and nothing else: what mail
there is, from whom and to whom, and why it waits.
"""

from __future__ import annotations

from .access import Peer, Right
from .place import MAILQ_PREFIX, socket_path
from .server import CLIENTS_MAX, Server
from .wire import ErrorCode, Refusal, Request, Verb

CLIENTS_PER_USER = 4


class Window(Server):
    """Serves lists to everybody."""

    @property
    def mode(self) -> int:
        """Of the socket."""
        return 0o666

    def path_in(self, directory: str, worker: int) -> str:
        """Where it listens."""
        return socket_path(directory, worker, MAILQ_PREFIX)

    def right_of(self, peer: Peer) -> Right:
        """Everybody may look."""
        return Right.LOOK

    def is_full(self, peer: Peer) -> bool:
        """Each user has a few places."""
        return self.clients >= CLIENTS_MAX or self.clients_of(peer.user) >= CLIENTS_PER_USER

    def check(self, request: Request) -> None:
        """Only lists, and only by key: a filter would look at everything for one line."""
        if request.verb not in (Verb.LIST, Verb.CANCEL) or request.filter:
            raise Refusal(ErrorCode.USAGE, "nothing but lists of all mail is answered here")
