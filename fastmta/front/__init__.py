"""The front desk: metrics and health over HTTP, in a process that no mail goes through.

Purpose   `/metrics` for Prometheus; `/healthz` and `/readyz` for whoever starts and restarts us.
In        The workers' blocks of counters, read where they stand; HTTP requests.
Out       Text of the exposition format 0.0.4, JSON; nothing is ever written to a block.
Holds     A bounded number of connections; names of series that it has rendered before.
Never     Asks a worker anything, or waits for one: what hangs must not hang this.
Fails     By closing the connection; a process that dies is started again, and no mail knows.
Why       h11 reads what strangers send; three answers need neither a framework nor its 9 MiB. The
          format is rendered here: `prometheus_client` takes three times as long for it.
"""

from .desk import Desk
from .health import Health, judge
from .reading import Reader
from .render import CONTENT_TYPE, render
from .server import Server, ServerLimits

__all__ = [
    "CONTENT_TYPE",
    "Desk",
    "Health",
    "Reader",
    "Server",
    "ServerLimits",
    "judge",
    "render",
]
