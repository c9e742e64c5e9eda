"""The command `fastmta bench hostile`: options, the table and the JSON file."""

import argparse
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from .. import workplace
from ..certificate import make_certificate
from ..measure import Run
from ..statistic import Spread, pair_ratios, spread
from .field import KINDS, MIXED, Field, Siege, SiegeFigures

NAME = "hostile"
TARGET = 0.9
_ROW = "{:<10} {:>22} {:>22} {:>19} {:>19} {:>15}  {}"


def run_hostile(arguments: Sequence[str]) -> int:
    """Measure, print, write; 1 with a sentence on standard error when that cannot be done."""
    chosen = parse(arguments)
    return workplace.work(NAME, chosen, lambda directory: _measure(chosen, directory))


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = workplace.parser_of(
        NAME, "Good persistent sessions, alone and beside slow and hostile ones."
    )
    add = parser.add_argument
    kinds = (MIXED, *KINDS)
    add("kinds", nargs="*", metavar="KIND", help=f"{' '.join(kinds)} (default: {MIXED})")
    add("--sessions", type=int, default=1000, help="that are hostile (1,000)")
    add("--pace-ms", type=int, default=1000, help="between two steps of one of them (1,000)")
    add("--good", type=int, default=20, help="good sessions (20)")
    add("--pairs", type=int, default=3, help="alternating pairs per kind (3)")
    add("--seconds", type=float, default=4.0, help="aim of one run (4)")
    add("--workers", type=int, default=1, help="of fastmta (1; 0: one per core)")
    add("--tls", action="store_true", help="the server offers TLS: handshakes can be half-finished")
    add("--good-tls", action="store_true", help="the good sessions use TLS too")
    chosen = parser.parse_args(arguments)
    unknown = [kind for kind in chosen.kinds if kind not in kinds]
    if unknown:
        parser.error(f"no kind {', '.join(unknown)}; there are {', '.join(kinds)}")
    if not 1 <= chosen.sessions <= 20_000 or not 10 <= chosen.pace_ms <= 3_600_000:
        parser.error("1 to 20,000 sessions, and a pace of at least 10 ms")
    if chosen.pairs < 1 or chosen.seconds <= 0 or chosen.good < 1:
        parser.error("at least one pair, one good session, and some seconds")
    if chosen.good_tls and not chosen.tls:
        parser.error("--good-tls needs --tls")
    chosen.kinds = chosen.kinds or [MIXED]
    return chosen


def _measure(chosen: argparse.Namespace, directory: Path) -> int:
    facts = workplace.facts_of(directory, chosen)
    siege = Siege(
        sessions=chosen.sessions,
        pace_ms=chosen.pace_ms,
        good_sessions=chosen.good,
        pairs=chosen.pairs,
        seconds=chosen.seconds,
        workers=chosen.workers,
        has_tls=chosen.good_tls,
    )
    certificate = make_certificate(directory) if chosen.tls else None
    with Field(directory, siege, certificate, workplace.settings_of(chosen)) as field:
        found = [field.measure(kind, workplace.say) for kind in chosen.kinds]
    print(workplace.render_facts(facts))
    print(render(found, siege))
    values = [{**asdict(one), "accepted_ratio": _median(kept(one))} for one in found]
    workplace.write_figures(NAME, chosen, {**facts, "sieges": values})
    return 0


def kept(figures: SiegeFigures) -> Spread | None:
    """Throughput beside the hostile over throughput alone, pair by pair."""
    return pair_ratios(figures.beside, figures.alone, _accepted)


def _accepted(run: Run) -> float:
    return run.accepted_rate


def _relayed(run: Run) -> float:
    return run.relayed_rate


def _median(found: Spread | None) -> float | None:
    return found.median if found else None


def render(found: Sequence[SiegeFigures], siege: Siege) -> str:
    """The table for people, and what each crowd did."""
    tls = " over TLS" if siege.has_tls else ""
    lines = [
        f"{siege.good_sessions} good sessions (4 KB, persistent{tls}) beside {siege.sessions} "
        f"hostile ones, each a step per {siege.pace_ms} ms; pairs alternate.",
        _ROW.format(
            *("", "alone accepted/s", "beside accepted/s", "accepted kept", "relayed kept"),
            *("p99 ms, beside", f"target {TARGET:g}"),
        ),
    ]
    for one in found:
        ratio = kept(one)
        verdict = "met" if ratio and ratio.median >= TARGET else "MISSED"
        relayed = pair_ratios(one.beside, one.alone, _relayed)
        p99 = spread(run.source.reply_p99_ms for run in one.beside if run.source)
        lines.append(
            _ROW.format(
                one.kind,
                _text(spread(map(_accepted, one.alone)), "{:.0f}"),
                _text(spread(map(_accepted, one.beside)), "{:.0f}"),
                _text(ratio, "{:.2f}"),
                _text(relayed, "{:.2f}"),
                _text(p99, "{:.1f}"),
                verdict,
            )
        )
    for one in found:
        lines += _crowd_lines(one)
    return "\n".join(lines)


def _text(found: Spread | None, form: str) -> str:
    return found.render(form) if found else "-"


def _crowd_lines(figures: SiegeFigures) -> list[str]:
    """What the crowd of the last pair did, and what the server told it."""
    told = figures.told[-1]
    share = 100 * told["cpu_s"] / told["seconds"]
    lines = ["", f"{figures.kind}: the hostile clients took {share:.1f} % of a processor"]
    for kind, one in told["kinds"].items():
        lines.append(
            f"  {kind:<10} {one['sessions']} sessions, {one['steps']} steps, "
            f"{one['connections']} connections ({one['failed']} failed, {one['closed']} closed by "
            f"the server), {one['sent']} octets sent, replies: {one['positive']} lines positive, "
            f"{one['negative']} negative"
        )
    return lines
