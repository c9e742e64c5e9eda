"""The command `fastmta bench`: options, a working directory, the table and the JSON file."""

import argparse
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from ..loopback import LabError
from ..postfix import SBIN, Postfix, missing
from . import machine, report
from .backlog.command import run_backlog
from .case import BY_NAME, CASES, DEFAULT_NAMES
from .certificate import KIND
from .contender import CONTENDERS, POSTFIX
from .handler import run_handler
from .hostile import run_hostile
from .idle import run_idle
from .looking import run_queue, run_watched
from .plan import Bench, Plan
from .sendmail import run_sendmail
from .traffic.drain import run_drain
from .traffic.rates import run_rates
from .traffic.shares import run_shares
from .traffic.sites import run_sites

OWN = {  # benches of their own, with options of their own
    "backlog": (run_backlog, "a million deferred messages"),
    "queue": (run_queue, "lists, sums and searches of a million messages, and what they cost"),
    "watched": (run_watched, "mail beside scrapes, lists and reloads of every second"),
    "idle": (run_idle, "memory of 10,000 sessions that say nothing"),
    "hostile": (run_hostile, "20 good sessions beside 1,000 slow and hostile ones"),
    "handler": (run_handler, "an aiosmtpd handler under aiosmtpd's server and under ours"),
    "sites": (run_sites, "thousands of sites, slow ones and dead ones"),
    "shares": (run_shares, "fresh mail beside a slow site's queue, one client beside another"),
    "rates": (run_rates, "whether rates are kept to the message"),
    "sendmail": (run_sendmail, "a process of sendmail -t for each message"),
    "drain": (run_drain, "the same backlog, drained by Postfix and by fastmta"),
}


def run_bench(arguments: Sequence[str]) -> int:
    """Measure, print, write; 1 with a sentence on standard error when that cannot be done."""
    if arguments and arguments[0] in OWN:
        return OWN[arguments[0]][0](arguments[1:])
    chosen = _parse(arguments)
    if chosen.list:
        for case in CASES:
            print(f"{case.name:<14} {case.title}")
        for name, (_, title) in OWN.items():
            print(f"{name:<14} {title} (options of its own: {name} --help)")
        return 0
    try:
        _require(chosen)
        parent = Path(chosen.directory)
        parent.mkdir(parents=True, exist_ok=True)
        machine.require_disk(parent)
        directory = Path(tempfile.mkdtemp(prefix="fastmta-bench-", dir=parent))
        directory.chmod(0o755)
        try:
            return _measure(chosen, directory)
        finally:
            if chosen.keep:
                print(f"kept {directory}")
            else:
                shutil.rmtree(directory, ignore_errors=True)
    except LabError as error:
        print(f"fastmta bench: {error}", file=sys.stderr)
        return 1


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="fastmta bench",
        description="Postfix and fastmta in turn, on one disk, under one load, on loopback.",
    )
    add = parser.add_argument
    add("cases", nargs="*", metavar="CASE", help=f"of --list; default: {' '.join(DEFAULT_NAMES)}")
    add("--list", action="store_true", help="name the cases and stop")
    add("--only", choices=CONTENDERS, help="measure one server alone")
    add("--pairs", type=int, default=3, help="alternating pairs per case (3)")
    add("--seconds", type=float, default=4.0, help="aim of one run (4)")
    add("--workers", type=int, default=0, help="of fastmta (0: one per core)")
    add("--durability", choices=("full", "os", "unsafe"), default="full", help="of fastmta (full)")
    add("--latency", type=int, default=200, help="single messages on an idle server (200; 0: none)")
    add("--no-flush-counts", action="store_true", help="leave the runs under the shim out")
    add("--directory", default="/var/tmp", help="where spools and queues go; not a tmpfs")
    add("--json", help="file of the figures (default: build/bench/<time>.json)")
    add("--keep", action="store_true", help="keep spools, queues and logs")
    chosen = parser.parse_args(arguments)
    unknown = [name for name in chosen.cases if name not in BY_NAME]
    if unknown:
        parser.error(f"no case {', '.join(unknown)}; there are {', '.join(BY_NAME)}")
    if chosen.pairs < 1 or chosen.seconds <= 0:
        parser.error("at least one pair, and some seconds")
    return chosen


def _require(chosen: argparse.Namespace) -> None:
    if not (SBIN / "smtp-source").exists():
        raise LabError("needs Debian's postfix (smtp-source, smtp-sink): apt-get install postfix")
    problem = missing()
    if problem and chosen.only != "fastmta":
        raise LabError(f"Postfix {problem}; --only fastmta measures without it")


def _measure(chosen: argparse.Namespace, directory: Path) -> int:
    names = (chosen.only,) if chosen.only else CONTENDERS
    plan = Plan(
        directory=directory,
        cases=tuple(BY_NAME[name] for name in chosen.cases or DEFAULT_NAMES),
        names=names,
        pairs=chosen.pairs,
        seconds=chosen.seconds,
        workers=chosen.workers,
        durability=chosen.durability,
        latency_messages=chosen.latency,
        has_flush_counts=not chosen.no_flush_counts,
        say=lambda text: print(text, file=sys.stderr, flush=True),
    )
    facts = {
        **machine.describe(directory),
        "postfix": Postfix(directory / POSTFIX, 0).version() if POSTFIX in names else "not run",
        "durability": chosen.durability,
        "pairs": chosen.pairs,
        "seconds": chosen.seconds,
        "workers": chosen.workers or "one per core",
        "tls_certificate": KIND,
        "started_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "load_average_before": machine.load_average(),
    }
    result = Bench(plan).run()
    print(report.render(result, facts))
    target = Path(
        chosen.json or f"build/bench/{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}.json"
    )
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(report.values(result, facts), indent=1) + "\n")
    print(f"figures: {target}")
    return 1 if result.problems else 0
