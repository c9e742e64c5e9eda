"""`fastmta trace`: the whole story of a message."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import click

from .exchange import Exchange, Refused, open_exchange, show_progress
from .option import config_options
from .output import line_of, put, with_output
from .talk import (
    EXIT_NOT_RUNNING,
    EXIT_PARTLY,
    EXIT_TEMPORARY,
    EXIT_USAGE,
    fail,
    request,
)
from .timeline import event_line, render

if TYPE_CHECKING:
    from fastmta.control.story import Told
    from fastmta.control.tracing import Subject

    from .live import Live
    from .source import Place

Result: TypeAlias = dict[str, Any]  # Any: what JSON knows
_NS = 1_000_000_000
MESSAGES = 10
IDS_AT_ONCE = 500
FOLLOWED_MAX = 20
WAIT_S = 0.5


class _Search(NamedTuple):
    """What a search is made with."""

    place: Place
    subject: Subject
    files: tuple[str, ...]
    limit: int


@click.command()
@click.argument("subject", metavar="ID|ADDRESS|MESSAGE-ID")
@click.option("--follow", is_flag=True, help="Go on as it happens, until the mail is gone.")
@click.option(
    "--limit",
    type=click.IntRange(1, 1_000),
    default=MESSAGES,
    show_default=True,
    help="At most so many messages of an address or message-id: the newest.",
)
@click.option(
    "--log",
    "files",
    multiple=True,
    type=click.Path(exists=True, dir_okay=False),
    metavar="FILE",
    help="Read this log instead of those of the configuration. Repeatable.",
)
@with_output
@config_options
def trace(subject: str, output: str, follow: bool, **options: Any) -> None:  # Any: several types
    """Tell the story of a message: received, queued, each attempt, what became of it.

    It is put together from what the spool knows and from the mail log, rotated files included. An
    ADDRESS is that of a sender or a recipient; id:, address: and message-id: in front leave no
    doubt what is meant.

    Exit status: 0 told; 1 nothing is known; 3 --follow, and no server runs; 75 the spool could not
    be asked.
    """
    from fastmta.control.tracing import SubjectError, parse_subject

    from .source import find_place

    place = find_place(options["path"], options["overrides"])
    try:
        wanted = parse_subject(subject)
    except SubjectError as error:
        fail(str(error), EXIT_USAGE)
    search = _Search(place, wanted, options["files"], options["limit"])
    with _listening(place, wanted) if follow else contextlib.nullcontext() as live:
        found = find(search)
        document = {"subject": subject, **found}
        events = [event for message in found["messages"] for event in message["events"]]
        if not put(output, document, events):
            click.echo("\n".join(render(found, subject)))
        if live is not None:
            _follow(live, found["messages"], output)
    if any(note.startswith("spool: ") for note in found["notes"]):
        sys.exit(EXIT_TEMPORARY)
    sys.exit(0 if found["messages"] else EXIT_PARTLY)


def find(search: _Search) -> Result:
    """All that is known."""
    from fastmta.control.story import tell

    from .source import missing_log

    notes: list[str] = []
    views: list[Result] = []
    if search.place.config is None:
        notes.append(f"the configuration cannot be used: {search.place.trouble}")
    with _spool(search.place, notes) as exchange:
        waiting = _waiting(exchange, search)
        ids = [search.subject.id] if search.subject.id else list(waiting)
        lines, sources = _read(search, ids, notes)
        ids = _chosen(search, waiting, lines)
        views = _views(exchange, ids)
        messages = tell(ids, lines, views)
        left = [one["id"] for one in messages if one["state"] == "unknown"]
        if left and exchange is not None:  # it may have ended between the two looks
            again, _ = _read(search._replace(limit=1), ids, [])
            messages = tell(ids, again, views)
    if not sources:
        why = missing_log(search.place)
        notes.append(f"{why}: only what the spool has is told; see docs/trace.md")
    return {"messages": messages, "sources": sources, "notes": list(dict.fromkeys(notes))}


def _read(search: _Search, ids: Sequence[str], notes: list[str]) -> tuple[list[Told], list[Result]]:
    """Lines of the files, and what was read."""
    from fastmta.control.tracing import gather, gather_journald, in_order

    from .source import is_journald, log_groups

    found: list[list[Told]] = []
    sources: list[Result] = []
    if not search.files and is_journald(search.place):
        found.append(gather_journald(search.subject, ids, search.limit, notes.append))
        sources.append({"source": "journald", "files": [], "octets_read": 0})
    for group in log_groups(search.place, search.files):
        lines, octets = gather(group, search.subject, ids, search.limit, notes.append)
        found.append(lines)
        sources.append({"source": group.source, "files": group.paths, "octets_read": octets})
    return in_order(found), sources


def _chosen(search: _Search, waiting: dict[str, float], lines: Sequence[Told]) -> list[str]:
    """The messages that are meant, the newest if there are many."""
    from fastmta.control.tracing import is_meant

    if search.subject.id:
        return [search.subject.id]
    times = dict(waiting)
    for line in (told.line for told in lines if is_meant(search.subject, told.line)):
        if line.id:
            times.setdefault(line.id, line.time_s)
    return sorted(times, key=lambda id: times[id])[-search.limit :]


@contextlib.contextmanager
def _spool(place: Place, notes: list[str]) -> Iterator[Exchange | None]:
    """Whoever knows what waits; None when the spool cannot be asked, which is noted."""
    with contextlib.ExitStack() as stack:
        exchange = None
        try:
            exchange = stack.enter_context(open_exchange(place.where, place.load))
            notes += [f"spool: no worker serves shard {one} just now" for one in exchange.missing]
        except Refused as refused:
            notes.append(f"spool: {refused}")
        yield exchange


def _waiting(exchange: Exchange | None, search: _Search) -> dict[str, float]:
    """The newest messages that wait for an address, or come from it, and when they arrived."""
    from .listing import newest_pages

    if exchange is None or not search.subject.address:
        return {}
    pattern = search.subject.address.replace('"', "*")  # which a filter cannot have in a word
    return {
        message["id"]: message["arrived_at_ns"] / _NS
        for field in ("to", "from")
        for page, _ in newest_pages(exchange, f'{field}:"{pattern}"', "", search.limit)
        for message in page
    }


def _views(exchange: Exchange | None, ids: Sequence[str]) -> list[Result]:
    if exchange is None:
        return []
    return [
        view
        for at in range(0, len(ids), IDS_AT_ONCE)
        for result in exchange.ask(
            request("find", ids=list(ids[at : at + IDS_AT_ONCE])), show_progress
        )
        for view in result["messages"]
    ]


@contextlib.contextmanager
def _listening(place: Place, subject: Subject) -> Iterator[Live]:
    """Lines from before the first look on, so that none is missed."""
    from .live import Live

    needles = [subject.id] if subject.id else []
    live = Live(place.where.control_directory, needles, _complain)
    try:
        live.begin()
        yield live
    finally:
        live.close()


def _follow(live: Live, messages: Sequence[Result], output: str) -> None:
    """Tell what happens, until all of them are gone."""
    from fastmta.control.logline import Stamps, parse_line
    from fastmta.control.story import Story, Told

    waiting = [one["id"] for one in messages if one["state"] != "removed"][-FOLLOWED_MAX:]
    stories = {id: Story(id) for id in waiting}
    seen = {(one["id"], _key(event)) for one in messages for event in one["events"]}
    stamps = Stamps(time.time())
    with contextlib.suppress(KeyboardInterrupt, BrokenPipeError):
        while stories:
            for octets in (octets for lines in live.read(WAIT_S) for octets in lines.lines):
                line = parse_line(octets, stamps)
                story = stories.get(line.id) if line is not None else None
                event = story.add(Told(line, "live")) if line is not None and story else None
                if event is None or (event["id"], _key(event)) in seen:
                    continue
                click.echo(event_line(event) if output == "text" else line_of(event))
                sys.stdout.flush()
            stories = {id: story for id, story in stories.items() if not story.is_removed}
            if live.is_gone:
                fail("the server has ended", EXIT_NOT_RUNNING)


def _key(event: Result) -> str:
    """What makes two events the same, whether they were read or heard."""
    return str({name: value for name, value in event.items() if name not in ("source", "tls")})


def _complain(text: str) -> None:
    click.echo(f"fastmta: {text}", err=True)
