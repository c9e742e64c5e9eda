"""`fastmta log`: the mail log as it is written."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from .option import EXIT_CONFIG, config_options, find_server
from .output import line_of
from .talk import EXIT_NOT_RUNNING, EXIT_USAGE, fail

if TYPE_CHECKING:
    from fastmta.control.linefilter import LineFilter
    from fastmta.control.logjson import LogLine

WAIT_S = 0.5
LAST_MAX = 100_000


@click.group()
def log() -> None:
    """Look at the mail log of a running server."""


@log.command()
@click.option("--filter", "text", default="", metavar="EXPR", help="Lines that match; see below.")
@click.option("--json", "is_json", is_flag=True, help="A JSON object a line; the same as -o jsonl.")
@click.option(
    "-o",
    "--output",
    "output",
    type=click.Choice(["text", "jsonl"]),
    default="text",
    help="Form of the output.",
)
@click.option(
    "-n",
    "--lines",
    "last",
    type=click.IntRange(0, LAST_MAX),
    default=0,
    metavar="N",
    help="Begin with the last N lines of the log's files.",
)
@click.option(
    "--count", type=click.IntRange(1), metavar="N", help="End after N lines; else with Ctrl-C."
)
@config_options
def tail(
    text: str,
    is_json: bool,
    output: str,
    last: int,
    count: int | None,
    path: str | None,
    overrides: tuple[str, ...],
) -> None:
    """Show log lines of all workers as they are written, wherever the log goes.

    Fields of --filter: id, from, to, domain, dest, status, code, client, program, text; as in
    from:@shop.example status:deferred,bounced code:4.7.* text:"mailbox full".

    A terminal that is slower than the log loses lines; how many is said on standard error.
    Exit status: 0 ended by --count or Ctrl-C; 3 no server runs.
    """
    from fastmta.control.linefilter import LineFilter, LineFilterError

    try:
        wanted = LineFilter(text)
    except LineFilterError as error:
        fail(f"filter: {error}", EXIT_USAGE)
    directory = find_server(path, overrides, EXIT_CONFIG).control_directory
    printer = _Printer(is_json or output == "jsonl", count)
    with contextlib.suppress(KeyboardInterrupt, BrokenPipeError):
        lines = last_lines(path, overrides, last, wanted) if last else iter(())
        _follow(directory, wanted, printer, lines)
    printer.flush()


def _follow(
    directory: str, wanted: LineFilter, printer: _Printer, first: Iterator[LogLine]
) -> None:
    from fastmta.control.logline import Stamps, parse_line

    from .live import Live

    live = Live(directory, [], _complain)
    try:
        live.begin()
        for old in first:
            if printer.show(old, None):
                return
        stamps = Stamps(time.time())
        while True:
            for lines in live.read(WAIT_S):
                for octets in lines.lines:
                    line = parse_line(octets, stamps)
                    if line is not None and wanted.accepts(line) and printer.show(line, lines):
                        return
                if lines.dropped:
                    _complain(f"{lines.dropped} lines of worker {lines.worker} were too fast")
            printer.flush()
            if live.is_gone:
                fail("the server has ended", EXIT_NOT_RUNNING)
    finally:
        live.close()


class _Printer:
    """Prints lines until there were enough."""

    def __init__(self, is_json: bool, count: int | None) -> None:
        self._is_json = is_json
        self._left = count

    def show(self, line: LogLine, lines: object) -> bool:
        """Whether that was the last one that is wanted. `lines`: whose it is."""
        if self._is_json:
            from fastmta.control.story import Told, event_of

            worker = getattr(lines, "worker", None)
            shown = event_of(Told(line, "live" if lines else "log"))
            sys.stdout.write(line_of({**shown, "worker": worker, "text": line.text}) + "\n")
        else:
            sys.stdout.write(line.text + "\n")
        if self._left is not None:
            self._left -= 1
        return self._left == 0

    def flush(self) -> None:
        """Let it be seen."""
        with contextlib.suppress(BrokenPipeError):
            sys.stdout.flush()


def last_lines(
    path: str | None, overrides: tuple[str, ...], count: int, wanted: LineFilter
) -> Iterator[LogLine]:
    """The last lines of the files that the log is in, those that are wanted."""
    from fastmta.control.logline import Stamps, parse_line
    from fastmta.control.logplace import end_of
    from fastmta.control.logsearch import read_end

    from .source import find_place, log_groups

    groups = log_groups(find_place(path, overrides), ())
    paths = [path for group in groups for path in group.paths]
    if not paths:
        return
    stamps = Stamps(end_of(paths[0]))
    for octets in read_end(paths[0], count):
        line = parse_line(octets, stamps)
        if line is not None and wanted.accepts(line):
            yield line


def _complain(text: str) -> None:
    click.echo(f"fastmta: {text}", err=True)
