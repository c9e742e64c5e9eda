"""From a recipient to a next hop, from a next hop to the addresses that take its mail.

Purpose   Say where mail goes: relay or MX look-up, MX site, addresses in the order of trying.
In        Forward-paths, relay hosts, answers to DNS queries through the port `Query`.
Out       Next hops (octets), `Site` or `RouteProblem` to a callback.
Holds     The relay set and a bounded cache of DNS answers.
Never     Sockets, clocks, randomness of its own; connecting; judging replies of mail servers.
Fails     Nothing raises but a malformed relay host (`ValueError`); look-ups that fail are values.
Why       A next hop is cheap and stable (it is stored), an MX site is DNS and belongs in memory:
          domains at one provider share one site and so its limits.
"""

from .site import RouteProblem, Site, Target
from .table import RouteTable

__all__ = [
    "RouteProblem",
    "RouteTable",
    "Site",
    "Target",
]
