"""How much may go on at once, and how soon to try again.

Purpose   Numbers that grow and shrink: windows, rates, pauses, slots, shares of a common limit, and
          what clients and accounts use up.
In        What happened (clean, trouble), the time, a random number; limits of the operator.
Out       How many, how long to wait, yes or no.
Holds     The state of each number; nothing about messages or sites. A `Tally` writes its worker's
          region of a table in memory that all workers share, and reads the others'.
Never     Clocks, timers, randomness of its own, I/O.
Fails     Broken use only (`ValueError`).
Why       Limits of sites and shapes over several workers are leased from a broker (ledger.py is its
          side, lease.py a worker's), so that none is exceeded whoever dies, and a limit below the
          number of workers is nothing special. A worker that stands still for longer than a lease
          lasts is the exception: it cannot close its connections, and others get its places.
          What protects only us (connections in total) is divided (share.py).
          Clients are counted exactly over all workers: dividing by the number of workers is wrong
          for a client that the kernel gave to one of them. No locks: see tally_py.py.
"""

from .backoff import Backoff
from .client import ClientLimitOptions, ClientLimits
from .gcra import GCRA
from .local import LocalMeters
from .share import Broker, DividedBroker
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
    "LocalMeters",
    "SlotWaiter",
    "Slots",
    "Tally",
    "Window",
    "table_octets",
]
