"""`fastmta status | healthcheck | reload | drain`: the server as a whole. Imports little."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

import click

from .listing import QUEUES, added, counted
from .option import EXIT_CONFIG, config_options, find_server
from .output import put, with_output
from .talk import EXIT_DENIED, EXIT_TEMPORARY, duration, fail, moment

EXIT_FAILED = 1
EXIT_NOT_RUNNING = 3
CENSUS_S = 2.0  # a million messages take a fraction of a second
RELOAD_S = 600.0  # workers may be replaced, one after the other
HANGING_S = 1.0  # for the next answer, where a worker has kept silent
_NS = 1_000_000_000

Result = dict[str, Any]  # Any: what JSON knows


def guarded(action: Callable[[], int]) -> NoReturn:
    """Exit with what `action` returns, or as it has to be when nobody answers."""
    from fastmta.control.client import WHO, ClientError, Denied

    from .asking import NotRunning

    try:
        status = action()
    except NotRunning as error:
        fail(str(error), EXIT_NOT_RUNNING)
    except PermissionError as error:
        fail(str(error) if isinstance(error, Denied) else f"{error}: {WHO}", EXIT_DENIED)
    except BrokenPipeError:  # of our own output; Click ends with 1, as for all commands
        raise
    except (ClientError, OSError) as error:
        fail(f"the server does not answer: {error}", EXIT_TEMPORARY)
    sys.exit(status)


# reload


@click.command()
@with_output
@config_options
def reload(path: str | None, overrides: tuple[str, ...], output: str) -> None:
    """Have the server take up its configuration. A bad one changes nothing.

    The server reads its own file, environment and flags anew and tries them first. Open sessions
    and the queue live on. Exit status: 0 in use; 3 no server runs; 75 no answer; 78 the
    configuration has problems, which are named, and nothing has changed.
    """
    where = find_server(path, overrides, EXIT_CONFIG)
    from .asking import ask_on, supervisor

    def progress(told: Result) -> None:
        if sys.stderr.isatty():
            click.echo(f"{told['replaced']} of {told['of']} workers replaced", err=True)

    def act() -> int:
        with supervisor(where.control_directory) as client:
            result = ask_on(client, {"id": 1, "verb": "reload"}, RELOAD_S, progress)
        if not put(output, result):
            _print_reload(result)
        return EXIT_CONFIG if result["problems"] else 0

    guarded(act)


def _print_reload(result: Result) -> None:
    for text in result["problems"]:
        click.echo(text, err=True)
    if result["problems"]:
        click.echo("fastmta: nothing has changed", err=True)
        return
    for text in result["warnings"]:
        click.echo(f"warning: {text}", err=True)
    for key in result["for_restart"]:
        click.echo(f"warning: {key}: only a restart takes that up", err=True)
    changed = [key for key in result["changed"] if key not in result["for_restart"]]
    click.echo(f"changed: {', '.join(changed)}" if changed else "nothing to change")
    if result["replaced_workers"]:
        click.echo("every worker was replaced")


# drain


@click.command()
@click.option("--undo", is_flag=True, help="Take new mail again.")
@click.option("--stay", is_flag=True, help="Go on running when all is delivered, or time is up.")
@click.option(
    "--timeout",
    type=click.FloatRange(0),
    default=300.0,
    show_default=True,
    help="Seconds for mail that is due now; what is left stays in the queue.",
)
@with_output
@config_options
def drain(
    undo: bool,
    stay: bool,
    timeout: float,
    path: str | None,
    overrides: tuple[str, ...],
    output: str,
) -> None:
    """Take no new mail, deliver what is due, then stop the server.

    Clients are told 421 at once, or after their transaction. Mail that has to wait for its next
    attempt, or that is held, stays in the queue for the next start; it ends as soon as nothing that
    is due can be tried before time is up. Exit status: 0 nothing that
    could be delivered is left; 1 time was up; 3 no server runs; 75 no answer.
    """
    where = find_server(path, overrides, EXIT_CONFIG)
    from .asking import ANSWER_S, ask, supervisor, wait_for_end, wait_for_rest

    def act() -> int:
        with supervisor(where.control_directory) as client:
            result = ask(client, "undrain" if undo else "drain", ANSWER_S)
            if undo:
                _show(output, result, "new mail is taken again")
                return 0
            count = len(ask(client, "status", ANSWER_S)["workers"])
            left = wait_for_rest(where.control_directory, count, timeout)
            if not stay:
                ask(client, "stop", ANSWER_S)
        if not stay:
            wait_for_end(where.control_directory)
        result = {**result, **left, "is_stopped": not stay}
        verb = "stays" if left["messages"] == 1 else "stay"
        text = f"{counted(left['messages'], 'message')} {verb} in the queue{_next(left)}"
        if not left["messages"]:
            busy = "time is up: clients are connected, or a worker does not answer"
            text = busy if left["due"] else "the queue is empty"
        _show(output, result, text)
        return EXIT_FAILED if left["due"] else 0

    guarded(act)


def _show(output: str, result: Result, text: str) -> None:
    if not put(output, result):
        click.echo(text)


# status


@click.command()
@with_output
@config_options
def status(path: str | None, overrides: tuple[str, ...], output: str) -> None:
    """Show how the server is, on one screen.

    Exit status: 0 it runs; 1 it runs, and a worker does not answer or takes no mail; 3 no server
    runs; 75 the supervisor does not answer.
    """
    where = find_server(path, overrides, EXIT_CONFIG)
    from .asking import ANSWER_S, ask, of_workers, supervisor, troubles_of

    def act() -> int:
        directory = where.control_directory
        with supervisor(directory) as client:
            whole = ask(client, "status", ANSWER_S)
        workers = of_workers(directory, "status", ANSWER_S, is_lenient=True)
        are_all = len(workers) == len(whole["workers"])
        busy = {"subject": "busy", "limit": 200}
        limit_s = ANSWER_S if are_all else HANGING_S
        troubles = troubles_of(of_workers(directory, "sites", limit_s, is_lenient=True, **busy))
        is_well = are_all and all(worker["is_accepting"] for worker in workers)
        census = _census(directory, len(workers)) if are_all else None
        document = {**whole, "workers": workers, "troubles": troubles, "queue": census}
        if not put(output, document):
            for line in _lines(whole, workers, troubles, census):
                click.echo(line)
        return 0 if is_well else EXIT_FAILED

    guarded(act)


def _census(directory: str, workers: int) -> Result | None:
    """What there is by queue; None: they are too busy to count just now."""
    from fastmta.control.client import ClientError

    from .asking import of_workers

    try:
        found = of_workers(directory, "census", CENSUS_S)
    except (ClientError, OSError):
        return None
    if len(found) < workers or not found:
        return None
    total = added(found)
    return {name: total[name] for name in ("queues", "oldest_by_queue_ns")}


def _lines(
    whole: Result, workers: list[Result], troubles: list[Result], census: Result | None
) -> Iterator[str]:
    from .asking import left_of

    since_s = whole["started_at"]
    yield (
        f"fastmta {whole['version']}, {whole['hostname']}, pid {whole['pid']}, "
        f"durability {whole['durability']}"
    )
    yield f"since       {moment(since_s)} ({duration(time.time() - since_s)})"
    reasons = dict.fromkeys(one["why_not"] for one in workers if one["why_not"])
    yield f"accepting   {'no: ' + '; '.join(reasons) if reasons else 'yes'}"
    listeners = [f"{one['name']} {one['address']}" for one in whole["listeners"]]
    yield f"listeners   {', '.join(listeners)}"
    left = left_of(workers)
    messages = counted(left["messages"], "message")
    whose = "" if len(workers) == len(whole["workers"]) else "; not those of who does not answer"
    yield f"queue       {messages}, {left['in_flight']} under way{_next(left)}{whose}"
    yield from _queue_lines(census)
    accepted_s = sum(one["accepted_per_s"] for one in workers)
    recorded_s = sum(one["recorded_per_s"] for one in workers)
    yield f"last minute {accepted_s:.1f} accepted/s, {recorded_s:.1f} outcomes/s"
    known = {one["worker"]: one for one in workers}
    for member in whole["workers"]:
        yield _worker_line(member, known.get(member["worker"]))
    for name in dict.fromkeys(name for one in workers for name in one["overrides"]):
        yield f"override    {name}"
    if whole["reload"]["last"]:
        yield _reload_line(whole["reload"])
    for site in troubles:
        reply = site["last_reply"] or {}
        said = f": {reply.get('text', '')}" if reply else ""
        yield f"trouble     {site['label']}: {site['state']}, {site['waiting']} wait{said}"


def _next(left: Result) -> str:
    due_ns = left["next_due_ns"]
    if due_ns is None:
        return ""
    left_s = due_ns / _NS - time.time()
    return f", next try in {duration(left_s)}" if left_s >= 1 else ", next try now"


def _queue_lines(census: Result | None) -> Iterator[str]:
    """What there is by queue, and how old the oldest of each is."""
    if census is None:
        yield "            by queue: fastmta queue summary"
        return
    parts = []
    for name in QUEUES:
        oldest_ns = census["oldest_by_queue_ns"].get(name)
        age = f" (oldest {duration(time.time() - oldest_ns / _NS)})" if oldest_ns else ""
        parts.append(f"{name} {census['queues'][name]:,}{age}")
    yield f"            {', '.join(parts)}"


def _worker_line(member: Result, told: Result | None) -> str:
    name = f"worker {member['worker']}".ljust(12)
    if told is None:
        state = "does not answer" if member["is_ready"] else "is starting"
        return f"{name}pid {member['pid'] or '-'}, {state}"
    shards = ", ".join(str(shard["shard"]) for shard in told["shards"])
    return (
        f"{name}pid {told['pid']}, shards {shards}, {told['connections']} clients, "
        f"loop lag {told['loop_lag_s'] * 1000:.0f} ms, flush {told['flush_s'] * 1000:.0f} ms, "
        f"memory {told['memory_used']:.0%}, volume {told['volume_free']:.0%} free"
    )


def _reload_line(told: Result) -> str:
    last = told["last"]
    problems = last["problems"]
    came_to = f"refused: {problems[0]}" if problems else f"{len(last['changed'])} keys changed"
    return f"reload      {moment(last['at'])}, {came_to}"


# healthcheck


@click.command()
@click.option("--live", "is_live_only", is_flag=True, help="Only whether it lives and answers.")
@click.option("--smtp", "with_smtp", is_flag=True, help="A listener must greet a client, too.")
@click.option(
    "--timeout", type=click.FloatRange(0.1, 60), default=3.0, show_default=True, help="Seconds."
)
@config_options
def healthcheck(
    is_live_only: bool,
    with_smtp: bool,
    timeout: float,
    path: str | None,
    overrides: tuple[str, ...],
) -> None:
    """For a container or a load balancer: exit 0, or 1 with one line that says why not.

    Ready means that every worker answers and takes mail: it has opened its shards, its spool is
    healthy, it is short of nothing, and nobody drains it. It leaves nothing in the log.
    """
    where = find_server(path, overrides, EXIT_FAILED)
    from fastmta.control.client import ClientError

    from .asking import NotRunning, smtp_trouble_of, trouble_of

    try:
        trouble = trouble_of(where.control_directory, timeout, is_live_only)
        if not trouble and with_smtp:
            trouble = smtp_trouble_of(where.control_directory, timeout)
    except (NotRunning, ClientError, OSError) as error:
        trouble = str(error)
    if trouble:
        fail(trouble, EXIT_FAILED)
