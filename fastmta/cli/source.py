"""Where the mail log of a configuration can be read."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from fastmta.control.logplace import (
    history_files,
    log_files,
    newest_first,
    syslog_files,
)

from .exchange import Refused
from .option import EXIT_CONFIG, config_path, find_server

if TYPE_CHECKING:
    from fastmta.config import Config
    from fastmta.config.glimpse import Glimpse, LogGlimpse
    from fastmta.control.tracing import Group


class Place(NamedTuple):
    """Where a server is, and its log."""

    where: Glimpse
    log: LogGlimpse | None  # None: that cannot be told
    config: Config | None  # None: it cannot be used
    trouble: str  # why not

    def load(self) -> Config:
        """For `open_exchange`: the configuration. Raises Refused."""
        if self.config is None:
            raise Refused(f"no server answers, and the configuration is broken: {self.trouble}")
        return self.config


def find_place(path: str | None, overrides: Sequence[str]) -> Place:
    """What the configuration says of these; of a broken one what can be read of it.

    Exits as `find_server` does when not even the server can be found.
    """
    from fastmta.config import ConfigError, load
    from fastmta.config.glimpse import glimpse_of, guess_log, log_glimpse_of

    file = config_path(path)
    try:
        config = load(file, os.environ, overrides)
    except ConfigError as error:
        where = find_server(path, overrides, EXIT_CONFIG)
        log = None if file is None else guess_log(file, os.environ, overrides)
        return Place(where, log, None, str(error.problems[0]))
    return Place(glimpse_of(config), log_glimpse_of(config), config, "")


def log_groups(place: Place, files: Sequence[str]) -> list[Group]:
    """Files by where they come from: `files` if there are any, else what the configuration says."""
    from fastmta.control.tracing import Group

    if files:
        return [Group("log", newest_first(files))]
    settings = place.log
    if settings is None:
        return []
    if settings.json_file:  # it says more
        group = Group("log", log_files(settings.json_file))
    elif is_journald(place):
        return []
    elif settings.target == "syslog":
        group = Group("log", syslog_files())
    elif settings.target == "file" and settings.file != "-":
        group = Group("log", log_files(settings.file))
    else:
        group = Group("history", history_files(place.where.spool_directory))
    return [group] if group.paths else []


def missing_log(place: Place) -> str:
    """Why there is no log to read, for people, when neither files nor journald have it."""
    log = place.log
    path = "" if log is None else log.json_file
    if log is not None and not path and log.target == "file" and log.file != "-":
        path = log.file
    if path:
        return f"the log file {path} is not there yet, or cannot be seen"
    return "no log file is known"


def is_journald(place: Place) -> bool:
    """Whether journald has the log, and nobody else."""
    log = place.log
    return log is not None and log.target == "journald" and not log.json_file
