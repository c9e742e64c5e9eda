"""The commands that are imported when they are needed: what each is for, and where it is."""

import click

from .lazy import Later


def _completion() -> click.Command:
    from .completion import completion

    return completion


def _dest() -> click.Command:
    from .dest import dest

    return dest


def _drain() -> click.Command:
    from .server import drain

    return drain


def _explain() -> click.Command:
    from .explain import explain

    return explain


def _healthcheck() -> click.Command:
    from .server import healthcheck

    return healthcheck


def _install_commands() -> click.Command:
    from .install import install_commands

    return install_commands


def _log() -> click.Command:
    from .log import log

    return log


def _manual() -> click.Command:
    from .manual import manual

    return manual


def _queue() -> click.Command:
    from .queue import queue

    return queue


def _reload() -> click.Command:
    from .server import reload

    return reload


def _simulate() -> click.Command:
    from .simulate import simulate

    return simulate


def _spool() -> click.Command:
    from .spool import spool

    return spool


def _status() -> click.Command:
    from .server import status

    return status


def _top() -> click.Command:
    from .top import top

    return top


def _trace() -> click.Command:
    from .trace import trace

    return trace


def _user() -> click.Command:
    from .user import user

    return user


LATER = {
    "completion": Later("Print what makes a shell complete fastmta's commands", _completion),
    "dest": Later("Look at destinations, and pause or limit them", _dest),
    "drain": Later("Take no new mail, deliver what is due, then stop the server", _drain),
    "explain": Later(
        "Say why mail does not move: what it waits for, until when, and the last reply", _explain
    ),
    "healthcheck": Later(
        "For a container or a load balancer: exit 0, or 1 with one line that says why not",
        _healthcheck,
    ),
    "install-commands": Later(
        "Put sendmail, mailq and the like into a directory, as links", _install_commands
    ),
    "log": Later("Look at the mail log of a running server", _log),
    "manual": Later("Write the manual pages", _manual),
    "queue": Later("Look at and change what waits", _queue),
    "reload": Later("Have the server take up its configuration", _reload),
    "simulate": Later(
        "Run the scheduler against simulated receivers, in simulated time", _simulate
    ),
    "spool": Later("Look at, check, mend and copy the spool on the disk", _spool),
    "status": Later("Show how the server is, on one screen", _status),
    "top": Later("Show rates, totals, destinations and workers; anew each second", _top),
    "trace": Later(
        "Tell the story of a message: received, queued, each attempt, what became of it", _trace
    ),
    "user": Later("Add, remove, list and check the users of a users file", _user),
}
