"""Figures beside their targets, for people and for the JSON file."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeAlias

from .statistic import spread

Row: TypeAlias = tuple[str, str, str, str]  # what, target, measured, verdict
_FORM = "{:<58} {:>12} {:>30}  {}"


def at_least(what: str, values: Iterable[float], least: float, form: str = "{:.3f}") -> Row:
    """The median must not be smaller."""
    found = spread(values)
    if found is None:
        return what, f">= {least:g}", "-", "not measured"
    return what, f">= {least:g}", found.render(form), _verdict(found.median >= least)


def at_most(what: str, values: Iterable[float], most: float, form: str = "{:.3f}") -> Row:
    """The median must not be larger."""
    found = spread(values)
    if found is None:
        return what, f"<= {most:g}", "-", "not measured"
    return what, f"<= {most:g}", found.render(form), _verdict(found.median <= most)


def stated(what: str, values: Iterable[float], form: str = "{:.1f}") -> Row:
    """A figure without a target."""
    found = spread(values)
    return what, "", "-" if found is None else found.render(form), ""


def render(rows: Sequence[Row]) -> str:
    """The table for people."""
    head = _FORM.format("", "target", "measured", "verdict")
    return "\n".join(line.rstrip() for line in (head, *(_FORM.format(*row) for row in rows)))


def _verdict(is_met: bool) -> str:
    return "met" if is_met else "MISSED"
