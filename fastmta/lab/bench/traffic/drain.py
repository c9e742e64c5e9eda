"""The command `fastmta bench drain`: the same backlog, drained by Postfix and by fastmta."""

from __future__ import annotations

import argparse
import os
import shutil
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ... import process
from ...loopback import LabError
from ...postfix import Postfix, missing
from .. import workplace
from ..contender import CONTENDERS, FASTMTA, POSTFIX
from ..table import Row, at_least, render, stated
from .field import SITE_CONNECTIONS, SIZE, Field, limits
from .flow import Flow, flow_of
from .receivers import Counts, Town
from .rival import Rival

NAME = "drain"
RATIO = 1.4  # at one site
_STALL_S = 60.0
_LIMIT_FACTOR = 20.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One backlog: how many sites, how many messages, how many connections to all of them."""

    name: str
    sites: int
    messages: int
    connections: int
    is_limited: bool  # both servers are told of that number; else it is a default of both


@dataclass(frozen=True, slots=True)
class Run:
    """One drain by one server."""

    flow: Flow
    first_s: float  # from its start to the first MAIL
    counts: Counts
    cpu_us: float  # of the server's process tree, per message; ended daemons included


Found = dict[str, dict[str, list[Run]]]  # by case and server


def run_drain(arguments: Sequence[str]) -> int:
    """Measure, print, write; 1 with a sentence on standard error when that cannot be done."""
    chosen = parse(arguments)
    return workplace.work(NAME, chosen, lambda directory: _measure(chosen, directory))


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = workplace.parser_of(
        NAME, "The same backlog for slow receivers, drained by Postfix and by fastmta in turn."
    )
    add = parser.add_argument
    add("cases", nargs="*", metavar="CASE", help="one, many (both)")
    add("--only", choices=CONTENDERS, help="measure one server alone")
    add("--delay", type=int, default=200, help="ms of each reply of the receivers (200)")
    add("--messages", type=int, default=2_000, help="to one site (2,000)")
    add("--sites", type=int, default=1_000, help="of the other case (1,000)")
    add("--each", type=int, default=20, help="messages to each of these (20)")
    add("--connections", type=int, default=500, help="to all of these together (500)")
    add("--size", type=int, default=SIZE, help="octets of a message (4,096)")
    add("--workers", type=int, default=0, help="of fastmta (0: one per core)")
    add("--pairs", type=int, default=3, help="alternating pairs per case (3)")
    chosen = parser.parse_args(arguments)
    chosen.cases = chosen.cases or ["one", "many"]
    if not set(chosen.cases) <= {"one", "many"}:
        parser.error("the cases are one and many")
    if min(chosen.messages, chosen.each, chosen.pairs, chosen.connections) < 1:
        parser.error("at least one message, one pair and one connection")
    if not 1 <= chosen.sites <= 20_000:
        parser.error("1 to 20,000 sites")
    chosen.workers = chosen.workers or len(os.sched_getaffinity(0))
    return chosen


def _cases(chosen: argparse.Namespace) -> list[Case]:
    one = Case(
        name="one",
        sites=1,
        messages=chosen.messages,
        connections=SITE_CONNECTIONS,
        is_limited=False,
    )
    many = Case(
        name="many",
        sites=chosen.sites,
        messages=chosen.sites * chosen.each,
        connections=chosen.connections,
        is_limited=True,
    )
    return [case for case in (one, many) if case.name in chosen.cases]


def _measure(chosen: argparse.Namespace, directory: Path) -> int:
    if chosen.only != FASTMTA and (problem := missing()):
        raise LabError(f"Postfix {problem}; --only fastmta measures without it")
    directory.chmod(0o755)
    facts = workplace.facts_of(directory, chosen)
    names = [chosen.only] if chosen.only else list(CONTENDERS)
    facts["postfix"] = Postfix(directory, 0).version() if POSTFIX in names else "not run"
    found: Found = {}
    for case in _cases(chosen):
        runs = found[case.name] = {name: [] for name in names}
        for number in range(chosen.pairs):
            for name in names if number % 2 == 0 else reversed(names):
                one = _drain(directory / "run", name, case, chosen)
                runs[name].append(one)
                workplace.say(f"{number + 1}/{chosen.pairs} {case.name} {name}: {_line(one)}")
    rows = judge(found)
    print(workplace.render_facts(facts))
    print(f"Postfix {facts['postfix']}; replies after {chosen.delay} ms, {chosen.workers} workers")
    print(render(rows))
    runs_by_case: dict[str, Any] = {
        case: {name: [asdict(run) for run in runs] for name, runs in by_name.items()}
        for case, by_name in found.items()
    }
    workplace.write_figures(NAME, chosen, {**facts, "verdicts": rows, "cases": runs_by_case})
    return 0


def _drain(directory: Path, name: str, case: Case, chosen: argparse.Namespace) -> Run:
    town = Town(sites=case.sites, delays_ms=(chosen.delay,), arrivals_max=2 * case.messages)
    with Field(directory, town, case.sites) as field:
        run = (_postfix if name == POSTFIX else _fastmta)(field, case, chosen)
    shutil.rmtree(directory)
    return run


def _postfix(field: Field, case: Case, chosen: argparse.Namespace) -> Run:
    rival = Rival(
        field.directory / POSTFIX,
        field.receivers.first,
        domains=case.sites,
        sites=case.sites,
        processes=case.connections if case.is_limited else 0,
    )
    try:
        rival.fill(case.messages, chosen.size)
        begin_s = time.monotonic()
        rival.drain()
        return _weigh(field, case, begin_s, rival.pid)
    finally:
        rival.stop()


def _fastmta(field: Field, case: Case, chosen: argparse.Namespace) -> Run:
    settings = workplace.settings_of(chosen)
    if case.is_limited:
        settings = {**limits(case.connections), **settings}
    server = field.server(FASTMTA, chosen.workers, settings)
    field.fill(server, case.messages, case.sites, chosen.size)
    begin_s = time.monotonic()
    server.start()
    run = _weigh(field, case, begin_s, server.pid)
    server.stop()
    return run


def _weigh(field: Field, case: Case, begin_s: float, pid: int) -> Run:
    """Wait for the last message. LabError: that takes too long."""
    receivers, town = field.receivers, field.town
    mean_s = town.delay_s(0) * town.flights
    limit_s = _STALL_S + _LIMIT_FACTOR * case.messages * mean_s / case.connections
    if not field.wait(case.messages, _STALL_S, limit_s):
        raise LabError(f"{receivers.messages} of {case.messages} delivered after {limit_s:.0f} s")
    arrivals = receivers.arrivals()
    return Run(
        flow=flow_of(arrivals, town, case.connections),
        first_s=min(each.begun_s for each in arrivals) - begin_s,
        counts=receivers.counts(),
        cpu_us=process.tree_cpu_s(pid) / len(arrivals) * 1e6,
    )


def _line(run: Run) -> str:
    flow, counts = run.flow, run.counts
    return (
        f"{flow.rate:.1f}/s to the last message, {flow.steady_rate:.1f}/s in between "
        f"({flow.steady_share:.0%} of the optimum), {counts.connections} connections, "
        f"{counts.open_most} at a time, {counts.site_most} to one site"
    )


def judge(found: Found) -> list[Row]:
    """Each figure beside its target."""
    rows: list[Row] = []
    for case, by_name in found.items():
        for name, runs in by_name.items():
            title = f"{case}, {name}"
            rows += [
                stated(f"{title}: messages/s to the last one", [run.flow.rate for run in runs]),
                stated(f"{title}: messages/s in between", [run.flow.steady_rate for run in runs]),
                stated(f"{title}: share", [run.flow.steady_share for run in runs], "{:.3f}"),
                stated(f"{title}: connections", [run.counts.connections for run in runs], "{:.0f}"),
                stated(f"{title}: at a time", [run.counts.open_most for run in runs], "{:.0f}"),
                stated(f"{title}: to one site", [run.counts.site_most for run in runs], "{:.0f}"),
                stated(f"{title}: s to the first MAIL", [run.first_s for run in runs], "{:.2f}"),
                stated(f"{title}: CPU us/message", [run.cpu_us for run in runs], "{:.0f}"),
            ]
        pairs = list(zip(by_name.get(FASTMTA, []), by_name.get(POSTFIX, []), strict=False))
        whole = [ours.flow.rate / theirs.flow.rate for ours, theirs in pairs]
        steady = [ours.flow.steady_rate / theirs.flow.steady_rate for ours, theirs in pairs]
        what = f"{case}: fastmta / Postfix, to the last message"
        rows.append(
            at_least(what, whole, RATIO) if case == "one" else stated(what, whole, "{:.3f}")
        )
        rows.append(stated(f"{case}: fastmta / Postfix, in between", steady, "{:.3f}"))
    return rows
