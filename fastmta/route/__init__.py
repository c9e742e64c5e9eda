"""From a recipient to a next hop, from a next hop to the addresses that take its mail.

Purpose   Say where mail goes: rule, relay or MX look-up, MX site, addresses in the order of trying,
          and the way: transport, TLS, credentials.
In        Forward-paths, envelopes, relays, rules, ways, our own names and addresses, DNS answers.
Out       Next hops (octets); `Site` or `RouteProblem` to a callback; questions to the port `Query`;
          which addresses are forbidden (`AddressFilter`).
Holds     Rules, ways, what domains they gave, and a bounded cache of DNS answers.
Never     Sockets, clocks, randomness of its own; connecting; judging replies of mail servers; lets
          a sender or a recipient's domain name a transport, a port, a list or a way.
Fails     Nothing raises but a malformed relay or rule (`ValueError`); look-ups that fail are
          values: what may pass is DEFERRED, only what DNS says plainly is FAILED.
Why       A next hop is cheap and stable (it is stored), an MX site is DNS and belongs in memory:
          domains at one provider share one site and so its limits. Preferences are not part of
          its key (2026-11): the same hosts in another order are still the same receiver.
          An answer outlives its time by a day when the name servers fail; "no such name" does not,
          since it bounces mail. A session serves one way only (2026-11): the site's key covers it.
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
