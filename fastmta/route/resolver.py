"""From a next hop to its site."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

from msgspec.structs import replace

from fastmta.message import OutcomeKind

from .answer import Query
from .hop import Destination, NextHop, plain_hop, read_next_hop
from .lookup import CONFIGURATION_STATUS, DestinationLookup, ResolverOptions
from .order import TARGETS_MAX, Shuffle, order_targets
from .provider import Providers
from .site import (
    LABEL_MAX,
    RouteProblem,
    Site,
    Target,
    key_with,
    relay_key,
    site_key,
    site_label,
)
from .way import Way
from .ways import Fallback, Ways, settle_implicit, settle_names

SITE_TTL_MIN_S = 30.0
SITE_TTL_MAX_S = 3_600.0
FALLBACK_TARGETS_MAX = 10  # beside TARGETS_MAX

Resolved: TypeAlias = Callable[[bytes, Site | RouteProblem], None]

_BAD_ADDRESS = RouteProblem(
    OutcomeKind.FAILED, "5.1.3", "bad address: its domain cannot name a mail host"
)
# What a fallback relay helps with: hosts that cannot be found, or are not there now.
_CURABLE = frozenset({"4.4.3", "5.4.4", "4.4.4", CONFIGURATION_STATUS})


class Resolver:
    """Answers `resolve` out of DNS; keeps no state between two calls but what `query` caches."""

    def __init__(
        self,
        query: Query,
        clock: Callable[[], float],
        shuffle: Shuffle,
        options: ResolverOptions | None = None,
        ways: Ways | None = None,
        providers: Providers | None = None,
    ) -> None:
        """`clock` is monotonic; `shuffle` shuffles a list in place (`random.shuffle`)."""
        self._query = query
        self._clock = clock
        self._shuffle = shuffle
        self.options = options or ResolverOptions()  # may be replaced while running
        self.ways = ways or Ways()  # the same
        self.providers = providers or Providers()  # the same

    def resolve(self, next_hop: bytes, done: Resolved) -> None:
        """Call `done(next_hop, site or problem)` once, at once when nothing must be asked."""
        hop = read_next_hop(next_hop)
        if hop is None:
            done(next_hop, _BAD_ADDRESS)
            return
        way = self.ways.way_of(hop)
        if way is None:
            text = f'the configuration has no relay "{hop.way}" any more'
            done(next_hop, RouteProblem(OutcomeKind.DEFERRED, CONFIGURATION_STATUS, text))
        elif not hop.destinations:
            label = f"{hop.transport}:{hop.argument}"[:LABEL_MAX]
            done(next_hop, Site(relay_key(next_hop), label, (), None, way))
        else:
            _Resolution(self, next_hop, hop, way, done).start()

    def begin(
        self, destination: Destination, family: str, finished: Callable[[], None]
    ) -> DestinationLookup:
        """A look-up that is not yet started."""
        options = self.options
        if family.endswith("only"):
            options = replace(
                options,
                has_ipv4=options.has_ipv4 and family == "4only",
                has_ipv6=options.has_ipv6 and family == "6only",
            )
        return DestinationLookup(destination, self._query, options, self._shuffle, finished)

    def order(self, lookups: Sequence[DestinationLookup], family: str) -> list[Target]:
        """The targets that `lookups` found, in the order of trying."""
        targets: list[Target] = []
        for lookup in lookups:
            targets += order_targets(
                lookup.ranked, self._shuffle, family="" if family.endswith("only") else family
            )
        return targets

    def end_of(self, lookups: Sequence[DestinationLookup]) -> float | None:
        """When what `lookups` found must be looked up again."""
        if all(lookup.is_constant for lookup in lookups):
            return None
        end_s, now_s = min(lookup.expires_at_s for lookup in lookups), self._clock()
        return min(max(end_s, now_s + SITE_TTL_MIN_S), now_s + SITE_TTL_MAX_S)


class _Resolution:
    """One call of `resolve` under way: all destinations at once, finished with the last.

    Fallbacks are looked up with them: they are few, and their answers are cached.
    """

    __slots__ = ("_done", "_fallbacks", "_hop", "_lookups", "_next_hop", "_pending", "_resolver",
                 "_way", "_where")  # fmt: skip

    def __init__(
        self, resolver: Resolver, next_hop: bytes, hop: NextHop, way: Way, done: Resolved
    ) -> None:
        self._resolver = resolver
        self._next_hop = next_hop
        self._where = plain_hop(next_hop)
        self._hop = hop
        self._way = way
        self._done = done
        self._lookups = [self._begin(each, way) for each in hop.destinations]
        self._fallbacks = [
            (fallback, [self._begin(each, fallback.way) for each in fallback.destinations])
            for fallback in resolver.ways.fallbacks_of(hop)
        ]
        self._pending = len(self._lookups) + sum(len(found) for _, found in self._fallbacks)

    def _begin(self, destination: Destination, way: Way) -> DestinationLookup:
        return self._resolver.begin(destination, way.family, self._finished)

    def start(self) -> None:
        for lookup in (*self._lookups, *(one for _, found in self._fallbacks for one in found)):
            lookup.start()

    def _finished(self) -> None:
        self._pending -= 1
        if self._pending == 0:
            self._done(self._next_hop, self._result())

    def _result(self) -> Site | RouteProblem:
        """What the finished look-ups amount to."""
        targets = self._resolver.order(self._lookups, self._way.family)[:TARGETS_MAX]
        others = self._fallback_targets()
        if not targets:
            problem = self._problem()
            if not others or problem.status not in _CURABLE:
                return problem
            hosts = list(dict.fromkeys((one.host, one.port) for one in others))
            key = self._key_of(relay_key(self._where + b" fallback", self._way))
            end_s = self._resolver.end_of([*self._lookups, *self._fallback_lookups()])
            return Site(key, site_label(hosts), tuple(others), end_s, self._way)
        hosts = [host for lookup in self._lookups for host in lookup.site_hosts]
        names = [name for name, _ in hosts]
        if others:  # an attempt that never comes to its fallback would have none
            targets = targets[: max(1, self._resolver.options.attempt_targets - 1)]
        way = self._resolver.ways.settle(self._way, self._hop, names)
        is_list = len(self._lookups) > 1
        key = self._key_of(relay_key(self._where, way) if is_list else site_key(hosts, way))
        end_s = self._resolver.end_of([*self._lookups, *self._fallback_lookups()])
        provider = self._resolver.providers.of(names)
        return Site(key, site_label(hosts), (*targets, *others), end_s, way, provider)

    def _problem(self) -> RouteProblem:
        problems = [lookup.problem for lookup in self._lookups if lookup.problem is not None]
        waiting = (one for one in problems if one.kind is OutcomeKind.DEFERRED)
        return next(waiting, problems[0])

    def _fallback_lookups(self) -> list[DestinationLookup]:
        return [lookup for _, found in self._fallbacks for lookup in found]

    def _fallback_targets(self) -> list[Target]:
        """Each with its own way; one that cannot be found is left out."""
        targets: list[Target] = []
        for fallback, lookups in self._fallbacks:
            way = self._settled(fallback)
            targets += [
                replace(target, way=way)
                for target in self._resolver.order(lookups, fallback.way.family)
            ]
        return targets[:FALLBACK_TARGETS_MAX]

    def _settled(self, fallback: Fallback) -> Way:
        way = settle_implicit(fallback.way, fallback.destinations)
        is_tls_required = self._hop.is_tls_required
        return settle_names(way, fallback.destinations, is_tls_required=is_tls_required)

    def _key_of(self, key: bytes) -> bytes:
        """Whoever shares a site shares its fallbacks, whether they can be found now or not."""
        return key_with(
            key,
            [
                ([one.text for one in fallback.destinations], self._settled(fallback))
                for fallback, _ in self._fallbacks
            ],
        )
