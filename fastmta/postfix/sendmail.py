"""`sendmail`: mail of local programs, and the names under which other commands are called."""

from __future__ import annotations

import os
import sys

from .file import config_file
from .option import EX_TEMPFAIL, EX_UNAVAILABLE, Fatal, run, warn
from .request import DAEMON, FLUSH, IGNORE, MAILQ, NEWALIASES, STDIO, Request, read_request
from .submission import enqueue

TYPE_CHECKING = False  # as mypy knows it: importing `typing` takes as long as all of ours
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import NoReturn

NAME = "sendmail"
_BY_NAME = {"mailq": MAILQ, "newaliases": NEWALIASES, "smtpd": DAEMON}


def sendmail(arguments: Sequence[str]) -> int:
    """The command. Raises Fatal."""
    mode = _BY_NAME.get(os.path.basename(sys.argv[0]).removeprefix("fastmta-"), "enqueue")
    request = read_request(arguments, mode, lambda text: warn(NAME, f"warning: {text}"))
    if request.mode == IGNORE:
        return 0
    if request.mode == DAEMON:
        raise Fatal("start the server with its service, or with: fastmta run", EX_UNAVAILABLE)
    if request.mode == STDIO:
        from .conversation import converse

        return converse(request)
    if request.mode == NEWALIASES:
        from .newaliases import rebuild

        return rebuild(request.config, request.aliases)
    if request.mode in (FLUSH, MAILQ) or request.site or request.id:
        return _ask_queue(request)
    if request.interval:
        return 0
    if request.is_verifying:
        from .probe import probe

        probe(request)
        return 0
    enqueue(request, lambda octets: os.read(0, octets))
    return 0


def _ask_queue(request: Request) -> int:
    from .postqueue import list_queue, postqueue

    config_file(request.config, os.environ, EX_TEMPFAIL)  # ours is the status if it is missing
    where = [] if request.config is None else ["-C", request.config]
    if request.mode == MAILQ:
        return list_queue(where)
    where = [] if request.config is None else ["-c", request.config]
    if request.site:
        return postqueue([*where, "-s", request.site])
    return postqueue([*where, "-i", request.id] if request.id else [*where, "-f"])


def main() -> NoReturn:
    """The entry point."""
    run(NAME, sendmail, EX_UNAVAILABLE)
