"""From a recipient to a next hop, from a next hop to the addresses that take its mail.

Purpose   Say where mail goes: relay or MX look-up, MX site, addresses in the order of trying.
In        Forward-paths, relay hosts, our own names and addresses, answers to DNS queries.
Out       Next hops (octets); `Site` or `RouteProblem` to a callback; questions to the port `Query`.
Holds     The relay set and a bounded cache of DNS answers.
Never     Sockets, clocks, randomness of its own; connecting; judging replies of mail servers.
Fails     Nothing raises but a malformed relay host (`ValueError`); look-ups that fail are values:
          what may pass is DEFERRED, only what DNS says plainly is FAILED.
Why       A next hop is cheap and stable (it is stored), an MX site is DNS and belongs in memory:
          domains at one provider share one site and so its limits. Preferences are not part of
          its key (2026-11): the same hosts in another order are still the same receiver.
          An answer outlives its time by a day when the name servers fail; "no such name" does not,
          since it bounces mail.
"""

from .answer import Answer, AnswerKind, Query, RecordType
from .cache import DnsCache
from .lookup import ResolverOptions
from .own import OwnHosts
from .resolver import Resolver
from .site import RouteProblem, Site, Target
from .table import RouteTable

__all__ = [
    "Answer",
    "AnswerKind",
    "DnsCache",
    "OwnHosts",
    "Query",
    "RecordType",
    "Resolver",
    "ResolverOptions",
    "RouteProblem",
    "RouteTable",
    "Site",
    "Target",
]
