"""The start: sockets, places, files and the user that we run as, before there is any worker."""

from __future__ import annotations

import contextlib
import os
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from fastmta.config import Config

from .blame import tell_owner
from .counting import Counting
from .mail_log import check_journal
from .notify import Notifier
from .present import Present
from .privilege import Identity, acting_as
from .sockets import BadStart, Bound, close_sockets, open_sockets
from .supervisor import EXIT_BAD_START, Leash, Supervisor, say

if TYPE_CHECKING:
    from .inbound import Inbound

_ROOM_FIRST_S = 0.5  # between two looks whether there is room on the volume
_ROOM_MAX_S = 30.0


def check_places(config: Config) -> None:
    """What no worker could start with is found once, before there are any. Raises BadStart.

    As whom the server will be: what it opens and makes is in places of that user.
    """
    check_journal(config)
    root = Path(config.spool.directory)
    made = next(path for path in (root, *root.parents) if os.path.exists(path))
    if not made.is_dir():
        raise BadStart(f"spool.directory: cannot use {root}: {made} is no directory")
    if not os.access(made, os.W_OK | os.X_OK, effective_ids=True):
        raise BadStart(
            f"spool.directory: cannot use {root}: {made} cannot be written{tell_owner(str(made))}"
        )
    from fastmta.spool import SpoolFormat  # late, as in `run`
    from fastmta.spool.survey import read_format

    try:
        read_format(str(root))
    except FileNotFoundError:
        return  # the first worker makes it
    except (OSError, SpoolFormat) as error:
        raise BadStart(f"spool.directory: {error}") from error


def raise_file_limit() -> None:
    """As many descriptors as we may have: each connection is one, and 1,024 is a usual default."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):  # what there is has to do
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _prepare(config: Config, workers: int, owner: Identity | None) -> Inbound:
    """What the workers share; waits for room on a full volume, as workers do. Raises BadStart."""
    from .inbound import NoRoom, prepare_inbound

    backoff_s = _ROOM_FIRST_S
    while True:
        try:
            return prepare_inbound(config, workers, owner)
        except NoRoom as error:
            sys.stderr.write(f"fastmta: {error}; trying again in {backoff_s:g} s\n")
            sys.stderr.flush()
            time.sleep(backoff_s)
            backoff_s = min(backoff_s * 2, _ROOM_MAX_S)


def run(config: Config, again: Callable[[], Config] | None = None) -> int:
    """Serve until SIGTERM or SIGINT; return the exit code.

    `again` reads the configuration anew, for a reload; without it the same is taken up again.
    """
    from .handover import Standing
    from .inherited import share_inherited, take_inherited
    from .trial import try_start
    from .worker import worker_main  # imported once here, so that forked workers share its pages

    raise_file_limit()
    count = config.workers.count or len(os.sched_getaffinity(0))
    bound: list[Bound] = []
    notifier = Notifier.from_environment(os.environ)
    try:
        standing = Standing(config)
        inherited = take_inherited(os.environ, config.listen)
        kept = share_inherited(inherited, count)
        bound = open_sockets(config.listen, count, kept, standing.open_path)
        counting = Counting(config, count)
        standing.make_places()
        with acting_as(standing.identity):
            check_places(config)
        inbound = _prepare(config, count, standing.identity)
        if standing.take():
            check_places(config)
        warnings = [*config.warnings, *standing.warnings, *try_start(config, has_files=True)]
    except BadStart as error:
        for line in str(error).split("\n"):  # those of a trial have their places
            sys.stderr.write(f"fastmta: {config.located(line)}\n")
        close_sockets(bound)
        return EXIT_BAD_START
    for warning in warnings:
        sys.stderr.write(f"fastmta: warning: {warning}\n")
    for each in bound:
        say(f"fastmta: listen.{each.name} on {each.address}")
    counting.tell(say)
    if standing.says:
        say(f"fastmta: {standing.says}")

    present = Present(config, bound, inbound, count, again or (lambda: config), tuple(kept))

    def start(index: int, leash: Leash) -> int:
        now = present
        return worker_main(now.config, index, count, now.bound, leash, now.inbound)

    deadline_s = config.workers.stop_deadline_s
    return Supervisor(count, bound, start, deadline_s, counting, present, notifier).run()
