"""A manual page of a command, from what its `--help` says."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Sequence
from typing import TypeAlias

import click

from . import roff

_EXIT = "Exit status:"
Record: TypeAlias = tuple[str, str]  # an option and what is said of it


def command_page(name: str, summary: str, command: click.Command) -> str:
    """The page of `fastmta <name>`."""
    ctx = _context(name, command)
    text, statuses = _help(command)
    lines = roff.title(f"fastmta-{name}", 1)
    lines += [roff.heading("name"), rf"fastmta\-{roff.literal(name)} \- {_lower(summary)}"]
    lines += [roff.heading("synopsis"), *_synopses(ctx)]
    lines += [roff.heading("description"), *roff.paragraphs(text)]
    if isinstance(command, click.Group):
        lines += _commands(ctx, command)
    else:
        lines += _options(_records(ctx), "options")
    lines += _exit_status(statuses)
    if any(isinstance(one, click.Option) and "--config" in one.opts for one in _all(ctx)):
        text = "The configuration, unless `-c` or `FASTMTA_CONFIG` names another."
        lines += [roff.heading("files"), *roff.entry(r"\fI/etc/fastmta/fastmta.toml\fR", text)]
    lines += roff.see_also([("fastmta", 1), ("fastmta.toml", 5)])
    return "\n".join(lines) + "\n"


def main_page(summaries: Sequence[Record], root: click.Command) -> str:
    """The page of `fastmta` itself."""
    lines = roff.title("fastmta", 1)
    lines += [roff.heading("name"), r"fastmta \- a mail transfer agent"]
    lines += [roff.heading("synopsis"), r"\fBfastmta\fR \fICOMMAND\fR [\fIARGUMENT\fR ...]"]
    lines += [roff.heading("description"), *roff.paragraphs(_ABOUT)]
    lines += [roff.heading("commands")]
    for name, summary in summaries:
        lines += roff.entry(rf"\fB{roff.literal(name)}\fR", f"{summary}.")
    lines += _options(_records(_context("", root)), "options")
    for title, records in _SECTIONS.items():
        lines.append(roff.heading(title))
        for term, text in records:
            lines += roff.entry(rf"\fB{roff.literal(term)}\fR", text)
    pages = [(f"fastmta-{name}", 1) for name, _ in summaries]
    lines += roff.see_also([*pages, ("fastmta.toml", 5), ("fastmta-sendmail", 1)])
    return "\n".join(lines) + "\n"


_ABOUT = """\
fastmta accepts, stores, routes and delivers mail over SMTP. `fastmta run` is the server; the other
commands look at it, give it orders and work on its spool. Each command has a page of its own,
fastmta-COMMAND(1), and `--help`.

Scripts that know Postfix find its commands as fastmta-sendmail(1), fastmta-mailq(1),
fastmta-newaliases(1), fastmta-postqueue(1), fastmta-postsuper(1), fastmta-postcat(1) and
fastmta-qshape(1); `fastmta install-commands` puts them under their plain names."""

_SECTIONS: dict[str, tuple[Record, ...]] = {
    "exit status": (
        ("0", "Done."),
        ("1", "Failed, or nothing matched, or not all was done."),
        ("2", "Wrong usage."),
        ("3", "No server runs."),
        ("75", "Later, perhaps: nobody answers, or a file cannot be used now."),
        ("77", "Not for this user."),
        ("78", "The configuration is wrong."),
    ),
    "environment": (
        (
            "FASTMTA_SECTION__KEY",
            "A key of the configuration; it wins over the file. `FASTMTA_RELAY__HOST` is `host` of "
            "`[relay]`; with `_FILE` behind it, the value is read from the file that is named.",
        ),
        ("FASTMTA_HOSTNAME", "The key `hostname`."),
        ("FASTMTA_CONFIG", "The file of the configuration, unless `-c` names another."),
        (
            "LISTEN_FDS, LISTEN_FDNAMES",
            "Listening sockets of the service manager; each name is that of a `[listen]` section.",
        ),
        (
            "NOTIFY_SOCKET, WATCHDOG_USEC",
            "Where the service manager wants to be told, and how often.",
        ),
    ),
    "files": (
        ("/etc/fastmta/fastmta.toml", "The configuration."),
        ("/var/lib/fastmta", "The spool, unless the configuration names another directory."),
    ),
}


def _context(name: str, command: click.Command) -> click.Context:
    outer = click.Command("fastmta") if name else command
    parent = click.Context(outer, info_name="fastmta", help_option_names=["-h", "--help"])
    return click.Context(command, info_name=name, parent=parent) if name else parent


def _all(ctx: click.Context) -> list[click.Parameter]:
    """Parameters of a command, and of the commands in it."""
    command = ctx.command
    inner = command.commands.values() if isinstance(command, click.Group) else ()
    return [*command.params, *(one for other in inner for one in other.params)]


def _synopses(ctx: click.Context) -> Iterator[str]:
    command = ctx.command
    if not isinstance(command, click.Group):
        yield _synopsis(ctx)
        return
    for number, name in enumerate(command.list_commands(ctx)):
        if number:
            yield ".br"
        yield _synopsis(_inner(ctx, command, name))


def _inner(ctx: click.Context, group: click.Group, name: str) -> click.Context:
    command = group.get_command(ctx, name)
    assert command is not None
    return click.Context(command, info_name=name, parent=ctx)


def _synopsis(ctx: click.Context) -> str:
    pieces = list(ctx.command.collect_usage_pieces(ctx))
    if "[OPTIONS]" in pieces:
        at = pieces.index("[OPTIONS]")
        is_inner = ctx.parent is not None and isinstance(ctx.parent.command, click.Group)
        told = [_short(one) for one in ctx.command.params if _is_told(one)]
        pieces[at : at + 1] = ["[OPTION ...]"] if is_inner else told
    rest = [rf"\fI{roff.literal(piece)}\fR" for piece in pieces]
    return " ".join([rf"\fB{roff.literal(ctx.command_path)}\fR", *rest])


def _is_told(one: click.Parameter) -> bool:
    return isinstance(one, click.Option) and not one.hidden


def _short(one: click.Parameter) -> str:
    """An option as a synopsis has it: `[-c FILE]`, `[--yes]`."""
    assert isinstance(one, click.Option)
    value = "" if one.is_flag else f" {_value(one)}"
    return f"[{one.opts[0]}{value}]"


def _value(one: click.Option) -> str:
    made = one.make_metavar(click.Context(click.Command("")))
    return made[1:-1] if made.startswith("[") else made


def _help(command: click.Command) -> tuple[str, str]:
    """What a command says of itself, and of its exit status."""
    text = inspect.cleandoc(command.help or "")
    text, _, statuses = text.partition(_EXIT)
    statuses, _, more = statuses.partition("\n\n")
    return f"{text.rstrip()}\n\n{more}".strip(), " ".join(statuses.split())


def _exit_status(statuses: str) -> Iterator[str]:
    """`0 done; 1 failed.` as a list."""
    if not statuses:
        return
    yield roff.heading("exit status")
    for one in statuses.rstrip(".").split("; "):
        found = re.fullmatch(r"(\d+),? (.*)", one)
        parts = [one] if found else re.split(r", (?=\d)", one)
        for part in parts:
            number, _, text = part.partition(" ")
            yield from roff.entry(rf"\fB{number}\fR", text[:1].upper() + text[1:] + ".")


def _records(ctx: click.Context) -> list[Record]:
    options = [one for one in ctx.command.get_params(ctx) if isinstance(one, click.Option)]
    found = [one.get_help_record(ctx) for one in options]
    return [record for record in found if record is not None]


def _options(records: Sequence[Record], title: str) -> Iterator[str]:
    if records:
        yield roff.heading(title)
        yield from _list(records)


def _list(records: Sequence[Record]) -> Iterator[str]:
    for term, text in records:
        yield from roff.entry(rf"\fB{roff.literal(term)}\fR", text)


def _commands(ctx: click.Context, group: click.Group) -> Iterator[str]:
    """Each command of a group; what all of them take is told once."""
    inner = [_inner(ctx, group, name) for name in group.list_commands(ctx)]
    all_records = [_records(one) for one in inner]
    shared = [
        record for record in all_records[0] if all(record in records for records in all_records)
    ]
    yield roff.heading("commands")
    for one, records in zip(inner, all_records, strict=True):
        text, statuses = _help(one.command)
        own = [record for record in records if record not in shared]
        yield roff.subheading(one.info_name or "")
        yield from roff.paragraphs(text)
        yield from _list(own)
        if statuses:
            yield from (".PP", *roff.filled(f"Exit status: {statuses}"))
    yield from _options(shared, "options of all commands")


def _lower(summary: str) -> str:
    """A summary as a page's first line has it."""
    return roff.running(summary[:1].lower() + summary[1:])
