"""Events to Postfix-shaped log lines and counters, off the hot path.

Purpose   The mail log that operators and their tools read, and the counts of a worker.
In        Events of the rooms, by `Journal.emit`; a flush every 100 ms or so from the daemon.
Out       Blocks of whole lines to a file or standard output, by a thread of its own.
Holds     Events since the last flush; at most 16 MiB of rendered lines that wait for the disk.
Never     Waits for a disk in the caller's thread; lets a peer's octets end or begin a line.
Fails     Lines that cannot be written are dropped, counted, and the count is logged.
Why       Rendering compiled, in batches, costs 0.4 us a message; `logging` costs 10 us a line.
          Escaping is done once, on the whole block, so that no field can be forgotten.
"""

from .counter import Counters
from .journal import Journal, Output
from .line import LineRenderer, Origin
from .writer import Lost, Writer, check_file

__all__ = [
    "Counters",
    "Journal",
    "LineRenderer",
    "Lost",
    "Origin",
    "Output",
    "Writer",
    "check_file",
]
