"""Where the mail log of a configuration can be read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from fastmta.control.logplace import (
    history_files,
    log_files,
    newest_first,
    syslog_files,
)

if TYPE_CHECKING:
    from fastmta.config import Config
    from fastmta.control.tracing import Group


def log_groups(config: Config, files: Sequence[str]) -> list[Group]:
    """Files by where they come from: `files` if there are any, else what the configuration says."""
    from fastmta.control.tracing import Group

    if files:
        return [Group("log", newest_first(files))]
    settings = config.journal
    if settings.json_file:  # it says more
        group = Group("log", log_files(settings.json_file))
    elif is_journald(config):
        return []
    elif settings.target == "syslog":
        group = Group("log", syslog_files())
    elif settings.target == "file" and settings.file != "-":
        group = Group("log", log_files(settings.file))
    else:
        group = Group("history", history_files(config.spool.directory))
    return [group] if group.paths else []


def is_journald(config: Config) -> bool:
    """Whether journald has the log, and nobody else."""
    return config.journal.target == "journald" and not config.journal.json_file
