"""`fastmta bench queue`: how fast a large queue is looked at, and what that costs the mail.

The backlog is that of `bench backlog`, due long after the end. Each command is a process of its
own, as at an operator's terminal. The flow is fresh mail to a few domains, in alternating pairs:
alone, and while a loop lists, sums up and searches the queue, a command after the other.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from ...loopback import LabError
from ...server import Server
from .. import workplace
from ..backlog.build import domain_of
from ..backlog.field import Field, Scale
from ..table import at_most, render
from .flow import Flows, measure

NAME = "queue"
ANSWER_S = 1.0
LOOKED_S = 3.0  # at a list that is longer; it is ended then
_FAR_S = 3 * 86_400


def run_queue(arguments: Sequence[str]) -> int:
    """Measure, print, write; 1 with a sentence on standard error when that cannot be done."""
    chosen = _parse(arguments)
    return workplace.work(NAME, chosen, lambda directory: _measure(chosen, directory))


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = workplace.parser_of(
        NAME, "Lists, sums and searches of a large queue, and what they cost the mail."
    )
    add = parser.add_argument
    add("--messages", type=int, default=1_000_000, help="in the queue (1,000,000)")
    add("--domains", type=int, default=10_000, help="that it is for (10,000)")
    add("--size", type=int, default=1_024, help="octets of a message (1,024)")
    add("--workers", type=int, default=0, help="of the server (0: one per core)")
    add("--runs", type=int, default=5, help="of each command (5)")
    add("--pairs", type=int, default=5, help="of the flow, alone and beside the loop (5)")
    add("--seconds", type=float, default=15.0, help="of one run of a pair (15)")
    add("--pause", type=float, default=1.0, help="seconds between two commands of the loop (1)")
    chosen = parser.parse_args(arguments)
    if chosen.messages < chosen.domains or chosen.domains < 1 or chosen.pairs < 0:
        parser.error("at least one message per domain, and one domain")
    chosen.workers = chosen.workers or len(os.sched_getaffinity(0))
    return chosen


class Commands:
    """What an operator types, at one server."""

    def __init__(self, server: Server, domain: str) -> None:
        self._file = str(server.file)
        fastmta = [sys.executable, "-m", "fastmta", "queue"]
        named = {
            "queue summary": ["summary"],
            "queue search": ["search", f"to:@{domain}", "--limit", "0"],
            "queue count --filter": ["count", "--filter", f"to:*@{domain} status:deferred"],
        }
        self.by_name = {name: [*fastmta, *words, "-c", self._file] for name, words in named.items()}
        self.mailq = [sys.executable, "-m", "fastmta.postfix", "mailq", "-C", self._file]

    def first_line_s(self) -> float:
        """Until `mailq` prints; it is ended then."""
        begin_s = time.monotonic()
        with subprocess.Popen(self.mailq, stdout=subprocess.PIPE) as running:
            assert running.stdout is not None
            line = running.stdout.readline()
            taken_s = time.monotonic() - begin_s
            running.kill()
        if not line.startswith(b"----Queue ID"):
            raise LabError(f"mailq printed {line!r}")
        return taken_s

    def answer(self, name: str) -> tuple[float, str]:
        """Seconds that a command took, and what it printed."""
        begin_s = time.monotonic()
        done = subprocess.run(
            self.by_name[name], capture_output=True, text=True, check=False, timeout=120
        )
        if done.returncode:
            raise LabError(f"{name} failed: {done.stderr[-500:]}")
        return time.monotonic() - begin_s, done.stdout

    @contextmanager
    def loop(self, pause_s: float) -> Iterator[list[int]]:
        """All of them, one after the other, as long as the context is open; how many were done."""
        over, done = threading.Event(), [0]

        def work() -> None:
            while not over.is_set():
                for command in (*self.by_name.values(), self.mailq):
                    end_s = time.monotonic() + LOOKED_S
                    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as running:
                        while running.poll() is None:
                            if over.wait(0.02) or time.monotonic() > end_s:
                                running.kill()
                                break
                    done[0] += 1
                    if over.wait(pause_s):
                        return

        thread = threading.Thread(target=work)
        thread.start()
        try:
            yield done
        finally:
            over.set()
            thread.join()


def _measure(chosen: argparse.Namespace, directory: Path) -> int:
    scale = Scale(
        directory=directory,
        messages=chosen.messages,
        domains=chosen.domains,
        sites=0,
        size=chosen.size,
        workers=chosen.workers,
    )
    facts = workplace.facts_of(directory, chosen)
    times: dict[str, list[float]] = {}
    flows = Flows("beside the loop")
    with Field(scale) as field:
        server = field.server("loaded", workplace.settings_of(chosen))
        due_at_ns = time.time_ns() + _FAR_S * 10**9
        built_s, _ = field.build(server.directory / "spool", due_at_ns)
        workplace.say(f"built {chosen.messages} messages in {built_s:.0f} s")
        server.start()
        # The flow goes to the first domains; the one that is searched for gets none of it.
        commands = Commands(server, domain_of(chosen.domains - 1))
        for _ in range(chosen.runs):
            times.setdefault("mailq, first line", []).append(commands.first_line_s())
            for name in commands.by_name:
                times.setdefault(name, []).append(commands.answer(name)[0])
        measure(
            field, server, lambda: commands.loop(chosen.pause), flows, chosen.pairs, chosen.seconds
        )
        server.stop()
    rows = [at_most(f"{name}, s", found, ANSWER_S, "{:.2f}") for name, found in times.items()]
    rows.append(flows.row())
    print(workplace.render_facts(facts))
    print(render(rows))
    print(f"commands of the loop in each run: {flows.done}")
    figures = {**facts, "verdicts": rows, "times_s": times}
    workplace.write_figures(
        NAME, chosen, {**figures, "flows_per_s": flows.per_s, "done": flows.done}
    )
    return 0
