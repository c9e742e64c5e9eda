"""How much may go on at once, and how soon to try again.

Purpose   Numbers that grow and shrink: windows, rates, pauses, slots, shares of a common limit.
In        What happened (clean, trouble), the time, a random number; limits of the operator.
Out       How many, how long to wait, yes or no.
Holds     The state of each number; nothing about messages or sites.
Never     Clocks, timers, randomness of its own, I/O.
Fails     Broken use only (`ValueError`).
Why       Limits over workers go through `Broker`, so that a broker over a socket can take the place
          of the division that serves now (limit / workers, rounded up, at least 1).
"""

from .backoff import Backoff
from .gcra import GCRA
from .lease import Broker, DividedBroker
from .slot import Slots, SlotWaiter
from .window import Window

__all__ = [
    "GCRA",
    "Backoff",
    "Broker",
    "DividedBroker",
    "SlotWaiter",
    "Slots",
    "Window",
]
