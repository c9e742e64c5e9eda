"""From a next hop to its site."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from fastmta.message import OutcomeKind

from .answer import Query
from .hop import Destination, parse_next_hop
from .lookup import DestinationLookup, ResolverOptions
from .order import TARGETS_MAX, Shuffle, order_targets
from .site import RouteProblem, Site, Target, relay_key, site_key, site_label

SITE_TTL_MIN_S = 30.0
SITE_TTL_MAX_S = 3_600.0

Resolved: TypeAlias = Callable[[bytes, Site | RouteProblem], None]

_BAD_ADDRESS = RouteProblem(
    OutcomeKind.FAILED, "5.1.3", "bad address: its domain cannot name a mail host"
)


class Resolver:
    """Answers `resolve` out of DNS; keeps no state between two calls but what `query` caches."""

    def __init__(
        self,
        query: Query,
        clock: Callable[[], float],
        shuffle: Shuffle,
        options: ResolverOptions | None = None,
    ) -> None:
        """`clock` is monotonic; `shuffle` shuffles a list in place (`random.shuffle`)."""
        self._query = query
        self._clock = clock
        self._shuffle = shuffle
        self.options = options or ResolverOptions()  # may be replaced while running

    def resolve(self, next_hop: bytes, done: Resolved) -> None:
        """Call `done(next_hop, site or problem)` once, at once when nothing must be asked."""
        destinations = parse_next_hop(next_hop)
        if not destinations:
            done(next_hop, _BAD_ADDRESS)
            return
        _Resolution(self, next_hop, destinations, done).start()

    def begin(self, destination: Destination, finished: Callable[[], None]) -> DestinationLookup:
        """A look-up that is not yet started."""
        return DestinationLookup(destination, self._query, self.options, self._shuffle, finished)

    def site(
        self, next_hop: bytes, lookups: list[DestinationLookup], *, is_list: bool
    ) -> Site | RouteProblem:
        """What finished `lookups` amount to."""
        targets: list[Target] = []
        for lookup in lookups:
            targets += order_targets(lookup.ranked, self._shuffle)
        if not targets:
            problems = [lookup.problem for lookup in lookups if lookup.problem is not None]
            waiting = (p for p in problems if p.kind is OutcomeKind.DEFERRED)
            return next(waiting, problems[0])
        hosts = [host for lookup in lookups for host in lookup.site_hosts]
        key = relay_key(next_hop) if is_list else site_key(hosts)
        return Site(key, site_label(hosts), tuple(targets[:TARGETS_MAX]), self._end(lookups))

    def _end(self, lookups: list[DestinationLookup]) -> float | None:
        end_s = min(lookup.expires_at_s for lookup in lookups)
        if all(lookup.is_constant for lookup in lookups):
            return None
        now_s = self._clock()
        return min(max(end_s, now_s + SITE_TTL_MIN_S), now_s + SITE_TTL_MAX_S)


class _Resolution:
    """One call of `resolve` under way: all destinations at once, finished with the last."""

    __slots__ = ("_done", "_lookups", "_next_hop", "_pending", "_resolver")

    def __init__(
        self,
        resolver: Resolver,
        next_hop: bytes,
        destinations: tuple[Destination, ...],
        done: Resolved,
    ) -> None:
        self._resolver = resolver
        self._next_hop = next_hop
        self._done = done
        self._pending = len(destinations)
        self._lookups = [resolver.begin(each, self._finished) for each in destinations]

    def start(self) -> None:
        for lookup in self._lookups:
            lookup.start()

    def _finished(self) -> None:
        self._pending -= 1
        if self._pending == 0:
            result = self._resolver.site(
                self._next_hop, self._lookups, is_list=len(self._lookups) > 1
            )
            self._done(self._next_hop, result)
