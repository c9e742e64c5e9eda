"""The command `fastmta bench handler`: options, the table and the JSON file."""

import argparse
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from .. import workplace
from ..case import BY_NAME, Case
from ..source import Source
from ..statistic import Spread, spread
from .counting import HANDLERS
from .field import AIOSMTPD, NAMES, Field, HandlerRun

NAME = "handler"
TARGET = 3.0
CASES = ("4k-source", "4k-source-new")
_ROW = "{:<16} {:>24} {:>20} {:>20} {:>20}  {}"
_FIRST_RATE = 800.0  # messages/s, before anything is known
_WARM_UP_S = 0.5
_COUNT_MIN, _COUNT_MAX = 100, 300_000

Runs = dict[str, list[HandlerRun]]  # by server


def run_handler(arguments: Sequence[str]) -> int:
    """Measure, print, write; 1 with a sentence on standard error when that cannot be done."""
    chosen = parse(arguments)
    return workplace.work(NAME, chosen, lambda directory: _measure(chosen, directory))


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = workplace.parser_of(
        NAME,
        "One aiosmtpd handler under aiosmtpd's Controller and under fastmta, both one process.",
    )
    add = parser.add_argument
    add("--only", choices=NAMES, nargs="+", default=list(NAMES), help="measure these servers alone")
    add("--handler", choices=tuple(HANDLERS), default="data", help="methods that it has (data)")
    add("--cases", choices=CASES, nargs="+", default=list(CASES), help="what is sent (both)")
    add("--pairs", type=int, default=3, help="alternating rounds per case (3)")
    add("--seconds", type=float, default=4.0, help="aim of one run (4)")
    chosen = parser.parse_args(arguments)
    if chosen.pairs < 1 or chosen.seconds <= 0:
        parser.error("at least one pair, and some seconds")
    return chosen


def _measure(chosen: argparse.Namespace, directory: Path) -> int:
    facts = workplace.facts_of(directory, chosen)
    names = tuple(name for name in NAMES if name in chosen.only)
    found: dict[str, Runs] = {}
    with Field(directory, names, chosen.handler, workplace.settings_of(chosen)) as field:
        for name in chosen.cases:
            source = Source(BY_NAME[name], directory)
            found[name] = _rounds(field, source, chosen.pairs, chosen.seconds)
    print(workplace.render_facts(facts))
    print(render(found))
    values = {
        case: {name: [asdict(run) for run in runs] for name, runs in by_server.items()}
        for case, by_server in found.items()
    }
    workplace.write_figures(NAME, chosen, {**facts, "cases": values})
    return 0


def _rounds(field: Field, source: Source, pairs: int, seconds: float) -> Runs:
    rates = dict.fromkeys(field.names, _FIRST_RATE)
    found: Runs = {name: [] for name in field.names}
    for number in range(pairs + 1):  # the first one warms up
        for name in field.names if number % 2 else reversed(field.names):
            aim_s = seconds if number else _WARM_UP_S
            count = max(_COUNT_MIN, min(_COUNT_MAX, int(rates[name] * aim_s)))
            run = field.measure(name, source, count)
            rates[name] = run.accepted_rate
            if number:
                found[name].append(run)
                workplace.say(
                    f"{source.case.name} {number}/{pairs} {name}: {run.accepted_rate:.0f}/s"
                )
    return found


def ratio(ours: Sequence[HandlerRun], theirs: Sequence[HandlerRun]) -> Spread | None:
    """Accepted per second over aiosmtpd's, round by round."""
    pairs = zip(ours, theirs, strict=False)
    return spread(our.accepted_rate / their.accepted_rate for our, their in pairs)


def render(found: dict[str, Runs]) -> str:
    """The table for people."""
    lines = ["One process each: a Controller on uvloop, one worker. CPU: of the process tree."]
    for name, by_server in found.items():
        case: Case = BY_NAME[name]
        lines += ["", f"{name}: {case.title}"]
        lines.append(
            _ROW.format("", "accepted/s", "p99 ms", "CPU us/msg", "ratio", f"target {TARGET:g}")
        )
        theirs = by_server.get(AIOSMTPD, [])
        for server, runs in by_server.items():
            found_ratio = ratio(runs, theirs) if server != AIOSMTPD else None
            verdict = "-"
            if found_ratio:
                verdict = "met" if found_ratio.median >= TARGET else "MISSED"
            lines.append(
                _ROW.format(
                    server,
                    _text(spread(run.accepted_rate for run in runs), "{:.0f}"),
                    _text(spread(run.source.reply_p99_ms for run in runs), "{:.1f}"),
                    _text(spread(run.cpu_us for run in runs), "{:.0f}"),
                    _text(found_ratio, "{:.2f}"),
                    verdict,
                )
            )
    return "\n".join(lines)


def _text(found: Spread | None, form: str) -> str:
    return found.render(form) if found else "-"
