"""Composition root: builds every room from the configuration, wires them, and runs the processes.

Purpose   A supervisor without network input, and workers that own shards of the spool.
In        A checked `Config`; signals.
Out       An exit code: 0 after a clean stop, 75 when the spool failed, 78 for a bad start.
Holds     Listening sockets (supervisor, over worker restarts); everything else is in the workers.
Never     Looks at an outcome, parses octets, decides about mail.
Fails     A worker that dies is started again with back-off; its shard recovers from its log.
Why       Workers share nothing but the sockets' ports: no lock and no LMDB between processes.
          Limits over workers are leased from a broker, a process of its own: forking it again, and
          workers again, needs a supervisor without threads and loops.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .start import run

__all__ = ["run"]


def __getattr__(name: str) -> object:
    """`run` brings all rooms with it: the modules that tools use must not."""
    if name != "run":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from .start import run

    return run
