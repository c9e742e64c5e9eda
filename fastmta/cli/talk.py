"""What the commands have in common that talk to workers: opening, complaining, asking, times."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn

import click

from .exchange import Exchange, Refused, open_exchange
from .option import EXIT_CONFIG, find_server, load_config

EXIT_PARTLY = 1  # nothing matched, or not all was done
EXIT_USAGE = 2
EXIT_NOT_RUNNING = 3
EXIT_TEMPORARY = 75  # EX_TEMPFAIL: nobody answers, or an attempt is under way
EXIT_DENIED = 77  # EX_NOPERM
_UNITS = ((86_400, "d"), (3_600, "h"), (60, "min"))


@contextmanager
def talk(path: str | None, overrides: Sequence[str]) -> Iterator[Exchange]:
    """Everybody who answers; who does not is named on standard error."""
    where = find_server(path, overrides, EXIT_CONFIG)
    try:
        with open_exchange(where, lambda: load_config(path, overrides, EXIT_CONFIG)) as exchange:
            for number in exchange.missing:
                click.echo(f"fastmta: no worker serves shard {number} just now", err=True)
            yield exchange
    except Refused as refused:
        fail_as(refused)


def fail(text: str, status: int) -> NoReturn:
    """Say why, and end."""
    click.echo(f"fastmta: {text}", err=True)
    sys.exit(status)


def fail_as(refused: Refused) -> NoReturn:
    """Say why a request was not done, and end."""
    status = EXIT_USAGE if refused.is_usage else EXIT_TEMPORARY
    fail(str(refused), EXIT_DENIED if refused.is_denied else status)


def request(verb: str, **fields: Any) -> Any:  # Any: fields and value of `Request`
    """What is asked."""
    from fastmta.control import Request, Verb

    return Request(verb=Verb(verb), **fields)


def confirm(what: str) -> bool:
    """Whether whoever is at the terminal says yes. Ends with 2 when nobody is there."""
    if not sys.stdin.isatty():
        fail(f"{what}: give --yes, nobody can be asked", EXIT_USAGE)
    return click.confirm(f"{what}?", err=True)


def moment(unix_s: float, now_s: float | None = None) -> str:
    """`2026-11-25 20:05:11 UTC`, and with `now_s` how far away that is."""
    from datetime import UTC, datetime

    text = f"{datetime.fromtimestamp(unix_s, UTC):%Y-%m-%d %H:%M:%S} UTC"
    if now_s is None:
        return text
    left_s = unix_s - now_s
    return f"{text} (in {duration(left_s)})" if left_s >= 1 else f"{text} (now)"


def hop_text(next_hop: str) -> str:
    """A next hop for people."""
    from fastmta.control.wire import hop_text as text

    return text(next_hop)


def duration(seconds: float) -> str:
    """`4 min 3 s`: the two largest units."""
    left = int(seconds)
    parts = []
    for size, name in _UNITS:
        if left >= size:
            parts.append(f"{left // size} {name}")
            left %= size
    parts.append(f"{left} s")
    return " ".join(parts[:2])
