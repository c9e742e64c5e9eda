"""`fastmta queue list | search | summary`: what there is, page by page, and what it comes to."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any

import click

from .exchange import Exchange, Result, show_progress
from .option import config_options
from .output import line_of, put, with_output
from .talk import EXIT_PARTLY, EXIT_TEMPORARY, duration, hop_text, moment, request, talk

PAGE = 200
SHOWN = 100  # by default
TOP = 10
_NEWEST = "newest/"  # what a place in a list that begins with the newest message begins with
QUEUES = ("active", "incoming", "deferred", "hold")  # in the order of Postfix
_NS = 1_000_000_000
_UNITS = ((1 << 40, "TB"), (1 << 30, "GB"), (1 << 20, "MB"), (1 << 10, "kB"))


def _checked_place(ctx: click.Context, parameter: click.Parameter, value: str) -> str:
    if value and not value.startswith(_NEWEST) and not value.partition("/")[0].isdecimal():
        raise click.BadParameter("SHARD/ID is expected, as the page before says")
    return value


with_page = [
    click.option(
        "--limit",
        type=click.IntRange(0),
        default=SHOWN,
        show_default=True,
        metavar="N",
        help="At most so many messages; 0: all.",
    ),
    click.option(
        "--after",
        default="",
        callback=_checked_place,
        metavar="PLACE",
        help="What `next` of the last page says.",
    ),
    click.option("--newest", is_flag=True, help="The newest first, of all shards together."),
]


@click.command("list")
@click.option("--filter", metavar="EXPR", default="", help="Messages that match: docs/queue.md.")
@with_page[2]
@with_page[0]
@with_page[1]
@with_output
@config_options
def list_(filter: str, path: str | None, overrides: tuple[str, ...], **options: Any) -> None:
    """List messages, shard by shard, the oldest first; or the newest of all shards first."""
    with talk(path, overrides) as exchange:
        found = _show(exchange, filter, **options)
        sys.exit(_status(exchange, found > 0 or not filter))


@click.command()
@click.argument("terms", nargs=-1, required=True, metavar="EXPR")
@with_page[2]
@with_page[0]
@with_page[1]
@with_output
@config_options
def search(
    terms: tuple[str, ...], path: str | None, overrides: tuple[str, ...], **options: Any
) -> None:
    """List messages that match: `to:@example.com status:deferred code:4.7.*`; docs/queue.md."""
    with talk(path, overrides) as exchange:
        found = _show(exchange, " ".join(terms), **options)
        sys.exit(_status(exchange, found > 0))


@click.command()
@click.option("--filter", metavar="EXPR", default="", help="Of messages that match: docs/queue.md.")
@click.option("--top", type=click.IntRange(0, 1_000), default=TOP, show_default=True,
              help="So many destinations.")  # fmt: skip
@with_output
@config_options
def summary(
    filter: str, top: int, path: str | None, overrides: tuple[str, ...], output: str
) -> None:
    """Sum the queue up: states, ages, the oldest message, the largest destinations."""
    with talk(path, overrides) as exchange:
        census = added(exchange.ask(request("census", filter=filter), show_progress))
        hops: list[Result] = []
        if top and not filter:
            hops = _largest(exchange.ask(request("count"), show_progress), top)
        if not put(output, {**census, "next_hops": hops}):
            click.echo(_summed(census, hops))
        sys.exit(_status(exchange, bool(census["messages"]) or not filter))


def _status(exchange: Exchange, is_found: bool) -> int:
    if exchange.missing:
        return EXIT_TEMPORARY
    return 0 if is_found else EXIT_PARTLY


# Lists


def _show(
    exchange: Exchange, filter: str, *, after: str, limit: int, output: str, newest: bool
) -> int:
    """Print a list as it comes; how many messages it has."""
    if bool(after) and newest is not after.startswith(_NEWEST):
        raise click.UsageError("--after is of a list in the other order: --newest, or not")
    count = 0
    kept: list[Result] = []
    following: str | None = after or ""
    pages = newest_pages if newest else _pages
    for page, place in pages(exchange, filter, after, limit):
        following = place
        if output == "jsonl":
            for message in page:
                click.echo(line_of(message))
        elif output == "json":
            kept += page
        else:
            if page and not count:
                click.echo(_row("ID", "AGE", "SIZE", "QUEUE", "SENDER", "RECIPIENTS"))
            for message in page:
                click.echo(_line(message))
        count += len(page)
    if output == "json":
        put(output, {"messages": kept, "next": following})
    elif output == "text" and following is not None and limit:
        click.echo(f"more: --after {following}", err=True)
    return count


def _pages(
    exchange: Exchange, filter: str, after: str, limit: int
) -> Iterator[tuple[list[Result], str | None]]:
    """Pages, and where the one behind each begins; None: nowhere."""
    shards = list(exchange.shards)
    place: str | None = after or (f"{shards[0]}/" if shards else None)
    left = limit
    while place is not None:
        number = place.partition("/")[0]
        shard = int(number) if number.isdecimal() else -1
        asked = request(
            "list", filter=filter, after=place, limit=min(left, PAGE) if limit else PAGE
        )
        result = exchange.ask_shard(shard, asked)
        place = result["next"]
        if place is None:
            place = next((f"{one}/" for one in shards if one > shard), None)
        left -= len(result["messages"])
        yield result["messages"], place
        if limit and left <= 0:
            return


def newest_pages(
    exchange: Exchange, filter: str, after: str, limit: int
) -> Iterator[tuple[list[Result], str | None]]:
    """The same from the newest message on, of all shards together."""
    behind = _places(exchange.shards, after)
    waiting: dict[int, list[Result]] = {shard: [] for shard in exchange.shards}
    left = limit
    while True:
        size = min(left, PAGE) if limit else PAGE
        page: list[Result] = []
        while len(page) < size:
            for shard, found in waiting.items():
                while not found and (id := behind[shard]) is not None:
                    place = f"{shard}/{id}"
                    asked = request("list", filter=filter, after=place, limit=size, newest=True)
                    result = exchange.ask_shard(shard, asked)
                    found += result["messages"]
                    place = result["next"]
                    behind[shard] = None if place is None else place.partition("/")[2]
            rest = [found for found in waiting.values() if found]
            if not rest:
                break
            page.append(max(rest, key=lambda found: int(found[0]["arrived_at_ns"])).pop(0))
        left -= len(page)
        following = _place(behind, waiting)
        yield page, following
        if following is None or (limit and left <= 0):
            return


def _places(shards: Sequence[int], after: str) -> dict[int, str | None]:
    """Before which id to go on in each shard; "": at the end, None: nothing is left."""
    if not after:
        return dict.fromkeys(shards, "")
    found: dict[int, str | None] = dict.fromkeys(shards)
    for part in after.removeprefix(_NEWEST).split(","):
        number, _, id = part.partition(":")
        if number.isdecimal() and int(number) in found:
            found[int(number)] = id
    return found


def _place(behind: dict[int, str | None], waiting: dict[int, list[Result]]) -> str | None:
    """As `_places` reads it; None: nothing is left anywhere."""
    parts = []
    for shard, id in behind.items():
        if waiting[shard]:
            first = str(waiting[shard][0]["id"])
            id = first[:-1] + chr(ord(first[-1]) + 1)  # right above it
        if id is not None:
            parts.append(f"{shard}:{id}")
    return _NEWEST + ",".join(parts) if parts else None


def _row(id: str, age: str, size: str, queue: str, sender: str, recipients: str) -> str:
    return f"{id:<16} {age:>13} {size:>8} {queue:<8} {sender}  {recipients}"


def _line(message: Result) -> str:
    recipients = message["recipients"]
    first = f"<{recipients[0]['recipient']}>" if recipients else "-"
    more = message["pending"] - 1
    if more > 0:
        first += f" and {more} more"
    text = next((one["text"] for one in recipients if one["text"]), "")
    return _row(
        message["id"],
        duration(max(0.0, time.time() - message["arrived_at_ns"] / _NS)),
        octets_text(message["size_octets"]),
        message["queue"],
        f"<{message['sender']}>",
        first + (f": {text}" if text else ""),
    )


# Sums


def added(results: Sequence[Result]) -> Result:
    """Censuses of several workers as one."""
    total: Result = {"messages": 0, "octets": 0}
    for name in ("messages", "octets"):
        total[name] = sum(result[name] for result in results)
    for name in ("queues", "recipients"):
        keys = results[0][name] if results else {}
        total[name] = {key: sum(result[name][key] for result in results) for key in keys}
    ages = zip(*(result["ages"] for result in results), strict=True)
    total["ages"] = [
        {"below_s": group[0]["below_s"], "messages": sum(one["messages"] for one in group)}
        for group in ages
    ]
    oldest = [result["oldest_arrived_at_ns"] for result in results]
    total["oldest_arrived_at_ns"] = min((one for one in oldest if one), default=None)
    by_queue: dict[str, int] = {}
    for result in results:
        for queue, at_ns in result["oldest_by_queue_ns"].items():
            by_queue[queue] = min(at_ns, by_queue.get(queue, at_ns))
    total["oldest_by_queue_ns"] = by_queue
    return total


def _largest(results: Sequence[Result], top: int) -> list[Result]:
    found: dict[str, dict[str, Any]] = {}  # Any: what JSON knows
    for result in results:
        for hop in result["next_hops"]:
            known = found.setdefault(hop["next_hop"], {**hop, "messages": 0, "recipients": 0})
            known["messages"] += hop["messages"]
            known["recipients"] += hop["recipients"]
    return sorted(found.values(), key=lambda hop: (-hop["recipients"], hop["next_hop"]))[:top]


def _summed(census: Result, hops: Sequence[Result]) -> str:
    queues = census["queues"]
    lines = [
        f"{counted(census['messages'], 'message')}, {octets_text(census['octets'])}, "
        f"{counted(sum(census['recipients'].values()), 'recipient')} that wait",
        "  " + ", ".join(f"{name} {queues[name]:,}" for name in QUEUES),
    ]
    oldest = census["oldest_arrived_at_ns"]
    if oldest is not None:
        age = duration(max(0.0, time.time() - oldest / _NS))
        lines.append(f"  oldest from {moment(oldest / _NS)}, {age} ago")
    begin = "0"
    for one in census["ages"]:
        end = one["below_s"]
        text = f"{begin} min and older" if end is None else f"{begin} to {end // 60} min"
        if one["messages"]:
            lines.append(f"  {one['messages']:>10,}  {text}")
        begin = "" if end is None else str(end // 60)
    if hops:
        lines += ["", f"{'MESSAGES':>10} {'RECIPIENTS':>10}  NEXT HOP"]
    lines += [
        f"{hop['messages']:>10} {hop['recipients']:>10}  {hop_text(hop['next_hop'])}"
        for hop in hops
    ]
    return "\n".join(lines)


def counted(number: int, noun: str) -> str:
    """`1 message`, `2,000 messages`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def octets_text(octets: int) -> str:
    """`1.5 MB`."""
    for size, name in _UNITS:
        if octets >= size:
            return f"{octets / size:.1f} {name}"
    return f"{octets} B"
