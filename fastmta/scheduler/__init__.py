"""Which mail goes now, over which path, how much at once; and what becomes of each recipient.

Purpose   From the 250 to the last recipient's final state, every destination at its own pace.
In        Durable messages (`Scheduler.accepted`), rows of the backlog, results of attempts.
Out       Jobs to `Deliver`, states to `Record`, notifications through `Notify`, events.
Holds     What of the queue is in RAM (bounded), and per site: window, pauses, the reply behind it.
Never     I/O, clocks, timers, randomness of its own; judging replies (delivery does); forgetting a
          recipient before its final state is durable.
Fails     A record that cannot be made durable stops all deliveries and calls `on_halt`. Anything
          raised here is a bug: the daemon ends, and the spool still has the mail.
Why       A path is (egress source, MX site): all domains of one provider share its limits. Waiting
          is a relation to a named thing (due time, path, slot, backlog), never a rescan.
          A message's own 4xx costs it an attempt; trouble of a site costs the path a pause.
"""

from .engine import Options, SiteOptions
from .port import Backlog, Clock, Deliver, Ports, Timers
from .retry import RetryPolicy
from .scheduler import Scheduler
from .waiting import Explanation, Waiting

__all__ = [
    "Backlog",
    "Clock",
    "Deliver",
    "Explanation",
    "Options",
    "Ports",
    "RetryPolicy",
    "Scheduler",
    "SiteOptions",
    "Timers",
    "Waiting",
]
