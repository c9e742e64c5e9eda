"""The command `fastmta bench sites`: thousands of sites, slow ones, dead ones."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from .. import workplace
from ..table import Row, at_least, render, stated
from .drained import Drained, Load, drain
from .field import limits
from .place import domains_below
from .receivers import Town

NAME = "sites"
SHARE = 0.9
CHANGE = 0.05
ALL, ALONE, BESIDE = "all", "alone", "beside"
_TITLES = {ALL: "every site lives", ALONE: "without the third", BESIDE: "a third of them dead"}

Found = dict[str, list[Drained]]


def run_sites(arguments: Sequence[str]) -> int:
    """Measure, print, write; 1 with a sentence on standard error when that cannot be done."""
    chosen = parse(arguments)
    return workplace.work(NAME, chosen, lambda directory: _measure(chosen, directory))


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = workplace.parser_of(
        NAME, "A backlog for thousands of MX sites, all alive, and with a third of them dead."
    )
    add = parser.add_argument
    add("parts", nargs="*", metavar="PART", help="all, dead (both)")
    add("--domains", type=int, default=10_000, help="that there is mail for (10,000)")
    add("--sites", type=int, default=3_000, help="MX hosts that they share (3,000)")
    add("--delays", default="50,200", help="ms of each reply, site by site (50,200)")
    add("--final", action="store_true", help="only the reply to the end of data is delayed")
    add("--each", type=int, default=8, help="messages to each domain (8)")
    add("--optimum", type=float, default=2_000.0, help="messages/s that set the connections (2000)")
    add("--workers", type=int, default=0, help="of the server (0: one per core)")
    add("--pairs", type=int, default=3, help="rounds (3)")
    chosen = parser.parse_args(arguments)
    chosen.parts = chosen.parts or ["all", "dead"]
    if not set(chosen.parts) <= {"all", "dead"}:
        parser.error("the parts are all and dead")
    if not 3 <= chosen.sites <= chosen.domains or chosen.sites > 20_000:
        parser.error("3 to 20,000 sites, and at least one domain for each")
    if chosen.each < 1 or chosen.pairs < 1 or chosen.optimum <= 0:
        parser.error("at least one message for each domain, one round, some messages/s")
    chosen.workers = chosen.workers or len(os.sched_getaffinity(0))
    return chosen


def loads(chosen: argparse.Namespace) -> dict[str, Load]:
    """The loads by name; the connections are those that the optimum needs."""
    delays = tuple(int(text) for text in chosen.delays.split(","))
    messages = chosen.domains * chosen.each
    town = Town(
        sites=chosen.sites, delays_ms=delays, is_final=chosen.final, arrivals_max=2 * messages
    )
    mean_s = sum(delays) / len(delays) / 1000 * town.flights
    connections = max(1, round(chosen.optimum * mean_s))
    every = Load(
        town=town,
        domains=chosen.domains,
        queued=chosen.domains,
        living=chosen.domains,
        each=chosen.each,
        connections=connections,
        workers=chosen.workers,
        settings={**limits(connections), **workplace.settings_of(chosen)},
    )
    dead_from = chosen.sites - chosen.sites // 3
    living = domains_below(dead_from, chosen.domains, chosen.sites)
    found = {ALL: every} if "all" in chosen.parts else {}
    if "dead" in chosen.parts:
        found[ALONE] = replace(every, queued=living, living=living)
        found[BESIDE] = replace(every, living=living, town=replace(town, dead_from=dead_from))
    return found


def _measure(chosen: argparse.Namespace, directory: Path) -> int:
    facts = workplace.facts_of(directory, chosen)
    asked = loads(chosen)
    found: Found = {name: [] for name in asked}
    for number in range(chosen.pairs):
        for name in list(asked) if number % 2 == 0 else reversed(asked):
            one = drain(directory / "run", asked[name], len(os.sched_getaffinity(0)))
            found[name].append(one)
            workplace.say(f"{number + 1}/{chosen.pairs} {_TITLES[name]}: {_line(one)}")
    rows = judge(found)
    connections = next(iter(asked.values())).connections
    print(workplace.render_facts(facts))
    print(
        f"{chosen.domains} domains on {chosen.sites} sites, replies after {chosen.delays} ms, "
        f"{chosen.each} messages each, {connections} connections, {chosen.workers} workers"
    )
    print(render(rows))
    runs: dict[str, Any] = {name: [one.values() for one in many] for name, many in found.items()}
    values = {**facts, "connections": connections, "verdicts": rows, "runs": runs}
    workplace.write_figures(NAME, chosen, values)
    return 0


def _line(one: Drained) -> str:
    flow = one.flow
    return (
        f"{flow.steady_rate:.0f}/s, {flow.steady_share:.1%} of the optimum, to the last message "
        f"{flow.rate:.0f}/s, {flow.share:.1%}; machine {one.machine_busy:.0%} busy"
    )


def judge(found: Found) -> list[Row]:
    """Each figure beside its target."""
    rows: list[Row] = []
    for name, many in found.items():
        title = _TITLES[name]
        flows = [one.flow for one in many]
        shares = [flow.steady_share for flow in flows]
        what = f"{title}: share of the optimum"
        rows.append(
            at_least(what, shares, SHARE) if name == ALL else stated(what, shares, "{:.3f}")
        )
        rows += [
            stated(f"{title}: messages/s", [flow.steady_rate for flow in flows]),
            stated(
                f"{title}: optimum of that mixture, messages/s", [each.optimum for each in flows]
            ),
            stated(
                f"{title}: share, to the last message", [each.share for each in flows], "{:.3f}"
            ),
            stated(f"{title}: messages/s, to the last one", [flow.rate for flow in flows]),
            stated(f"{title}: messages per connection", [_per_connection(one) for one in many]),
            stated(f"{title}: most connections at a time", [one.counts.open_most for one in many]),
            stated(f"{title}: most of one site", [one.counts.site_most for one in many]),
            stated(f"{title}: attempts deferred", [one.deferrals for one in many], "{:.0f}"),
            stated(f"{title}: CPU us/message", [one.cpu_us for one in many], "{:.0f}"),
            stated(f"{title}: machine busy", [one.machine_busy for one in many], "{:.2f}"),
        ]
    if BESIDE in found:
        pairs = list(zip(found[BESIDE], found[ALONE], strict=True))
        steady = [one.flow.steady_rate / other.flow.steady_rate for one, other in pairs]
        whole = [one.flow.rate / other.flow.rate for one, other in pairs]
        rows.append(at_least("the rest beside dead sites / alone", steady, 1 - CHANGE))
        rows.append(at_least("the same, to the last message", whole, 1 - CHANGE))
    return rows


def _per_connection(one: Drained) -> float:
    return one.counts.messages / max(1, one.counts.connections)
