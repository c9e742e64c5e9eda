"""Shapes: what an operator allows on any combination of site, domain, provider, source, tenant."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

from .meter import Meters, PlaceMeter, RateMeter
from .rate import Rate

DIMENSIONS: Final = ("site", "domain", "provider", "source", "tenant")
_OF_LANES: Final = frozenset({"domain", "tenant"})
ANY: Final = "*"


class Shape(msgspec.Struct, frozen=True, kw_only=True):
    """One rule. Of each dimension: no pattern (it does not matter), or one that has to match.

    Patterns: `*` is any value, `x` that value, `.x` what ends with it. Each combination of values
    of the dimensions that are named has a counter of its own.
    """

    name: str
    site: tuple[str, ...] = ()  # its label
    domain: tuple[str, ...] = ()  # of the next hop; of a relay its name
    provider: tuple[str, ...] = ()
    source: tuple[str, ...] = ()
    tenant: tuple[str, ...] = ()
    rate: Rate | None = None
    connections: int = 0  # 0: no limit
    is_paused: bool = False
    until_ns: int = 0  # queue time at which it ends; 0: never
    note: str = ""  # who set it, and when, for explanations

    @property
    def dimensions(self) -> tuple[str, ...]:
        """Those that are named."""
        return tuple(name for name in DIMENSIONS if getattr(self, name))

    def values(self, subject: dict[str, str]) -> str | None:
        """The name of the counter for `subject`; None when the rule does not concern it."""
        found = []
        for dimension in self.dimensions:
            value = subject.get(dimension, "")
            if not any(_matches(pattern, value) for pattern in getattr(self, dimension)):
                return None
            found.append(f"{dimension}={value}")
        return f"{self.name}({', '.join(found)})"


class Limits(msgspec.Struct, frozen=True):
    """What holds for one path, or for one lane of it."""

    throttles: tuple[RateMeter, ...] = ()
    places: tuple[PlaceMeter, ...] = ()
    pause: Shape | None = None
    connections: int = 0  # of the site, in place of the default; 0: the default
    connections_from: str = ""  # the name of the shape that says so

    def __bool__(self) -> bool:
        return bool(self.throttles or self.places or self.pause or self.connections)


NO_LIMITS: Final = Limits()


class Shapes:
    """All shapes in force, and the meters that they have made."""

    __slots__ = (
        "_meters",
        "_of_lanes",
        "_of_paths",
        "has_lane_rules",
        "has_tenant_rules",
        "in_force",
    )

    def __init__(self, meters: Meters) -> None:
        self._meters = meters
        self.in_force: tuple[Shape, ...] = ()
        self._of_paths: tuple[Shape, ...] = ()
        self._of_lanes: tuple[Shape, ...] = ()
        self.has_lane_rules = False  # whether any of them looks at a tenant or a domain
        self.has_tenant_rules = False  # ... at a tenant

    def replace(self, rules: Sequence[Shape], overrides: Iterable[Shape] = ()) -> None:
        """These hold from now on. An override takes the place of the rule of its name."""
        found = {shape.name: shape for shape in rules}
        found.update({shape.name: shape for shape in overrides})
        self.in_force = tuple(found.values())
        self._of_lanes = tuple(one for one in self.in_force if _OF_LANES & set(one.dimensions))
        self._of_paths = tuple(one for one in self.in_force if one not in self._of_lanes)
        self.has_lane_rules = bool(self._of_lanes)
        self.has_tenant_rules = any(shape.tenant for shape in self._of_lanes)

    def has_domain_rule(self, domain: str) -> bool:
        """Whether mail of this domain is metered by itself."""
        return any(
            _matches(pattern, domain) for shape in self._of_lanes for pattern in shape.domain
        )

    def of_path(self, site: str, provider: str, source: str) -> Limits:
        """What holds for a path."""
        if not self._of_paths:
            return NO_LIMITS
        return self._limits(self._of_paths, {"site": site, "provider": provider, "source": source})

    def of_lane(self, subject: dict[str, str]) -> Limits:
        """What holds for a tenant, or a domain, on a path; `subject`: all dimensions."""
        return self._limits(self._of_lanes, subject) if self._of_lanes else NO_LIMITS

    def _limits(self, shapes: tuple[Shape, ...], subject: dict[str, str]) -> Limits:
        throttles, places = [], []
        pause, connections, said_by = None, 0, ""
        for shape in shapes:
            name = shape.values(subject)
            if name is None:
                continue
            if shape.is_paused:
                pause = shape
            if shape.rate is not None:
                throttles.append(self._meters.throttle(name, shape.rate))
            if shape.connections and shape.dimensions == ("site",):  # the last one counts
                connections, said_by = shape.connections, shape.name
            elif shape.connections:
                places.append(self._meters.places(name, shape.connections))
        if not (throttles or places or pause or connections):
            return NO_LIMITS
        return Limits(tuple(throttles), tuple(places), pause, connections, said_by)


def _matches(pattern: str, value: str) -> bool:
    if pattern == ANY:
        return bool(value)
    return value.endswith(pattern) if pattern.startswith(".") else value == pattern
