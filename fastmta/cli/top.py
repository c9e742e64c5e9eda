"""`fastmta top`: what the server does, second by second."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import click

from .board import BARS, PLAIN_BARS, SORTS, Board, Sample, View, document, screen
from .exchange import Exchange, Refused, open_workers, show_progress
from .option import EXIT_CONFIG, config_options, find_server
from .output import line_of, with_output
from .talk import EXIT_NOT_RUNNING, fail, fail_as, hop_text, request

if TYPE_CHECKING:
    from fastmta.config.glimpse import Glimpse

    from .terminal import Terminal

Result: TypeAlias = dict[str, Any]  # Any: what JSON knows
INTERVAL_S = 1.0
SITES = 200
PLAIN_SIZE = (80, 60)
ORDER_S = 30.0
_LOOK_S = 0.2  # how soon a new size of the terminal is seen


class _Place(NamedTuple):
    """Where the server is, and how a command finds it again."""

    where: Glimpse
    options: tuple[str, ...]


@click.command()
@click.option("--once", is_flag=True, help="Print one plain screen, and end.")
@with_output
@config_options
def top(output: str, once: bool, path: str | None, overrides: tuple[str, ...]) -> None:
    """Show rates, totals, destinations and workers; anew each second.

    Keys: q quits, s sorts otherwise, / filters destinations by name, v shows next hops in the place
    of sites, arrows choose a site, p pauses it and r resumes it after a question.

    Without a terminal, and with --once or -o json, it prints what happens within a second and ends;
    -o jsonl prints a line each second until Ctrl-C. Exit status: 0 shown; 3 no server runs; 75 it
    does not answer.
    """
    where = find_server(path, overrides, EXIT_CONFIG)
    options = ["-c", path] if path is not None else []
    for override in overrides:
        options += ["--set", override]
    place = _Place(where, tuple(options))
    try:
        with open_workers(where):
            pass
    except Refused as refused:
        fail_as(refused)
    is_seen = sys.stdin.isatty() and sys.stdout.isatty()
    with contextlib.suppress(KeyboardInterrupt, BrokenPipeError):
        if output == "jsonl":
            _print_on(place)
        elif once or output == "json" or not is_seen:
            _print_once(place, output)
        else:
            _run(place)


def _print_once(place: _Place, output: str) -> None:
    for board in _boards(place):
        if output == "json":
            click.echo(line_of({"time": round(time.time(), 3), **document(board)}))
        else:
            lines = screen(board, View(bars=_bars(), is_plain=True), PLAIN_SIZE, _clock())
            click.echo("\n".join(lines))
        return


def _print_on(place: _Place) -> None:
    for board in _boards(place):
        click.echo(line_of({"time": round(time.time(), 3), **document(board)}))


def _boards(place: _Place) -> Iterator[Board]:
    """One a second, the first after one second. Ends with 3 when there is no server."""
    board = Board()
    begin_s = time.monotonic()
    while True:
        board.add(look(place.where, View()))
        if board.sample is None:
            fail("no server runs", EXIT_NOT_RUNNING)
        if board.sample.at_s > begin_s + INTERVAL_S / 2:
            yield board
        time.sleep(INTERVAL_S)


def look(where: Glimpse, view: View) -> Sample | None:
    """What the workers say now; None when nobody answers."""
    from fastmta.control.client import ClientError

    with contextlib.suppress(Refused, ClientError, OSError), open_workers(where) as exchange:
        if exchange is not None:
            return _sample(exchange, view)
    return None


def _sample(exchange: Exchange, view: View) -> Sample:
    from fastmta.control.merging import merge_pages

    def ask(verb: str, **fields: Any) -> list[Result]:  # Any: fields of a request
        return exchange.ask(request(verb, **fields), show_progress)

    workers = ask("counters")
    at_s = time.monotonic()
    shards = [shard for result in ask("summary") for shard in result["shards"]]
    sites, _ = merge_pages(ask("sites", subject="busy", limit=SITES), len(workers) * SITES)
    hops: dict[str, Result] = {}
    for result in ask("count") if view.is_by_next_hop else ():
        for hop in result["next_hops"]:
            name = hop["next_hop"]
            known = hops.setdefault(name, {**hop, "messages": 0, "recipients": 0})
            known["shown"] = hop_text(name)
            known["messages"] += hop["messages"]
            known["recipients"] += hop["recipients"]
    ordered = sorted(hops.values(), key=lambda hop: (-hop["recipients"], hop["next_hop"]))
    return Sample(at_s, workers, shards, sites, ordered)


def _run(place: _Place) -> None:
    """On a terminal, until q."""
    from .terminal import opened

    board, view = Board(), View(bars=_bars(), hostname=os.uname().nodename)
    with opened() as terminal:
        due_s, size, is_new = 0.0, (0, 0), True
        while True:
            now_s = time.monotonic()
            if now_s >= due_s:
                board.add(look(place.where, view))
                due_s, is_new = now_s + INTERVAL_S, True
            if is_new or size != terminal.size:
                size = terminal.size
                terminal.show(screen(board, view, size, _clock()))
            key = terminal.key(min(_LOOK_S, due_s - time.monotonic()))
            is_new = bool(key)
            if key == "q":
                return
            if key in ("p", "r"):
                _order(place, board, view, terminal, key)
                due_s = 0.0
            elif key == "/":
                view.filter = _ask(board, view, terminal, "filter: ", view.filter)
            elif key:
                due_s = _turn(view, key, due_s)


def _turn(view: View, key: str, due_s: float) -> float:
    """What a key changes of the view; when to look next."""
    view.message = ""
    if key == "s":
        names = list(SORTS)
        view.sort = names[(names.index(view.sort) + 1) % len(names)]
    elif key == "v":
        view.is_by_next_hop = not view.is_by_next_hop
        return 0.0
    elif key in ("up", "k"):
        view.chosen -= 1
    elif key in ("down", "j"):
        view.chosen += 1
    elif key == "escape":
        view.filter = ""
    return due_s


def _ask(board: Board, view: View, terminal: Terminal, question: str, text: str) -> str:
    """A line of text; what there was when it is given up."""
    before = text
    while True:
        view.message = f"{question}{text}_"
        terminal.show(screen(board, view, terminal.size, _clock()))
        key = terminal.key(INTERVAL_S)
        if key in ("enter", "escape"):
            view.message = ""
            return text if key == "enter" else before
        text = text[:-1] if key == "backspace" else text + (key if len(key) == 1 else "")


def _order(place: _Place, board: Board, view: View, terminal: Terminal, key: str) -> None:
    """Pause or resume the site that is chosen, after a question."""
    rows = board.rows(view)
    if view.is_by_next_hop or not rows:
        view.message = "choose a site first (v shows sites)"
        return
    verb = "pause" if key == "p" else "resume"
    name = f"site:{rows[min(view.chosen, len(rows) - 1)]['label']}"
    if _ask(board, view, terminal, f"{verb} {name}? y/n ", "").lower() not in ("y", "yes"):
        view.message = f"{name}: nothing was changed"
        return
    command = [sys.executable, "-m", "fastmta", "dest", verb, name, "--yes", *place.options]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=ORDER_S, stdin=subprocess.DEVNULL,
            check=False,
        )  # fmt: skip
        view.message = (done.stdout or done.stderr).strip().partition("\n")[0]
    except (OSError, subprocess.SubprocessError) as error:
        view.message = f"{verb} {name}: {error}"


def _bars() -> str:
    encoding = (sys.stdout.encoding or "").lower().replace("-", "")
    return BARS if encoding == "utf8" else PLAIN_BARS


def _clock() -> str:
    return time.strftime("%H:%M:%S", time.gmtime()) + " UTC"
