"""The command `fastmta bench backlog`: a million deferred messages, and what they cost."""

from __future__ import annotations

import argparse
import os
import shutil
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from ...loopback import LabError
from .. import machine, workplace
from ..statistic import percentile, spread
from .field import Field, Scale
from .phase import Figures, Phases

NAME = "backlog"
MEMORY_MB = 150.0
ACCEPT_S, DELIVERY_S = 2.0, 5.0
REBUILD_S = 60.0
RATIO = 0.8
LOOK_UP_MS = 10.0
_ROW = "{:<44} {:>10} {:>34}  {}"


def run_backlog(arguments: Sequence[str]) -> int:
    """Measure, print, write; 1 with a sentence on standard error when that cannot be done."""
    chosen = _parse(arguments)
    return workplace.work(NAME, chosen, lambda directory: _measure(chosen, directory))


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="fastmta bench backlog",
        description="A backlog of deferred mail: memory, start, rebuild, intake, look-ups, drain.",
    )
    add = parser.add_argument
    add("--messages", type=int, default=1_000_000, help="in the backlog (1,000,000)")
    add("--domains", type=int, default=10_000, help="next hops that it is for (10,000)")
    add("--sites", type=int, default=0, help="MX hosts that the domains share (0: one each)")
    add("--size", type=int, default=4096, help="octets of a message (4,096)")
    add("--workers", type=int, default=0, help="of each server (0: one per core)")
    add("--pairs", type=int, default=3, help="alternating pairs for each ratio (3)")
    add("--seconds", type=float, default=15.0, help="of one run of a pair (15)")
    add("--due-in-s", type=float, default=0.0, help="when the backlog is due (0: by its size)")
    add("--no-whole-drain", action="store_true", help="do not deliver the rest at the end")
    add("--directory", default="/var/tmp", help="where the spools go; not a tmpfs")
    add("--json", help="file of the figures (default: build/bench/backlog-<time>.json)")
    add("--keep", action="store_true", help="keep spools and logs")
    chosen = parser.parse_args(arguments)
    if chosen.messages < chosen.domains or chosen.domains < 1 or chosen.pairs < 1:
        parser.error("at least one message per domain, one domain and one pair")
    chosen.workers = chosen.workers or len(os.sched_getaffinity(0))
    if not chosen.due_in_s:
        per_pair_s = 2 * chosen.seconds + 2.0
        chosen.due_in_s = 60 + chosen.messages / 4_000 + chosen.pairs * per_pair_s
    return chosen


def _require_space(parent: Path, chosen: argparse.Namespace) -> None:
    need = chosen.messages * (2 * chosen.size + 2_048)
    free = shutil.disk_usage(parent).free
    if free < need:
        raise LabError(f"{parent} has {free >> 20} MB free, and this needs about {need >> 20} MB")


def _measure(chosen: argparse.Namespace, directory: Path) -> int:
    _require_space(directory.parent, chosen)
    scale = Scale(
        directory=directory,
        messages=chosen.messages,
        domains=chosen.domains,
        sites=chosen.sites,
        size=chosen.size,
        workers=chosen.workers,
    )
    facts = {
        **machine.describe(directory),
        "durability": "full",
        "messages": chosen.messages,
        "domains": chosen.domains,
        "sites": chosen.sites or chosen.domains,
        "workers": chosen.workers,
        "pairs": chosen.pairs,
        "seconds": chosen.seconds,
        "started_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "load_average_before": machine.load_average(),
    }
    with Field(scale) as field:
        phases = Phases(field, chosen.seconds, chosen.pairs, workplace.say)
        due_at_s = time.time() + chosen.due_in_s
        sample = phases.build(int(due_at_s * 1e9))
        phases.rest()
        phases.look_up(sample)
        phases.rebuild()
        phases.drain(due_at_s, is_whole=not chosen.no_whole_drain)
    figures = phases.figures
    rows = judge(figures)
    print("\n".join([*(f"{name}: {value}" for name, value in facts.items()), ""]))
    print(render(rows, figures))
    workplace.write_figures(NAME, chosen, {**facts, "verdicts": rows, **asdict(figures)})
    return 1 if figures.problems else 0


Row = tuple[str, str, str, str]  # what, target, measured, verdict


def judge(figures: Figures) -> list[Row]:
    """Each figure beside its target."""
    rows: list[Row] = []
    for phase, most_mb in figures.memory_mb.items():
        rows.append(_at_most(f"anonymous memory, {phase}", [most_mb], MEMORY_MB, "MB", "{:.0f}"))
    for name, starts in figures.starts.items():
        if name == "empty":
            continue
        accepts, deliveries = [one.accept_s for one in starts], [one.delivery_s for one in starts]
        rows.append(_at_most(f"start to first accept, {name}", accepts, ACCEPT_S, "s"))
        rows.append(_at_most(f"start to first delivery, {name}", deliveries, DELIVERY_S, "s"))
    rows.append(_at_most("index rebuilt from the log", [figures.rebuild_s], REBUILD_S, "s"))
    empty, loaded = figures.intake_per_s.get("empty", []), figures.intake_per_s.get("loaded", [])
    rows.append(_ratio("intake with backlog / without", loaded, empty))
    rows.append(_ratio("drain / fresh relay", figures.drain_per_s, figures.fresh_per_s))
    for kind, times in figures.lookups_ms.items():
        p99 = [percentile(times, 0.99)]
        rows.append(_at_most(f"look-up: {kind} (p99)", p99, LOOK_UP_MS, "ms"))
    return rows


def _at_most(what: str, values: list[float], most: float, unit: str, form: str = "{:.2f}") -> Row:
    found = spread(values)
    if found is None:
        return what, f"<= {most:g} {unit}", "-", "not measured"
    verdict = "met" if found.median <= most else "MISSED"
    return what, f"<= {most:g} {unit}", f"{found.render(form)} {unit}", verdict


def _ratio(what: str, ours: list[float], theirs: list[float]) -> Row:
    ratios = spread(our / their for our, their in zip(ours, theirs, strict=False))
    if ratios is None:
        return what, f">= {RATIO}", "-", "not measured"
    mine, other = spread(ours), spread(theirs)
    assert mine is not None
    assert other is not None
    rates = f"{mine.median:.0f}/{other.median:.0f} per s"
    verdict = "met" if ratios.median >= RATIO else "MISSED"
    return what, f">= {RATIO}", f"{ratios.render('{:.2f}')}, {rates}", verdict


def render(rows: list[Row], figures: Figures) -> str:
    """The table for people."""
    lines = [_ROW.format("", "target", "measured", "verdict"), *(_ROW.format(*row) for row in rows)]
    lines.append("")
    lines.append(f"built in {figures.build_s:.0f} s, {figures.disk_mb:.0f} MB on disk")
    lines.append(f"accepted while the index was rebuilt: {figures.rebuild_intake_per_s:.0f} per s")
    if figures.whole_drain is not None:
        count, seconds = figures.whole_drain
        lines.append(f"the rest, {count} messages: drained at {count / seconds:.0f} per s")
    lines += [f"problem: {problem}" for problem in figures.problems]
    return "\n".join(lines)
