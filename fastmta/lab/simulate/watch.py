"""Whether our own limits hold, seen from the wire, by counts that the scheduler has no part in."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from fastmta.budget.shape import DIMENSIONS, Shape

from .receiver import Bucket, Peer
from .scenario import Scheduling, Shaping

_OF_PATHS = ("site", "provider", "source")


class _Counter:
    """One combination of values of one shape."""

    __slots__ = ("bucket", "busy", "is_paused", "limit", "name", "peers")

    def __init__(self, name: str, shaping: Shaping) -> None:
        rate = shaping.rate
        self.name = name
        self.limit = shaping.connections
        self.is_paused = shaping.paused
        self.bucket = None if rate is None else Bucket(rate.count / rate.period_s, rate.burst)
        self.busy = 0
        self.peers: dict[int, Peer] | None = None  # whose idle connections count, by identity


class Watch:
    """Counts starts and connections by shape. `exceeded` is empty unless the scheduler is wrong."""

    def __init__(self, options: Scheduling) -> None:
        self._options = options
        self._shapes: dict[str, tuple[Shape, Shaping]] = {}
        self._counters: dict[str, _Counter] = {}
        self._found: dict[tuple[bytes, str, str], tuple[_Counter, ...]] = {}
        self._site_rates: dict[bytes, Bucket] = {}
        self.exceeded: Counter[str] = Counter()

    @property
    def is_needed(self) -> bool:
        """Whether there is more to watch than connections."""
        return bool(self._shapes) or self._options.site_rate_per_s > 0

    @property
    def has_site_rule(self) -> bool:
        """Whether some shape takes the place of `site_connections`, perhaps at some sites only."""
        return any(
            shape.connections and shape.dimensions == ("site",)
            for shape, _ in self._shapes.values()
        )

    def hold(self, shapes: Mapping[str, tuple[Shape, Shaping]]) -> None:
        """These shapes are in force from now on. What is under way is not counted for new ones."""
        self._shapes = dict(shapes)
        self._found.clear()
        for key, counter in list(self._counters.items()):
            if counter.name not in shapes:
                del self._counters[key]

    def reset(self) -> None:
        """Our side died, and what it remembered of rates with it."""
        self._counters.clear()
        self._found.clear()
        self._site_rates.clear()

    def started(self, peer: Peer, tenant: str, domain: str, now_s: float) -> tuple[_Counter, ...]:
        """An attempt starts; hand what is returned to `ended`."""
        if self._options.site_rate_per_s > 0 and not self._site_rate(peer).take(now_s):
            self.exceeded["site_rate_per_s"] += 1
        key = (peer.site.key, tenant, domain)
        counters = self._found.get(key)
        if counters is None:
            counters = self._found[key] = tuple(self._find(peer, tenant, domain))
        for one in counters:
            one.busy += 1
            if one.is_paused:
                self.exceeded[f"shape.{one.name}.paused"] += 1
            if one.bucket is not None and not one.bucket.take(now_s):
                self.exceeded[f"shape.{one.name}.rate"] += 1
            if one.limit and one.busy + _idle(one, now_s - self._options.idle_s) > one.limit:
                self.exceeded[f"shape.{one.name}.connections"] += 1
        return counters

    def ended(self, counters: Iterable[_Counter]) -> None:
        """An attempt ended."""
        for one in counters:
            one.busy -= 1

    def _site_rate(self, peer: Peer) -> Bucket:
        bucket = self._site_rates.get(peer.site.key)
        if bucket is None:
            options = self._options
            bucket = Bucket(options.site_rate_per_s, options.site_rate_burst)
            self._site_rates[peer.site.key] = bucket
        return bucket

    def _find(self, peer: Peer, tenant: str, domain: str) -> Iterable[_Counter]:
        values = (peer.site.label, domain, peer.site.provider, "default", tenant)
        subject = dict(zip(DIMENSIONS, values, strict=True))
        for name, (shape, shaping) in self._shapes.items():
            key = shape.values(subject)
            if key is None:
                continue
            counter = self._counters.get(key)
            if counter is None:
                counter = self._counters[key] = _Counter(name, shaping)
                if set(shape.dimensions) <= set(_OF_PATHS) and shape.dimensions != ("site",):
                    counter.peers = {}
            if counter.peers is not None:
                counter.peers[id(peer)] = peer
            yield counter


def _idle(counter: _Counter, since_s: float) -> int:
    """Idle connections that have a place under the limit, too."""
    if counter.peers is None:
        return 0
    return sum(
        sum(idle_since_s >= since_s for idle_since_s, _ in peer.idle)
        for peer in counter.peers.values()
    )
