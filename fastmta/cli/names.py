"""Names that a shell completes: ids and destinations of the server that runs here.

Whoever presses the key waits, so a server that is slow, or none, gives no names and says nothing.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, redirect_stderr
from typing import Any

import click

WAIT_S = 0.5  # for all workers together
NAMES_MAX = 100

Result = dict[str, Any]  # Any: what JSON knows


def complete_ids(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Queue ids that begin so."""
    if incomplete and not (incomplete.isascii() and incomplete.isalnum()):
        return []  # a filter has signs of its own
    fields = {"filter": f"id:{incomplete}*", "limit": NAMES_MAX}
    found = _of_workers(ctx, "search", fields)
    return _chosen((one["id"] for result in found for one in result["messages"]), incomplete)


def complete_destinations(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Labels of sites in use that begin so."""
    found = _of_workers(ctx, "sites", {"limit": NAMES_MAX})
    return _chosen((one["label"] for result in found for one in result["sites"]), incomplete)


def complete_subjects(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """What can be explained: ids and destinations."""
    return [
        *complete_ids(ctx, param, incomplete),
        *complete_destinations(ctx, param, incomplete),
    ]


def _chosen(names: Iterable[str], incomplete: str) -> list[str]:
    return sorted({name for name in names if name.startswith(incomplete)})[:NAMES_MAX]


def _of_workers(ctx: click.Context, verb: str, fields: Result) -> list[Result]:
    """What each worker answers in time."""
    from fastmta.control.client import Client, ClientError
    from fastmta.control.place import socket_paths

    from .option import EXIT_CONFIG, find_server

    found: list[Result] = []
    try:
        with _in_time(), open(os.devnull, "w") as nowhere, redirect_stderr(nowhere):
            # What is wrong with a configuration is not for a line that somebody is typing.
            where = find_server(ctx.params.get("path"), (), EXIT_CONFIG)
            for path in socket_paths(where.control_directory):
                client = Client(path)
                try:
                    client.send({"id": 1, "verb": verb, **fields})
                    found.append(client.read(WAIT_S)["result"])
                finally:
                    client.close()
    except (ClientError, OSError, KeyError, SystemExit):
        return found  # of those who have answered
    return found


@contextmanager
def _in_time() -> Iterator[None]:
    """Raises TimeoutError when it takes longer than WAIT_S."""

    def late(signo: int, frame: object) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, WAIT_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
