"""`fastmta bench watched`: what scrapes, lists and reloads every second cost the mail.

A monitor scrapes `/metrics` (all of it is read), an operator's script lists the queue with `mailq`,
and a deployment changes a key of the configuration and reloads, each once a second (a list as soon
as the one before has ended); the commands are processes of their own, on the same cores. The flow
is fresh mail to a few domains, in alternating pairs: alone, and beside all that. What was sent must
arrive, once.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from ...loopback import HOST, LabError, free_port, wait_until
from ...server import Server
from .. import table, workplace
from ..backlog.field import Field, Scale
from .flow import Flows, measure

NAME = "watched"
BESIDE = "beside scrapes, lists and reloads"
EVERY_S = 1.0
_FAR_S = 3 * 86_400
_LIMIT_S = 30.0
_SETTLE_S = 2.0


def run_watched(arguments: Sequence[str]) -> int:
    """Measure, print, write; 1 with a sentence on standard error when that cannot be done."""
    chosen = _parse(arguments)
    return workplace.work(NAME, chosen, lambda directory: _measure(chosen, directory))


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = workplace.parser_of(NAME, "Mail beside scrapes, lists and reloads of every second.")
    add = parser.add_argument
    add("--messages", type=int, default=1_000, help="that wait in the queue and are listed (1,000)")
    add("--size", type=int, default=4_096, help="octets of a message (4,096)")
    add("--workers", type=int, default=0, help="of the server (0: one per core)")
    add("--reload", choices=("command", "signal"), default="command",
        help="`fastmta reload`, a process each time, or SIGHUP (command)")  # fmt: skip
    add("--pairs", type=int, default=5, help="of the flow (5)")
    add("--seconds", type=float, default=15.0, help="of one run of a pair (15)")
    chosen = parser.parse_args(arguments)
    chosen.workers = chosen.workers or len(os.sched_getaffinity(0))
    return chosen


class Watch:
    """Who looks at a server, and changes it. Any of it that fails is a LabError, in the end."""

    def __init__(self, server: Server, metrics_port: int, *, by_signal: bool) -> None:
        self._server = server
        self._by_signal = by_signal
        self._url = f"http://{HOST}:{metrics_port}/metrics"
        python, named = sys.executable, str(server.file)
        self._mailq = [python, "-m", "fastmta.postfix", "mailq", "-C", named]
        self._reload = [python, "-m", "fastmta", "reload", "-c", named]
        self._changes = 0
        self.times_s: dict[str, list[float]] = {}
        self.listed: list[int] = []  # messages, by each list

    @contextmanager
    def rounds(self) -> Iterator[list[int]]:
        """Each kind once a second as long as the context is open; how many were done."""
        over = threading.Event()
        problems: list[str] = []
        before = self._count()
        steps = {"scrape": self._scrape, "mailq": self._list, "reload": self._renew}
        threads = [
            threading.Thread(target=self._repeat, args=(name, step, over, problems))
            for name, step in steps.items()
        ]
        for thread in threads:
            thread.start()
        done = [0]
        try:
            yield done
        finally:
            over.set()
            for thread in threads:
                thread.join()
        if problems:
            raise LabError(problems[0])
        done[0] = self._count() - before

    def _repeat(
        self, name: str, step: Callable[[], None], over: threading.Event, problems: list[str]
    ) -> None:
        next_s = time.monotonic()
        try:
            while not over.wait(max(0.0, next_s - time.monotonic())):
                begin_s = time.monotonic()
                next_s = max(next_s + EVERY_S, begin_s)
                step()
                self.times_s.setdefault(name, []).append(time.monotonic() - begin_s)
        except (OSError, LabError, subprocess.SubprocessError) as problem:
            problems.append(str(problem))

    def _count(self) -> int:
        return sum(len(found) for found in self.times_s.values())

    def _scrape(self) -> None:
        with urllib.request.urlopen(self._url, timeout=_LIMIT_S) as answer:
            if b"fastmta_" not in answer.read():
                raise LabError(f"{self._url} shows no metrics")

    def _list(self) -> None:
        last = _command(self._mailq, "-- ").splitlines()[-1]
        self.listed.append(int(last.split()[-2]))

    def _renew(self) -> None:
        self._changes += 1
        text = self._server.configuration() + f"limits.recipients = {1000 + self._changes}\n"
        fresh = Path(f"{self._server.file}.new")
        fresh.write_text(text)
        fresh.replace(self._server.file)
        if not self._by_signal:
            _command(self._reload, "limits.recipients")
            return
        begin = self._server.output.stat().st_size
        os.kill(self._server.pid, signal.SIGHUP)
        wait_until(lambda: self._is_reloaded(begin), _LIMIT_S, "the end of a reload")

    def _is_reloaded(self, begin: int) -> bool:
        with self._server.output.open("rb") as output:
            output.seek(begin)
            return b"reload: done" in output.read()


def _command(words: Sequence[str], expected: str) -> str:
    """What it printed; LabError if that has not what is expected."""
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=_LIMIT_S)
    if done.returncode or expected not in done.stdout:
        raise LabError(f"{' '.join(words)}: {done.returncode}, {done.stdout[-200:]}{done.stderr}")
    return done.stdout


def _measure(chosen: argparse.Namespace, directory: Path) -> int:
    scale = Scale(
        directory=directory,
        messages=chosen.messages,
        domains=min(chosen.messages, 50),
        sites=0,
        size=chosen.size,
        workers=chosen.workers,
    )
    facts = workplace.facts_of(directory, chosen)
    flows = Flows(BESIDE)
    metrics_port = free_port()
    settings = {"metrics.bind": f"{HOST}:{metrics_port}", **workplace.settings_of(chosen)}
    with Field(scale) as field:
        server = field.server("watched", settings)
        field.build(server.directory / "spool", time.time_ns() + _FAR_S * 10**9)
        server.start()
        watch = Watch(server, metrics_port, by_signal=chosen.reload == "signal")
        measure(field, server, watch.rounds, flows, chosen.pairs, chosen.seconds)
        time.sleep(_SETTLE_S)  # what came twice would come by now
        delivered = field.delivered
        server.stop()
    rows = [flows.row(), _loss_row(flows.sent, delivered)]
    rows += [table.stated(f"{name}, s", found, "{:.2f}") for name, found in watch.times_s.items()]
    print(workplace.render_facts(facts))
    print(table.render(rows))
    print(f"done in each run: {flows.done}; messages in a list: {sorted(set(watch.listed))}")
    figures = {**facts, "verdicts": rows, "flows_per_s": flows.per_s, "rounds": flows.done}
    workplace.write_figures(
        NAME, chosen, {**figures, "times_s": watch.times_s, "listed": watch.listed}
    )
    return 0 if delivered == flows.sent else 1


def _loss_row(sent: int, delivered: int) -> table.Row:
    verdict = "met" if sent == delivered else "MISSED"
    return "acknowledged, and arrived once", f"{sent}", f"{delivered}", verdict
