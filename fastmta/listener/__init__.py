"""Inbound sockets: connections, their limits and time limits, back-pressure; drives `session`.

Purpose   Carry octets between clients and their sessions, and bound what a client can take.
In        Listening sockets (opened by the supervisor), a `Ports` for the sessions.
Out       Octets to clients; events about connections.
Holds     Every inbound connection of this worker, counted in total and per client.
Never     Parses octets, decides about mail, opens listening sockets.
Fails     A client's trouble ends that client's connection only.
Why       One scratch buffer for all reads and one wheel for all time limits: an idle connection
          costs its objects and nothing else.
          A client that keeps us behind our last reply has no right to its place: it goes before
          anybody is turned away, the longest first.
"""

from .census import Census
from .listener import Listener, ListenerSettings, Names

__all__ = ["Census", "Listener", "ListenerSettings", "Names"]
