"""The laboratory: a receiver, a demonstration, the benchmark and the simulator, loopback only.

Purpose   Show and measure the server from outside, as its users and rivals meet it.
In        Arguments of `fastmta demo | sink | bench`, scenarios of `fastmta simulate`.
Out       Text for people, one JSON file of figures, an exit status.
Holds     Processes and directories that it made itself; it ends and removes them.
Never     Listens or sends beyond loopback; reaches into a running server other than by SMTP, its
          log and /proc; touches processes that it did not start.
Fails     `LabError` with one sentence for the person who asked.
Why       What is measured must be the server as it is run, so it is a process of its own here.
"""

from .loopback import LabError, free_port
from .postfix import Postfix
from .server import Server, ServerOptions
from .sink import Sink, SinkOptions

__all__ = ["LabError", "Postfix", "Server", "ServerOptions", "Sink", "SinkOptions", "free_port"]
