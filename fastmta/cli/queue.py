"""`fastmta queue`: look at what waits, and change it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import click

from .exchange import Exchange, Result, show_progress
from .listing import counted, list_, search, summary
from .names import complete_ids
from .option import Command, config_options
from .output import put, with_output
from .talk import (
    EXIT_PARTLY,
    EXIT_TEMPORARY,
    confirm,
    hop_text,
    moment,
    request,
    talk,
)

IDS_AT_ONCE = 500
_NEEDS_CONSENT = ("delete", "expire")
_DONE = {
    "hold": "Placed on hold",
    "release": "Released from hold",
    "delete": "Deleted",
    "requeue": "Requeued",
    "expire": "Expired",
    "flush": "Due now",
}


@click.group()
def queue() -> None:
    """Look at and change what waits. Durable when it is answered, with and without a server.

    Exit status: 0 done; 1 nothing matched, or not all was done; 2 wrong usage; 75 later perhaps:
    nobody answers, or an attempt is under way.
    """


queue.add_command(list_)
queue.add_command(search)
queue.add_command(summary)


def _operation(verb: str, text: str, name: str = "") -> None:
    """Make the command for one operation; `name`: another one than the verb's."""

    def run(  # one parameter for each option, as click wants it
        ids: tuple[str, ...],
        path: str | None,
        overrides: tuple[str, ...],
        output: str,
        **options: Any,  # Any: of several types
    ) -> None:
        chosen = _chosen_ids(ids)
        given = {"ids": bool(chosen), "--filter": options["filter"] is not None}
        given["--all"] = options["all"]
        names = [name for name, is_given in given.items() if is_given]
        if not names and "-" in ids:
            sys.exit(EXIT_PARTLY)  # nobody is meant
        if not names:
            raise click.UsageError("which messages? give ids, --filter or --all")
        if len(names) > 1:
            text = f"{' and '.join(names)} do not go together: give one of them"
            raise click.UsageError(text)
        with talk(path, overrides) as exchange:
            sys.exit(_operate(exchange, verb, chosen, output, options))

    command: Command = run
    if verb == "requeue":
        command = click.option(
            "--failed", is_flag=True, help="Also recipients that failed, of mail that still waits."
        )(command)
    for option in (
        click.option(
            "--wait",
            type=click.FloatRange(0, 60),
            default=10.0,
            show_default=True,
            metavar="SECONDS",
            help="How long to wait for an attempt that is under way.",
        ),
        click.option("--yes", is_flag=True, help="Do not ask."),
        click.option("--dry-run", is_flag=True, help="Count, and change nothing."),
        click.option("--all", is_flag=True, help="Every message."),
        click.option("--filter", metavar="EXPR", help="Messages that match; see docs/queue.md."),
        click.argument("ids", nargs=-1, metavar="[ID ... | -]", shell_complete=complete_ids),
        with_output,
        config_options,
    ):
        command = option(command)
    queue.command(name or verb, help=text)(command)


_operation("hold", "Keep mail from being tried. It does not expire meanwhile.")
_operation("release", "Try held mail again, now.")
_operation("delete", "Remove mail. Nobody is told.")
_operation("requeue", "Try mail again, now, as if it had never been tried.")
_operation("expire", "Give mail up, now: it goes back to its sender.")
_operation("expire", "Give mail up, now, and tell its sender: another name of `expire`.", "bounce")
_operation("flush", "Try deferred mail now, and sites that are in trouble; all else stays.")


@queue.command()
@click.argument("ids", nargs=-1, required=True, metavar="ID ...", shell_complete=complete_ids)
@with_output
@config_options
def show(ids: tuple[str, ...], path: str | None, overrides: tuple[str, ...], output: str) -> None:
    """Show messages: where each recipient stands, and why it waits."""
    chosen = _chosen_ids(ids)
    with talk(path, overrides) as exchange:
        found: list[Result] = []
        for chunk in _chunks(chosen):
            for result in exchange.ask(request("find", ids=chunk), show_progress):
                found += result["messages"]
        if not put(output, found, found):
            for message in found:
                click.echo(_render(message))
        known = {message["id"] for message in found}
        unknown = [id for id in chosen if id not in known]
        for id in unknown:
            click.echo(f"{id}: no such message", err=True)
        sys.exit(_status(bool(unknown), bool(exchange.missing)))


@queue.command()
@click.option("--by", type=click.Choice(["domain"]), help="One line for each next hop.")
@click.option("--filter", metavar="EXPR", help="Count messages that match, one by one.")
@with_output
@config_options
def count(
    by: str | None,
    filter: str | None,
    path: str | None,
    overrides: tuple[str, ...],
    output: str,
) -> None:
    """Count what waits."""
    if by and filter is not None:
        raise click.UsageError("--by counts everything: it takes no --filter")
    with talk(path, overrides) as exchange:
        if filter is not None:
            matched = _total(exchange, request("hold", filter=filter, dry_run=True))["matched"]
            if not put(output, {"messages": matched}):
                click.echo(str(matched))
            sys.exit(_status(False, bool(exchange.missing)))
        results = exchange.ask(request("count"), show_progress)
        live = sum(result["live"] for result in results)
        hops = _merged(results) if by else []
        if put(output, {"messages": live, **({"next_hops": hops} if by else {})}, hops or None):
            pass
        elif by:
            click.echo(f"{'MESSAGES':>10} {'RECIPIENTS':>10}  NEXT HOP")
            for hop in hops:
                name = hop_text(hop["next_hop"])
                click.echo(f"{hop['messages']:>10} {hop['recipients']:>10}  {name}")
        else:
            click.echo(str(live))
        sys.exit(_status(False, bool(exchange.missing)))


def _chosen_ids(ids: Sequence[str]) -> list[str]:
    """Ids as given; "-" reads them from standard input, as the first word of each line."""
    chosen: list[str] = []
    for id in ids:
        if id == "-":
            lines = [line.split() for line in sys.stdin]
            chosen += [words[0].rstrip("*!#") for words in lines if words]
        else:
            chosen.append(id)
    return list(dict.fromkeys(chosen))


def _chunks(ids: Sequence[str]) -> Iterator[list[str]]:
    for at in range(0, len(ids), IDS_AT_ONCE):
        yield list(ids[at : at + IDS_AT_ONCE])


def _operate(
    exchange: Exchange, verb: str, ids: list[str], output: str, options: dict[str, Any]
) -> int:
    """Do it, after asking where that is wanted; the exit status."""

    def requests(dry_run: bool) -> Iterator[Any]:
        fields = {
            "dry_run": dry_run,
            "wait_s": options["wait"],
            "with_failed": options.get("failed", False),
        }
        if not ids:
            yield request(verb, filter=options["filter"], all=options["all"], **fields)
        for chunk in _chunks(ids):
            yield request(verb, ids=chunk, **fields)

    def ask(dry_run: bool) -> Result:
        return _sum([_total(exchange, request) for request in requests(dry_run)])

    is_dry = options["dry_run"]
    if verb in _NEEDS_CONSENT and not is_dry and not options["yes"] and len(ids) != 1:
        matched = ask(True)["matched"]
        if matched > 1 and not confirm(f"{verb} {counted(matched, 'message')}"):
            return EXIT_PARTLY
    total = ask(is_dry)
    if not put(output, {"verb": verb, "dry_run": is_dry, **total}):
        _say(verb, is_dry, total)
    if is_dry:
        return _status(total["matched"] == 0, bool(exchange.missing))
    is_partly = bool(total["failed"] or total["unknown"] or total["is_cancelled"])
    is_later = bool(total["under_way"] or exchange.missing)
    return _status(is_partly or not (total["done"] or total.get("woken")), is_later)


def _status(is_partly: bool, is_later: bool) -> int:
    if is_later:
        return EXIT_TEMPORARY
    return EXIT_PARTLY if is_partly else 0


def _total(exchange: Exchange, request: Any) -> Result:
    """The results of all workers as one."""
    results = exchange.ask(request, show_progress)
    total = _sum(results)
    if request.ids:  # everybody was asked for every id, and at most one knows it
        told: dict[str, str] = {}
        for result in results:
            for id, answer in result["ids"].items():
                if told.get(id, "no such message") == "no such message":
                    told[id] = answer
        total["ids"] = told
        total["unknown"] = sum(answer == "no such message" for answer in told.values())
    return total


def _sum(results: Sequence[Result]) -> Result:
    total: Result = {"matched": 0, "ids_under_way": [], "is_cancelled": False}
    names = ("done", "nothing", "unknown", "under_way", "failed")
    total.update(dict.fromkeys(names, 0))
    for result in results:
        for name in ("matched", *names):
            total[name] += result[name]
        total["ids_under_way"] += result["ids_under_way"]
        total["is_cancelled"] = total["is_cancelled"] or result["is_cancelled"]
        if "woken" in result:
            total["woken"] = total.get("woken", 0) + result["woken"]
        if "ids" in result:
            total.setdefault("ids", {}).update(result["ids"])
    return total


def _say(verb: str, is_dry: bool, total: Result) -> None:
    if is_dry:
        matched = counted(total["matched"], "message")
        click.echo(f"{matched} match{'es' if total['matched'] == 1 else ''}")
    else:
        click.echo(f"{_DONE[verb]}: {counted(total['done'], 'message')}")
    if total.get("woken"):
        click.echo(f"Tried again now: {counted(total['woken'], 'site')}")
    complain: Callable[[str], None] = lambda text: click.echo(text, err=True)  # noqa: E731
    for id, answer in total.get("ids", {}).items():
        if answer not in ("done", "would be done"):
            complain(f"{id}: {answer}")
    for id in total["ids_under_way"] if "ids" not in total else ():
        complain(f"{id}: an attempt is under way")
    if total["failed"]:
        complain(f"{counted(total['failed'], 'message')}: not recorded, the spool cannot write")
    if total["is_cancelled"]:
        complain("cancelled: what is counted above is done, the rest is as it was")


def _merged(results: Sequence[Result]) -> list[Result]:
    found: dict[str, Result] = {}
    for result in results:
        for hop in result["next_hops"]:
            known = found.setdefault(hop["next_hop"], {**hop, "messages": 0, "recipients": 0})
            known["messages"] += hop["messages"]
            known["recipients"] += hop["recipients"]
    return sorted(found.values(), key=lambda hop: (-hop["recipients"], hop["next_hop"]))


def _render(message: Result) -> str:
    lines = [
        f"{message['id']}  shard {message['shard']}, {message['queue']}",
        f"  from      <{message['sender']}>, client {message['client']}",
        f"  arrived   {moment(message['arrived_at_ns'] / 1e9)}, {message['size_octets']} octets",
        f"  expires   {moment(message['expires_at_ns'] / 1e9)}",
        f"  pending   {message['pending']} of {message['recipient_count']} recipients",
    ]
    if message["tenant"]:
        lines.insert(2, f"  tenant    {message['tenant']}")
    lines += [f"  waits for {why}" for why in message.get("waits_for", ())]
    for one in message["recipients"]:
        line = f"  {one['status']:<9} <{one['recipient']}> by {hop_text(one['next_hop'])}"
        if one["status"] == "deferred" and one["due_at_ns"]:
            line += f", next try {moment(one['due_at_ns'] / 1e9)}"
        if one["attempts"]:
            line += f", {counted(one['attempts'], 'attempt')}"
        lines.append(line + (f": {one['text']}" if one["text"] else ""))
    return "\n".join(lines)
