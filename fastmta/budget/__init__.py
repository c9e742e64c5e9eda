"""How much may go on at once, and how soon to try again.

Purpose   Numbers that grow and shrink: windows, rates, pauses, slots, shares of a common limit, and
          what clients and accounts use up.
In        What happened (clean, trouble), the time, a random number; limits of the operator.
Out       How many, how long to wait, yes or no.
Holds     The state of each number; nothing about messages or sites. A `Tally` writes its worker's
          region of a table in memory that all workers share, and reads the others'.
Never     Clocks, timers, randomness of its own, I/O.
Fails     Broken use only (`ValueError`).
Why       Limits over workers go through `Broker`, so that a broker over a socket can take the place
          of the division that serves now (limit / workers, rounded up, at least 1).
          Clients are counted exactly over all workers: dividing by the number of workers is wrong
          for a client that the kernel gave to one of them. No locks: see tally_py.py.
"""

from .backoff import Backoff
from .client import ClientLimitOptions, ClientLimits
from .gcra import GCRA
from .lease import Broker, DividedBroker
from .slot import Slots, SlotWaiter
from .tally import Tally, table_octets
from .window import Window

__all__ = [
    "GCRA",
    "Backoff",
    "Broker",
    "ClientLimitOptions",
    "ClientLimits",
    "DividedBroker",
    "SlotWaiter",
    "Slots",
    "Tally",
    "Window",
    "table_octets",
]
