"""Events to Postfix-shaped log lines and counters, off the hot path.

Purpose   The mail log that operators and their tools read, and the counts of a worker.
In        Events of the rooms, by `Journal.emit`; a flush every 100 ms or so from the daemon.
Out       Blocks of whole lines to a file, standard output, syslog or journald, by a thread of its
          own; as text of Postfix's shape, as JSON records, or as both.
Holds     Events since the last flush; at most 16 MiB of rendered lines that wait for their place.
Never     Waits for a disk in the caller's thread; lets a peer's octets end or begin a line.
Fails     Lines that cannot be written are dropped, counted, and the count is logged.
Why       Rendering compiled, in batches, costs 0.4 us a message; `logging` costs 10 us a line.
          Escaping is done once, on the whole block, so that no field can be forgotten.
"""

from .counter import Counters
from .file import check_file
from .journal import Journal, Output
from .line import LineRenderer, Origin
from .opening import JournalOptions, open_journal
from .writer import Lost, Writer

__all__ = [
    "Counters",
    "Journal",
    "JournalOptions",
    "LineRenderer",
    "Lost",
    "Origin",
    "Output",
    "Writer",
    "check_file",
    "open_journal",
]
