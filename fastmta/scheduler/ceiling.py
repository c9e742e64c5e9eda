"""Which declared limits can bind, and which never will because another one is tighter.

A limit W makes N unreachable when W is not wider open than N (its rate, its burst, its connections)
and everything that N counts W counts too: W has a counter for fewer dimensions than N.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from fastmta.budget.meter import Holdup
from fastmta.budget.rate import Rate, rate_text
from fastmta.budget.shape import Shape

from .waiting import Constraint


class Limit(msgspec.Struct, frozen=True):
    """One number that was declared for a subject."""

    name: str
    dimensions: frozenset[str]  # each combination of their values has a counter of its own
    rate: Rate | None = None
    connections: int = 0

    @property
    def text(self) -> str:
        """For people."""
        if self.rate is not None:
            return rate_text(self.rate)
        return f"{self.connections} connection{'s' if self.connections != 1 else ''}"

    def is_counted_by(self, holdup: Holdup) -> bool:
        """Whether that is one of its counters."""
        is_kind = holdup.kind == "lease" or (holdup.kind == "rate") is (self.rate is not None)
        return is_kind and (holdup.name == self.name or holdup.name.startswith(f"{self.name}("))

    def hides(self, other: Limit) -> bool:
        """Whether `other` can never bind because of this one."""
        if not self.dimensions <= other.dimensions:
            return False
        if self.rate is not None and other.rate is not None:
            slower = self.rate.count * other.rate.period_s <= other.rate.count * self.rate.period_s
            return slower and self.rate.burst <= other.rate.burst
        if self.connections and other.connections:
            return self.connections <= other.connections
        return False


def limits_of(shapes: Iterable[Shape], subject: dict[str, str]) -> list[Limit]:
    """What `shapes` declare for `subject`."""
    found = []
    for shape in shapes:
        if shape.values(subject) is None:
            continue
        dimensions = frozenset(shape.dimensions)
        if shape.rate is not None:
            found.append(Limit(shape.name, dimensions, rate=shape.rate))
        if shape.connections:
            found.append(Limit(shape.name, dimensions, connections=shape.connections))
    return found


def constraints(limits: Sequence[Limit], holdup: Holdup | None) -> list[Constraint]:
    """What to say of each; `holdup`: of the counter that holds something up now."""
    found = []
    for number, limit in enumerate(limits):
        tighter = [
            other
            for at, other in enumerate(limits)
            # Of two that are equal the first one binds.
            if other is not limit
            and other.hides(limit)
            and not (limit.hides(other) and at > number)
        ]
        why = ""
        if tighter:
            why = f"{tighter[0].name} allows no more than {tighter[0].text}"
        is_binding = holdup is not None and limit.is_counted_by(holdup)
        found.append(Constraint(limit.name, limit.text, is_binding, why))
    return found
