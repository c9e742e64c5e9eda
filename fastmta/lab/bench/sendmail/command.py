"""The command `fastmta bench sendmail`: options, the table and the JSON file."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from ...loopback import HOST, LabError, free_port
from ...postfix import SBIN, Postfix, missing
from ...server import Server, ServerOptions
from .. import workplace
from ..contender import CONTENDERS, POSTFIX
from ..receiver import Receiver
from .loops import Loops, Outcome, start_s

NAME = "sendmail"
TARGET_PER_S = 50.0
_ROW = "{:<9} {:>8} {:>9} {:>9} {:>11} {:>10}  {}"


def run_sendmail(arguments: Sequence[str]) -> int:
    """Measure, print, write; 1 with a sentence on standard error when that cannot be done."""
    chosen = parse(arguments)
    return workplace.work(NAME, chosen, lambda directory: _measure(chosen, directory))


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = workplace.parser_of(
        NAME, "Shell loops of `sendmail -t`: a process for each message, durable before it ends."
    )
    add = parser.add_argument
    add("--calls", type=int, default=200, help="of each server (200)")
    add("--loops", type=int, default=2, help="shells at a time (2)")
    add("--octets", type=int, default=4096, help="of content (4,096)")
    add("--only", choices=CONTENDERS, help="measure one server alone")
    chosen = parser.parse_args(arguments)
    if not 1 <= chosen.loops <= 64 or chosen.calls < chosen.loops:
        parser.error("1 to 64 loops, and a call for each")
    return chosen


def _measure(chosen: argparse.Namespace, directory: Path) -> int:
    directory.chmod(0o755)
    names = [chosen.only] if chosen.only else list(CONTENDERS)
    if POSTFIX in names and missing():
        raise LabError(f"Postfix {missing()}; leave it out with --only fastmta")
    facts = workplace.facts_of(directory, chosen)
    found: dict[str, Outcome] = {}
    for name in names:
        workplace.say(f"{name}: {chosen.calls} calls in {chosen.loops} loops")
        found[name] = _measure_one(name, chosen, directory)
    print(workplace.render_facts(facts))
    print(render(found))
    figures = {name: outcome._asdict() for name, outcome in found.items()}
    workplace.write_figures(NAME, chosen, {**facts, "servers": figures})
    return 0


def _measure_one(name: str, chosen: argparse.Namespace, directory: Path) -> Outcome:
    loops = Loops(chosen.calls, chosen.loops, chosen.octets)
    receiver = Receiver(directory, free_port(), is_own=True)
    place = directory / name
    relay_host = f"[{HOST}]:{receiver.port}"
    try:
        if name == POSTFIX:
            postfix = Postfix(place, free_port(), relay_host)
            postfix.start()
            try:
                command = [str(SBIN / "sendmail"), "-C", str(place / "etc")]
                return loops.run(command, receiver, {})
            finally:
                postfix.stop()
        settings = workplace.settings_of(chosen)
        server = Server(
            ServerOptions(directory=place, relay_host=relay_host, workers=0, settings=settings)
        )
        server.start()
        try:
            # As the entry point does.
            script = "from fastmta.postfix.sendmail import main; main()"
            command = [sys.executable, "-c", script]
            return loops.run(command, receiver, {"FASTMTA_CONFIG": str(server.file)})
        finally:
            server.stop()
    finally:
        receiver.stop()


def verdict(name: str, outcome: Outcome) -> str:
    """The target is ours."""
    if name == POSTFIX:
        return "-"
    return f">= {TARGET_PER_S:g}/s: {'met' if outcome.calls_per_s >= TARGET_PER_S else 'MISSED'}"


def render(found: dict[str, Outcome]) -> str:
    """The table for people."""
    lines = [
        "Calls a second until each has ended with 0; until all had arrived; milliseconds of the",
        "CPU of a call with all that it started, and of a call that does nothing (-bh).",
        _ROW.format("", "calls/s", "relayed/s", "call ms", "CPU ms/call", "start ms", "target"),
    ]
    for name, one in found.items():
        numbers = (one.calls_per_s, one.relayed_per_s, one.call_ms, one.cpu_ms, one.start_ms)
        texts = [f"{number:.1f}" for number in numbers]
        lines.append(_ROW.format(name, *texts, verdict(name, one)))
    lines.append(
        f"Python itself starts in {1000 * start_s([sys.executable, '-c', 'pass']):.1f} ms."
    )
    return "\n".join(lines)
