"""Charts of a run, drawn by matplotlib if it is there. The same run gives the same octets."""

from __future__ import annotations

import importlib.util
import io
import os
import re
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from .report import quantiles
from .world import World

LINES_MAX = 8  # kinds of receivers or tenants in one chart
WAIT_LEAST_S = 0.001  # below that is "at once"
_DIGITS = re.compile(rb"([0-9]\.[0-9])[0-9]+")  # a tenth of a point is fine enough
# Okabe and Ito's colours, which most people can tell apart.
_COLOURS = (
    "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#999999",
)  # fmt: skip
_SETTINGS: dict[Any, Any] = {  # Any: matplotlib has a type of its own for each
    "svg.hashsalt": "fastmta",
    "svg.fonttype": "none",  # text stays text: small files, and no glyphs of whatever font is here
    "font.family": "sans-serif",
    "font.size": 9.0,
    "path.simplify": True,
    "path.simplify_threshold": 0.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.3,
}


class ChartError(Exception):
    """No chart can be drawn: one sentence says why, and what to do."""


def check_chart(path: str) -> None:
    """Raise `ChartError` now, and not after a long run, if `path` could not be drawn."""
    if os.path.splitext(path)[1].lower() not in (".svg", ".png"):
        raise ChartError(f"{path}: a chart is an .svg or a .png")
    directory = os.path.dirname(path) or "."
    if not os.path.isdir(directory):
        raise ChartError(f"{path}: there is no directory {directory}")
    if importlib.util.find_spec("matplotlib") is None:
        raise ChartError("charts need matplotlib: pip install 'fastmta[charts]'")


def draw_chart(world: World, path: str) -> None:
    """Draw throughput, queue, connections and waits over time into an .svg or a .png."""
    check_chart(path)
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    is_svg = path.lower().endswith(".svg")
    metadata = {"Date": None, "Creator": None} if is_svg else {"Software": None}
    with matplotlib.rc_context(_SETTINGS):
        figure = Figure(figsize=(9.0, 6.0))
        figure.subplots_adjust(0.07, 0.08, 0.99, 0.9, 0.16, 0.17)  # a layout engine takes seconds
        FigureCanvasAgg(figure)
        _draw(figure, world)
        octets = io.BytesIO()
        figure.savefig(octets, format="svg" if is_svg else "png", dpi=110, metadata=metadata)
    with open(path, "wb") as file:
        file.write(_DIGITS.sub(rb"\1", octets.getvalue()) if is_svg else octets.getvalue())


def _draw(figure: Any, world: World) -> None:  # Any: matplotlib's classes are loaded late
    samples = world.samples
    scale_s, unit = _unit(samples.times_s[-1])
    times = [time_s / scale_s for time_s in samples.times_s]
    names = [tally.name for tally in world.tallies.kinds]
    figure.suptitle(world.scenario.title, fontsize=11)
    panels = figure.subplots(2, 2, sharex=True)
    (throughput, queue), (connections, waits) = panels
    _lines(throughput, "delivered per second", names, times[1:], _rates(samples.delivered, world))
    _lines(queue, "waiting", names, times, samples.queued)
    _lines(connections, "attempts under way", names, times, samples.busy)
    tallies, marks = world.tallies.kinds, samples.waits
    title = "first attempt after (p99, seconds)"
    if len(names) == 1 < len(world.tallies.tenants):  # then tenants are what differs
        tallies, marks = world.tallies.tenants, samples.tenant_waits
        title += ", by tenant"
    rows = [_waits(tally.waits_s, mark) for tally, mark in zip(tallies, marks, strict=True)]
    _lines(waits, title, [tally.name for tally in tallies], times[1:], rows)
    waits.set_yscale("log")
    waits.minorticks_off()
    for panel in (throughput, queue, connections):
        panel.set_ylim(bottom=0)
    for panel in panels[1]:
        panel.set_xlabel(unit)
    throughput.legend(loc="best", frameon=False, fontsize=8)
    if len(names) == 1 < len(tallies):
        waits.legend(loc="best", frameon=False, fontsize=8)


def _unit(end_s: float) -> tuple[float, str]:
    if end_s > 4 * 3600:
        return 3600.0, "hours"
    return (60.0, "minutes") if end_s > 600 else (1.0, "seconds")


def _lines(
    panel: Any,  # of matplotlib
    title: str,
    names: Sequence[str],
    times: Sequence[float],
    rows: Sequence[Sequence[float]],
) -> None:
    panel.set_title(title, loc="left", fontsize=9)
    for name, row, colour in list(zip(names, rows, _COLOURS * 20, strict=False))[:LINES_MAX]:
        panel.plot(times, row, label=name, color=colour, linewidth=1.2)
    panel.margins(x=0.01)


def _rates(rows: Sequence[Sequence[int]], world: World) -> list[list[float]]:
    times_s = world.samples.times_s
    return [
        [
            (row[place] - row[place - 1]) / (times_s[place] - times_s[place - 1])
            for place in range(1, len(times_s))
        ]
        for row in rows
    ]


def _waits(waits_s: Sequence[float], marks: Sequence[int]) -> list[float]:
    """The p99 of each step; a gap where nothing started."""
    found = []
    for before, after in pairwise(marks):
        part = quantiles(waits_s[before:after])
        found.append(max(part["p99"], WAIT_LEAST_S) if part else float("nan"))
    return found
