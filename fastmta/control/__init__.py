"""What an operator may ask of a running server, and order it to do.

Purpose   One unix socket per worker, on which operations, look-ups and counts are asked for.
In        Requests, one JSON object a line, each with an id of the client's choice.
Out       Answers with the same id; progress in between, for what takes many steps.
Holds     The requests under way. No state that outlives a connection.
Never     Touches mail: it orders the scheduler and asks the spool, which make it durable. Never
          works in large steps, or for more clients and requests than its limits; never waits for a
          client that does not read. Answers nobody but root, the server's own user, and those
          whom the configuration names, as far as it lets them.
Fails     A request that cannot be done is answered with a code and a sentence; a client that keeps
          to no rule loses its connection. Nothing here ends the worker.
Why       The desk does not know whether a request came over a socket: without a server the same
          code works on a spool that a command opened itself. Commands start fast because what the
          server needs is imported when it is asked for.
"""

from typing import TYPE_CHECKING

from .client import Client, ClientError
from .place import socket_paths

if TYPE_CHECKING:
    from types import ModuleType

    from .desk import Desk
    from .server import Server
    from .station import Station
    from .wire import ErrorCode, Refusal, Request, Verb

__all__ = [
    "Client",
    "ClientError",
    "Desk",
    "ErrorCode",
    "Refusal",
    "Request",
    "Server",
    "Station",
    "Verb",
    "socket_paths",
]


def __getattr__(name: str) -> object:
    """The names of the face that cost more to import than a command may take."""
    home: ModuleType
    if name in ("ErrorCode", "Refusal", "Request", "Verb"):
        from . import wire as home
    elif name == "Desk":
        from . import desk as home
    elif name == "Server":
        from . import server as home
    elif name == "Station":
        from . import station as home
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(home, name)
