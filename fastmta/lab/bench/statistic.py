"""Medians and spreads of runs, and the ratios of pairs."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from statistics import median

from .measure import Run


@dataclass(frozen=True, slots=True)
class Spread:
    """Median, smallest and largest of some values."""

    median: float
    least: float
    most: float

    def render(self, form: str = "{:.0f}") -> str:
        if self.least == self.most:
            return form.format(self.median)
        low, high = form.format(self.least), form.format(self.most)
        return f"{form.format(self.median)} ({low}..{high})"


def spread(values: Iterable[float]) -> Spread | None:
    """None when there are no values."""
    known = sorted(values)
    return Spread(median(known), known[0], known[-1]) if known else None


def pair_ratios(
    ours: Sequence[Run], theirs: Sequence[Run], figure: Callable[[Run], float]
) -> Spread | None:
    """Ours over theirs, pair by pair: runs of one pair met the same weather."""
    return spread(figure(our) / figure(their) for our, their in zip(ours, theirs, strict=False))


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least this share of the values does not exceed."""
    known = sorted(values)
    rank = max(1, -(-len(known) * share // 1))
    return known[int(rank) - 1]
