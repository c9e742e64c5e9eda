"""`fastmta dest`: look at destinations, pause them and limit them while the server runs."""

from __future__ import annotations

import os
import pwd
import re
import sys
import time
from collections.abc import Callable, Iterator
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, NoReturn, TypeAlias

import click

from .exchange import Exchange, Refused, open_workers, show_progress
from .explain import ask_why, items_of, render
from .names import complete_destinations
from .option import EXIT_CONFIG, Command, config_options, find_server, load_config
from .output import of_kind, put, with_output
from .talk import (
    EXIT_DENIED,
    EXIT_NOT_RUNNING,
    EXIT_PARTLY,
    EXIT_TEMPORARY,
    EXIT_USAGE,
    confirm,
    fail,
    fail_as,
    moment,
    request,
)

if TYPE_CHECKING:
    from fastmta.config import Config
    from fastmta.config.glimpse import Glimpse
    from fastmta.control.override import Override, Overrides

Result: TypeAlias = dict[str, Any]  # Any: what JSON knows
_LENGTH = re.compile(r"([0-9]{1,9})([smhd]?)")
_UNITS_S = {"": 1, "s": 1, "m": 60, "h": 3_600, "d": 86_400}
_LIMIT_MAX_S = 366 * 86_400


@click.group()
def dest() -> None:
    """Look at destinations, and pause or limit them. Durable when it is answered.

    X is the label of a site, a domain (.x.example: its subdomains; *: any), or one of site:NAME,
    domain:NAME, provider:NAME, source:NAME, tenant:NAME. --tenant makes a pair with any of them.

    Exit status: 0 done; 1 nothing by that name; 2 wrong usage; 75 later perhaps: it is durable, but
    a worker does not answer.
    """


def _read_length(_: Any, __: Any, text: str | None) -> float | None:
    """`1h` as seconds, for click."""
    if text is None:
        return None
    found = _LENGTH.fullmatch(text)
    length_s = int(found[1]) * _UNITS_S[found[2]] if found else 0
    if not 0 < length_s <= _LIMIT_MAX_S:
        raise click.BadParameter("a length such as 90s, 30m, 1h or 7d is wanted")
    return float(length_s)


def _with_selector(command: Command) -> Command:
    """X and --tenant, and what every change has."""
    for option in (
        click.option("--yes", is_flag=True, help="Do not ask."),
        click.option("--dry-run", is_flag=True, help="Count, and change nothing."),
        click.option("--tenant", metavar="NAME", help="Only mail of this tenant."),
        click.argument("name", metavar="X", shell_complete=complete_destinations),
        with_output,
        config_options,
    ):
        command = option(command)
    return command


_for_option = click.option(
    "--for",
    "length_s",
    callback=_read_length,
    metavar="LENGTH",
    help="End it after 90s, 30m, 1h, 7d; else it stays until it is undone.",
)


@dest.command("list")
@click.option("--limit", type=click.IntRange(1, 200), default=50, show_default=True)
@click.option("--after", default="", metavar="PLACE", help="The page behind this place.")
@with_output
@config_options
def list_(
    limit: int, after: str, path: str | None, overrides: tuple[str, ...], output: str
) -> None:
    """List the sites that are in use, and what operators have set.

    Exit status: 0 shown; 3 no server runs: what operators have set is shown; 75 a worker does not
    answer.
    """
    from fastmta.control.merging import merge_pages

    where = find_server(path, overrides, EXIT_CONFIG)
    with _workers(where) as exchange:
        found: list[Result] = []
        end: str | None = None
        if exchange is not None:
            asked = request("sites", after=after, limit=limit)
            found, end = merge_pages(exchange.ask(asked, show_progress), limit)
        set_here = _read(where, exchange)
        set_json = _overrides_json(set_here)
        items = [
            *(of_kind("site", site) for site in found),
            *_override_items(set_json),
            *([] if end is None else [of_kind("next", {"after": end})]),
        ]
        if not put(output, {"sites": found, "next": end, "overrides": set_json}, items):
            if exchange is not None:
                _print_sites(found)
            _print_overrides(set_here)
            if end is not None:
                click.echo(f"more: --after '{end}'", err=True)
        if exchange is None:
            fail("no server runs", EXIT_NOT_RUNNING)
        sys.exit(EXIT_TEMPORARY if exchange.missing else 0)


@dest.command()
@click.argument("name", metavar="X", shell_complete=complete_destinations)
@with_output
@config_options
def show(name: str, path: str | None, overrides: tuple[str, ...], output: str) -> None:
    """Show one destination: what it waits for, its limits, and who set them."""
    where = find_server(path, overrides, EXIT_CONFIG)
    with _workers(where) as exchange:
        found: Result = {"explanations": [], "notes": []}
        if exchange is not None:
            found = ask_why(exchange, name)
        names = {_selector(name)[1], *_names(found["explanations"])}
        live = _live(_read(where, exchange))
        of_it = {key: one for key, one in live.items() if _concerns(one, names)}
        shown = {key: _override_json(one) for key, one in of_it.items()}
        items = [*items_of(found), *_override_items(shown)]
        if not put(output, {"subject": name, **found, "overrides": shown}, items):
            why = "no server runs" if exchange is None else "nothing in use by that name"
            click.echo(render(found, f"{name}: {why}"))
            for key, one in of_it.items():
                click.echo(_override_line(key, one))
        is_known = bool(found["explanations"] or of_it)
        sys.exit(0 if is_known else EXIT_NOT_RUNNING if exchange is None else EXIT_PARTLY)


@dest.command()
@_for_option
@_with_selector
def pause(name: str, length_s: float | None, **options: Any) -> None:  # Any: of several types
    """Start nothing for it until it is resumed. Mail is accepted, waits and expires as usual."""
    _put(name, {"is_paused": True}, length_s, options)


@dest.command()
@click.option("--rate", default="", metavar="RATE", help='Such as "100/min, burst 10".')
@click.option("--connections", type=click.IntRange(1, 1_000_000), metavar="N")
@_for_option
@_with_selector
def limit(
    name: str, rate: str, connections: int | None, length_s: float | None, **options: Any
) -> None:
    """Limit how often mail starts, and how many connections there are. Replaces its last limit."""
    if not rate and connections is None:
        raise click.UsageError("give --rate, --connections, or both")
    _put(name, {"rate": rate, "connections": connections or 0}, length_s, options)


@dest.command()
@_with_selector
def resume(name: str, **options: Any) -> None:
    """End a pause that `dest pause` made."""
    _drop("pause", name, options)


@dest.command()
@_with_selector
def unlimit(name: str, **options: Any) -> None:
    """End a limit that `dest limit` set: what the configuration says holds again."""
    _drop("limit", name, options)


def _put(
    name: str, fields: dict[str, Any], length_s: float | None, options: dict[str, Any]
) -> None:
    """Set one override; tell the workers; say so."""
    from fastmta.config.glimpse import glimpse_of
    from fastmta.control.override import Override, OverrideError, name_of

    config = load_config(options["path"], options["overrides"], EXIT_CONFIG)
    where = glimpse_of(config)
    now_s = round(time.time(), 3)
    with _workers(where) as exchange:
        values = _values(exchange, name, options["tenant"])
        _check_provider(config, values)
        override = Override(
            **values,
            **fields,
            until_s=None if length_s is None else now_s + length_s,
            set_by=_who(),
            set_at_s=now_s,
        )
        try:
            override.check()
        except OverrideError as error:
            fail(str(error), EXIT_USAGE)
        key = name_of(override)
        counts = _concern(exchange, override)
        verb = "pause" if override.is_paused else "limit"
        if not options["dry_run"]:
            if override.is_wide and not options["yes"]:
                what = f"{verb} {override.selector}: {_counted(counts)}"
                if not confirm(what):
                    sys.exit(EXIT_PARTLY)
            _change(where, lambda old: old.at(now_s).put(key, override))
        in_force = _tell(exchange, options["dry_run"])
        shown = {"verb": verb, "name": key, "override": _override_json(override)}
        rest = {"dry_run": options["dry_run"], "in_force": in_force}
        if not put(options["output"], {**shown, **counts, **rest}):
            would = "would " if options["dry_run"] else ""
            click.echo(f"{would}{_override_line(key, override)}; {_counted(counts)}")
        _end(exchange, in_force)


def _drop(verb: str, name: str, options: dict[str, Any]) -> None:
    """Take overrides of that name away; tell the workers; say so."""
    where = find_server(options["path"], options["overrides"], EXIT_CONFIG)
    wanted, value = _selector(name)
    tenant = options["tenant"]
    now_s = time.time()
    with _workers(where) as exchange:
        keys = [
            key
            for key, one in _live(_read(where)).items()
            if key.startswith(f"{verb} ") and _is_meant(one, wanted, value, tenant)
        ]
        if keys and not options["dry_run"]:

            def without(old: Overrides) -> Overrides:
                old = old.at(now_s)
                for key in keys:
                    old = old.drop(key)
                return old

            _change(where, without)
        in_force = _tell(exchange, options["dry_run"] or not keys)
        rest = {"dry_run": options["dry_run"], "in_force": in_force}
        if not put(options["output"], {"verb": f"end {verb}", "names": keys, **rest}):
            for key in keys:
                click.echo(f"{'would end' if options['dry_run'] else 'ended'}: {key}")
        if not keys:
            text = f"no {verb} of `fastmta dest` is for {name}"
            fail(f"{text}; `fastmta dest list` shows what there is", EXIT_PARTLY)
        _end(exchange, in_force)


# Parts


def _workers(where: Glimpse) -> Any:  # Any: a context manager that turns Refused into an exit
    from contextlib import contextmanager

    @contextmanager
    def opened() -> Any:
        try:
            with open_workers(where) as exchange:
                for number in exchange.missing if exchange is not None else ():
                    click.echo(f"fastmta: no worker serves shard {number} just now", err=True)
                yield exchange
        except Refused as refused:
            fail_as(refused)

    return opened()


def _selector(name: str) -> tuple[str, str]:
    from fastmta.control.override import OverrideError, parse_selector

    try:
        kind, value = parse_selector(name)
    except OverrideError as error:
        fail(str(error), EXIT_USAGE)
    return kind, value[1:] if value.startswith("*.") else value


def _values(exchange: Exchange | None, name: str, tenant: str | None) -> dict[str, Any]:
    """What an override selects. A bare name is a site if there is one of that label, else a
    domain."""
    kind, value = _selector(name)
    if not kind:
        is_site = value.startswith("(") or bool(
            exchange is not None and ask_why(exchange, f"site:{value}")["explanations"]
        )
        kind = "site" if is_site else "domain"
    values: dict[str, Any] = {kind: (value,)}
    if tenant is not None:
        if kind == "tenant":
            raise click.UsageError("--tenant makes a pair with something else than a tenant")
        values["tenant"] = (tenant,)
    return values


def _check_provider(config: Config, values: dict[str, Any]) -> None:
    """A provider that nobody knows would have no mail, ever."""
    from fastmta.config.provider import providers

    known = providers({name: one.mx for name, one in config.provider.items()})
    for name in values.get("provider", ()):
        if not name.startswith(".") and name != "*" and name not in known:
            near = get_close_matches(name, known, 1)
            hint = f"; did you mean {near[0]}?" if near else f"; there are {', '.join(known)}"
            fail(f"there is no provider {name}{hint}", EXIT_USAGE)


def _is_meant(override: Override, kind: str, value: str, tenant: str | None) -> bool:
    """Whether `X --tenant T` is what this override is for, whichever way X was meant."""
    if kind == "tenant" and tenant is None:
        return override.selector == f"tenant:{value}"
    kinds = (kind,) if kind else ("site", "domain")
    end = "" if tenant is None else f" tenant:{tenant}"
    return override.selector in {f"{each}:{value}{end}" for each in kinds}


def _names(nodes: list[Result]) -> Iterator[str]:
    """Of the sites and tenants in a tree."""
    for node in nodes:
        if node["about"] in ("site", "tenant"):
            yield node["name"]
        yield from _names(node["children"])


def _concerns(override: Override, names: set[str]) -> bool:
    """Whether it selects one of these by name or pattern."""
    for kind in ("site", "domain", "provider", "source", "tenant"):
        for value in getattr(override, kind):
            if value in names or value == "*":
                return True
            if value.startswith(".") and any(name.endswith(value) for name in names):
                return True
    return False


def _concern(exchange: Exchange | None, override: Override) -> dict[str, int]:
    """For how many sites and next hops in use it is."""
    counts = {"sites": 0, "next_hops": 0}
    if exchange is None:
        return counts
    lines = [
        f"{kind}:{value}"
        for kind in ("site", "domain", "provider", "source", "tenant")
        for value in getattr(override, kind)
    ]
    results = exchange.ask(request("concern", subject="\n".join(lines)), show_progress)
    for name, of_names in (("sites", "site_names"), ("next_hops", "next_hop_names")):
        names = {one for result in results for one in result[of_names]}  # workers share them
        counts[name] = max([len(names), *(result[name] for result in results)])
    return counts


def _counted(counts: dict[str, int]) -> str:
    sites, hops = counts["sites"], counts["next_hops"]
    return (
        f"{sites} site{'s' if sites != 1 else ''} and "
        f"{hops} next hop{'s' if hops != 1 else ''} in use now"
    )


def _read(where: Glimpse, exchange: Exchange | None = None) -> Overrides:
    """With an `exchange`, which is for more users than the file, they are told of its absence."""
    from fastmta.control.override import OverrideError, Overrides
    from fastmta.control.overridefile import read_overrides

    try:
        return read_overrides(where.spool_directory)
    except OverrideError as error:
        if exchange is None or not isinstance(error.__cause__, PermissionError):
            _give_up(error)
        click.echo(f"fastmta: what operators have set cannot be shown: {error}", err=True)
        return Overrides()


def _give_up(error: Exception) -> NoReturn:
    is_denied = isinstance(error.__cause__, PermissionError)
    owner = "; it is for root and the server's user" if is_denied else ""
    fail(f"{error}{owner}", EXIT_DENIED if is_denied else EXIT_TEMPORARY)


def _live(overrides: Overrides) -> dict[str, Override]:
    return overrides.at(time.time()).shapes


def _change(where: Glimpse, change: Callable[[Overrides], Overrides]) -> None:
    from fastmta.control.override import OverrideError
    from fastmta.control.overridefile import change_overrides

    try:
        change_overrides(where.spool_directory, change)
    except OverrideError as error:
        _give_up(error)


def _tell(exchange: Exchange | None, is_nothing: bool) -> bool:
    """Have every worker take it up; whether it is in force."""
    if exchange is None or is_nothing:
        return False
    try:
        exchange.ask(request("reshape"), show_progress)
    except Refused as refused:
        text = f"it is durable, but not in force: {refused}; a restart takes it up"
        fail(text, EXIT_TEMPORARY)
    return not exchange.missing


def _end(exchange: Exchange | None, in_force: bool) -> None:
    if exchange is None:
        click.echo("no server answers: it takes effect at the next start", err=True)
    elif exchange.missing and not in_force:
        sys.exit(EXIT_TEMPORARY)


def _who() -> str:
    """Who gives the command, for whoever asks later."""
    by_sudo = os.environ.get("SUDO_USER", "")
    if os.getuid() == 0 and by_sudo.isprintable() and by_sudo:
        return by_sudo[:100]
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return f"user {os.getuid()}"


# Text


def _override_json(override: Override) -> Result:
    import msgspec

    found: Result = msgspec.to_builtins(override)
    return {**found, "selector": override.selector, "effect": override.effect}


def _override_items(shown: Result) -> Iterator[Result]:
    return (of_kind("override", {"name": key, **one}) for key, one in shown.items())


def _overrides_json(overrides: Overrides) -> Result:
    return {key: _override_json(one) for key, one in _live(overrides).items()}


def _override_line(key: str, override: Override) -> str:
    ends = "" if override.until_s is None else f", until {moment(override.until_s)}"
    does = "" if override.is_paused else f": {override.effect}"
    return f"{key}{does}{ends}, {override.origin}"


def _print_sites(sites: list[Result]) -> None:
    if not sites:
        click.echo("no site is in use")
    else:
        width = min(60, max(4, *(len(site["label"]) for site in sites)))
        click.echo(f"{'SITE':<{width}}  {'STATE':<11} {'WINDOW':>9} {'READY':>7}  WAITS FOR")
        for site in sites:
            window = f"{site['in_flight']}/{site['window']}/{site['window_max']}"
            state = "paused" if site["waits_on"] == "paused" else site["state"]
            line = f"{site['label']:<{width}}  {state:<11} {window:>9} {site['waiting']:>7}  "
            click.echo(f"{line}{_why(site)}")


def _why(site: Result) -> str:
    """Half a sentence, and the last reply."""
    text = "-" if site["waits_on"] == "nothing" else site["text"]
    if site["detail"]:
        text += f" ({site['detail']})"
    if site["next_attempt"]:
        text += f", until {moment(site['next_attempt'])}"
    if site["last_reply"]:
        text += f"; last trouble: {site['last_reply']['text']}"
    return text


def _print_overrides(overrides: Overrides) -> None:
    live = _live(overrides)
    if live:
        click.echo("\nset by operators:")
        for key, one in sorted(live.items()):
            click.echo(f"  {_override_line(key, one)}")
