"""The command `fastmta bench idle`: options, the table and the JSON file."""

import argparse
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from .. import workplace
from ..certificate import make_certificate
from .field import KB, Crowd, IdleFigures, measure_crowd, require_descriptors

NAME = "idle"
TARGET_KB = 16.0
CARRIED = {"none": 0, "4k": 4 * KB, "200k": 200 * KB}
_ROW = "{:<34} {:>10} {:>10} {:>10} {:>10} {:>12}  {}"


def run_idle(arguments: Sequence[str]) -> int:
    """Measure, print, write; 1 with a sentence on standard error when that cannot be done."""
    chosen = parse(arguments)
    return workplace.work(NAME, chosen, lambda directory: _measure(chosen, directory))


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = workplace.parser_of(
        NAME, "Idle sessions: memory of the worker and of the kernel, per session."
    )
    add = parser.add_argument
    add("--sessions", type=int, default=10_000, help="open at a time (10,000)")
    add("--tls", action="store_true", help="with TLS (STARTTLS); else plain")
    add("--addresses", type=int, default=10, help="of loopback that they come from (10)")
    add(
        "--after",
        choices=tuple(CARRIED),
        nargs="+",
        default=list(CARRIED),
        help="message that each session carried before (all three, one after the other)",
    )
    chosen = parser.parse_args(arguments)
    if not 1 <= chosen.sessions <= 50_000 or not 1 <= chosen.addresses <= 250:
        parser.error("1 to 50,000 sessions, from 1 to 250 addresses")
    return chosen


def _measure(chosen: argparse.Namespace, directory: Path) -> int:
    require_descriptors(chosen.sessions)
    facts = workplace.facts_of(directory, chosen)
    settings = workplace.settings_of(chosen)
    certificate = make_certificate(directory) if chosen.tls else None
    found = []
    for after in chosen.after:
        crowd = Crowd(
            sessions=chosen.sessions,
            addresses=chosen.addresses,
            octets=CARRIED[after],
            certificate=certificate,
        )
        workplace.say(f"{crowd.sessions} sessions, {crowd.title}")
        found.append(measure_crowd(directory / after, crowd, settings))
    print(workplace.render_facts(facts))
    print(render(found))
    workplace.write_figures(NAME, chosen, {**facts, "crowds": [values(one) for one in found]})
    return 0


def verdict(figures: IdleFigures) -> str:
    """The target is of plain sessions; of TLS we say how much."""
    if figures.tls:
        return "-"
    most = max(figures.anonymous, figures.shared_fairly) / KB
    return f"<= {TARGET_KB:g}: {'met' if most <= TARGET_KB else 'MISSED'}"


def render(found: Sequence[IdleFigures]) -> str:
    """The table for people."""
    lines = [
        "One worker. KiB per session: growth of its anonymous and its proportional memory, of the",
        "kernel's slab and TCP buffers (the machine's: the client's end is in them too), and what",
        "of the anonymous memory is still there when all sessions are closed.",
        _ROW.format("", "anonymous", "Pss", "slab", "TCP", "kept", "target"),
    ]
    for one in found:
        cells = [one.anonymous, one.shared_fairly, one.slab, one.tcp, one.kept]
        texts = [f"{value / KB:.2f}" for value in cells]
        lines.append(_ROW.format(f"{one.sessions} {one.title}", *texts, verdict(one)))
    lines += [f"{one.title}: {one.tls}" for one in found if one.tls]
    return "\n".join(lines)


def values(figures: IdleFigures) -> dict[str, object]:
    """For the JSON file."""
    return {
        **asdict(figures),
        "anonymous_per_session": figures.anonymous,
        "pss_per_session": figures.shared_fairly,
        "slab_per_session": figures.slab,
        "tcp_per_session": figures.tcp,
        "kept_per_session": figures.kept,
    }
