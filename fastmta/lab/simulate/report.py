"""What came of a run: a table of figures for programs, and text for people."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

from .tally import Tally
from .world import World

Report: TypeAlias = dict[str, Any]  # Any: what JSON knows
_PARTS = ((0.5, "p50"), (0.9, "p90"), (0.99, "p99"), (1.0, "max"))


def build_report(world: World) -> Report:
    """The figures of a run that is over. Equal for equal scenarios and seeds, octet by octet."""
    tallies, network, scenario = world.tallies, world.network, world.scenario
    kinds = tallies.kinds
    most = _most_by_kind(world)
    receivers = {}
    for kind, (name, spec) in enumerate(scenario.receiver.items()):
        busy, open_ = most[kind]
        figures = {"sites": spec.sites, "busy_most": busy, "open_most": open_}
        receivers[name] = figures | _figures(kinds[kind], scenario.duration_s)
    totals = {
        key: sum(getattr(tally, key) for tally in kinds)
        for key in ("accepted", "delivered", "failed", "expired", "queued", "attempts")
    }
    return {
        "title": scenario.title,
        "seed": scenario.seed,
        "simulated_s": round(world.agenda.passed_s, 3),
        **totals,
        "per_s": round(sum(one["per_s"] for one in receivers.values()), 3),
        "connections": {
            "limit": scenario.scheduler.connections,
            "busy_most": network.in_flight_most,
            "made": network.connected,
        },
        "lookups": {"made": world.names.lookups, "failed": world.names.failures},
        "pauses": world.notices["paused"],
        "resumptions": world.notices["resumed"],
        "limits_exceeded": dict(sorted(network.exceeded.items())),
        "receivers": receivers,
        "tenants": {one.name: _figures(one, scenario.duration_s) for one in tallies.tenants},
    }


def _most_by_kind(world: World) -> list[tuple[int, int]]:
    """The most connections that any one site of each kind had: with an attempt, and in all."""
    most = [(0, 0)] * len(world.tallies.kinds)
    for peer in world.network.peers.values():
        busy, open_ = most[peer.kind]
        most[peer.kind] = max(busy, peer.busy_most), max(open_, peer.open_most)
    return most


def _figures(tally: Tally, duration_s: float) -> Report:
    passed_s = min(duration_s, tally.last_s)
    per_s = tally.delivered_in_time / passed_s if passed_s else 0.0
    return {
        "accepted": tally.accepted,
        "delivered": tally.delivered,
        "failed": tally.failed,
        "expired": tally.expired,
        "queued": tally.queued,
        "attempts": tally.attempts,
        "per_s": round(per_s, 3),
        "wait_s": quantiles(tally.waits_s),
        "delay_s": quantiles(tally.delays_s),
        "deferrals": dict(sorted(tally.deferrals.items())),
    }


def quantiles(values: Iterable[float]) -> dict[str, float]:
    """Median, and so on, by nearest rank; empty when there are no values."""
    ordered = sorted(values)
    count = len(ordered)
    return {
        name: round(ordered[max(0, -int(-part * count // 1) - 1)], 6)
        for name, part in ((name, part) for part, name in _PARTS if count)
    }


def _beyond(connections: Mapping[str, int]) -> list[str]:
    """Why there were more connections than the limit."""
    if connections["busy_most"] <= connections["limit"]:
        return []
    return ["  (beyond these: to hosts that do not answer, which keep no connection from others)"]


def render_report(report: Report) -> str:
    """The report as text."""
    limit = report["connections"]
    exceeded = report["limits_exceeded"]
    lines = [
        f"{report['title']} (seed {report['seed']}, {_time(report['simulated_s'])} simulated)",
        "",
        _words(report, ("accepted", "delivered", "failed", "expired", "queued", "attempts")),
        f"  {report['per_s']:,.1f} delivered a second; connections: {limit['busy_most']:,} of "
        f"{limit['limit']:,} at most, {limit['made']:,} made; {report['pauses']:,} pauses of sites",
        *_beyond(limit),
        "",
        *_columns("receiver", report["receivers"], ("sites", "busy_most")),
        "",
        *_columns("tenant", report["tenants"], ()),
        "",
        "  wait: from arrival (or the server's start) to the first attempt; delay: to delivery",
        "  conns: the most connections of one site that had mail on them at a time",
        *_deferrals(report["receivers"]),
        "limits exceeded: "
        + (", ".join(f"{name} {count:,}" for name, count in exceeded.items()) or "none"),
    ]
    return "\n".join(lines) + "\n"


def _words(report: Report, keys: Sequence[str]) -> str:
    return "  " + ", ".join(f"{key} {report[key]:,}" for key in keys)


_TITLES = {"busy_most": "conns", "per_s": "per s"}


def _columns(what: str, parts: Mapping[str, Report], more: Sequence[str]) -> list[str]:
    """A table: a line for each kind of receiver, or each tenant."""
    keys = (*more, "accepted", "delivered", "failed", "queued", "per_s")
    titles = (_TITLES.get(key, key) for key in keys)
    head = [what, *titles, "wait p50", "p99", "max", "delay p50", "p99", "max"]
    rows = [head]
    for name, figures in parts.items():
        cells = [f"{figures[key]:,.1f}" if key == "per_s" else f"{figures[key]:,}" for key in keys]
        for times in (figures["wait_s"], figures["delay_s"]):
            cells += [_time(times[part]) if times else "-" for part in ("p50", "p99", "max")]
        rows.append([name, *cells])
    widths = [max(len(row[place]) for row in rows) for place in range(len(head))]
    return ["  " + _row(row, widths) for row in rows]


def _row(cells: Sequence[str], widths: Sequence[int]) -> str:
    first, *others = zip(cells, widths, strict=True)
    return "  ".join([first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in others)])


def _deferrals(parts: Mapping[str, Report]) -> list[str]:
    lines = []
    for name, figures in parts.items():
        counts = sorted(figures["deferrals"].items(), key=lambda each: (-each[1], each[0]))
        if counts:
            said = ", ".join(f"{category} {count:,}" for category, count in counts)
            lines.append(f"  deferred at {name}: {said}")
    return [*lines, ""] if lines else []


def _time(seconds: float) -> str:
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 120:
        return f"{seconds:.1f} s"
    if seconds < 7200:
        return f"{seconds / 60:.1f} min"
    return f"{seconds / 3600:.1f} h"
