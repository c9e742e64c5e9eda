"""A socket at which every user of this machine may look at the queue, as at Postfix's `mailq`.

Off unless the configuration says so. It answers lists of whole shards and nothing else: what mail
there is, from whom and to whom, and why it waits.
"""

from __future__ import annotations

from .place import MAILQ_PREFIX, socket_path
from .server import Server
from .wire import ErrorCode, Refusal, Request, Verb

CLIENTS_PER_USER = 4


class Window(Server):
    """Serves lists to everybody."""

    mask = 0o111

    def path_in(self, directory: str, worker: int) -> str:
        """Where it listens."""
        return socket_path(directory, worker, MAILQ_PREFIX)

    def admits(self, user: int) -> bool:
        """Everybody, a few times."""
        return self.clients_of(user) < CLIENTS_PER_USER

    def check(self, request: Request) -> None:
        """Only lists, and only by key: a filter would look at everything for one line."""
        if request.verb not in (Verb.LIST, Verb.CANCEL) or request.filter:
            raise Refusal(ErrorCode.USAGE, "nothing but lists of all mail is answered here")
