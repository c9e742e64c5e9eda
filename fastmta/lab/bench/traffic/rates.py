"""The command `fastmta bench rates`: whether a rate is kept to the message."""

from __future__ import annotations

import argparse
import os
import shutil
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from fastmta.budget.rate import Rate, read_rate

from .. import workplace
from ..table import Row, at_most, render, stated
from .field import Field
from .flow import excess
from .receivers import Town

NAME = "rates"
ERROR = 0.01
LATE_MS = 25.0  # what the machine may add to the way of one message, and not to that of the next
_FIRST_S = 30.0


@dataclass(frozen=True, slots=True)
class Kept:
    """What one rate was like."""

    rate: str
    messages: int
    seconds: float
    per_s: float  # once the burst is used up
    error: float  # of that, as a share
    excess: float  # messages beyond burst and rate in the worst stretch of time; 0 or less: none
    early_ms: float  # what lateness of a message explains that


def run_rates(arguments: Sequence[str]) -> int:
    """Measure, print, write; 1 with a sentence on standard error when that cannot be done."""
    chosen = parse(arguments)
    return workplace.work(NAME, chosen, lambda directory: _measure(chosen, directory))


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = workplace.parser_of(NAME, "A backlog for one site with a rate: when messages arrive.")
    add = parser.add_argument
    add("rates", nargs="*", metavar="RATE", help='like "100/s, burst 10" (that, and 20/s)')
    add("--seconds", type=float, default=60.0, help="of one run (60)")
    add("--workers", type=int, default=0, help="of the server (0: one per core)")
    add("--pairs", type=int, default=1, help="runs of each rate (1)")
    chosen = parser.parse_args(arguments)
    chosen.rates = chosen.rates or ["100/s, burst 10", "20/s"]
    if chosen.seconds <= 0 or chosen.pairs < 1:
        parser.error("some seconds, and at least one run")
    try:
        for text in chosen.rates:
            read_rate(text)
    except ValueError as problem:
        parser.error(str(problem))
    chosen.workers = chosen.workers or len(os.sched_getaffinity(0))
    return chosen


def _measure(chosen: argparse.Namespace, directory: Path) -> int:
    facts = workplace.facts_of(directory, chosen)
    found: dict[str, list[Kept]] = {text: [] for text in chosen.rates}
    for number in range(chosen.pairs):
        for text, many in found.items():
            one = _keep(directory / "run", text, chosen)
            many.append(one)
            workplace.say(
                f"{number + 1}/{chosen.pairs} {text}: {one.messages} in {one.seconds:.1f} s, "
                f"{one.per_s:.2f}/s ({one.error:+.2%}), {one.excess:+.2f} beyond the burst"
            )
    rows = judge(found)
    print(workplace.render_facts(facts))
    print(render(rows))
    values = {text: [asdict(one) for one in many] for text, many in found.items()}
    workplace.write_figures(NAME, chosen, {**facts, "verdicts": rows, "rates": values})
    return 0


def _keep(directory: Path, text: str, chosen: argparse.Namespace) -> Kept:
    rate = read_rate(text)
    count = int(rate.burst + 2 * chosen.seconds * rate.count / rate.period_s) + 100
    town = Town(sites=1, delays_ms=(0,), arrivals_max=count)
    with Field(directory, town, 1) as field:
        shape = {"shape.bench.site": "*", "shape.bench.rate": text}
        server = field.server("server", chosen.workers, shape | workplace.settings_of(chosen))
        field.fill(server, count, domains=1)
        server.start()
        field.wait(1, _FIRST_S, _FIRST_S)
        time.sleep(chosen.seconds)
        begun_s = sorted(each.begun_s for each in field.receivers.arrivals())
        server.kill()
    shutil.rmtree(directory)
    return weigh(text, rate, [when for when in begun_s if when <= begun_s[0] + chosen.seconds])


def weigh(text: str, rate: Rate, begun_s: Sequence[float]) -> Kept:
    """What arrivals say; the times are in order."""
    per_s = rate.count / rate.period_s
    beyond = excess(begun_s, per_s, rate.burst)
    steady = [when for when in begun_s if when > begun_s[0] + rate.burst / per_s]
    span_s = steady[-1] - steady[0] if len(steady) > 1 else 0.0
    measured = (len(steady) - 1) / span_s if span_s else 0.0
    return Kept(
        rate=text,
        messages=len(begun_s),
        seconds=begun_s[-1] - begun_s[0],
        per_s=measured,
        error=measured / per_s - 1,
        excess=beyond,
        early_ms=max(0.0, beyond / per_s * 1000),
    )


def judge(found: dict[str, list[Kept]]) -> list[Row]:
    """Each figure beside its target."""
    rows: list[Row] = []
    for text, many in found.items():
        errors = [abs(one.error) for one in many]
        early = [one.early_ms for one in many]
        rows += [
            stated(f"{text}: messages/s", [one.per_s for one in many], "{:.2f}"),
            at_most(f"{text}: error of the rate", errors, ERROR, "{:.4f}"),
            stated(
                f"{text}: messages beyond burst and rate", [one.excess for one in many], "{:.2f}"
            ),
            at_most(f"{text}: ... as ms that one was late", early, LATE_MS, "{:.1f}"),
        ]
    return rows
