"""The mail log as the configuration wants it: of a worker, of a command without a server."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

import fastmta
from fastmta.config.operating import syslog_address
from fastmta.event import Notice
from fastmta.journal import Journal, JournalOptions, Origin, open_journal
from fastmta.journal.file import STANDARD_OUTPUT
from fastmta.journal.opening import check_files, quiet

from .blame import tell_owner
from .sockets import BadStart

if TYPE_CHECKING:
    from fastmta.config import Config
    from fastmta.journal.journal import Counting
    from fastmta.journal.line import Heed


def journal_of_worker(config: Config, index: int, heed: Heed, tap: Counting) -> Journal:
    """That of worker `index`. Raises OSError: a file of it cannot be opened."""
    return open_journal(_options(config), time.time, _origin(config, index), heed, tap)


def journal_of_command(config: Config) -> Journal:
    """That of a command, whose standard output is not the log."""
    return open_journal(quiet(_options(config)), time.time, _origin(config, 0))


def check_journal(config: Config) -> None:
    """Raises BadStart: the log cannot be written. Files of it may be made."""
    try:
        check_files(_options(config))
    except OSError as error:
        name = error.filename
        key = "json_file" if name == config.journal.json_file else "file"
        whose = tell_owner(name) if isinstance(error, PermissionError) else ""
        text = f"cannot write {name}: {error.strerror}{whose}"
        raise BadStart(f"journal.{key}: {text}") from error


def files_of(config: Config) -> list[tuple[str, str]]:
    """The files of the log: (key, path)."""
    journal = config.journal
    files = [("journal.json_file", journal.json_file)] if journal.json_file else []
    if journal.target == "file" and journal.file != STANDARD_OUTPUT:
        files.append(("journal.file", journal.file))
    return files


def started(config: Config) -> Notice:
    """What Postfix's master says when it begins."""
    return Notice("master", f"daemon started -- {_version(config)}")


def reloaded(config: Config) -> str:
    """What it says when it has read its configuration again."""
    return f"reload -- {_version(config)}"


def _version(config: Config) -> str:
    files = [place for place in config.places.values() if place.startswith("/")]
    directory = os.path.dirname(files[0].rpartition(":")[0]) if files else "-"
    return f"version {fastmta.__version__}, configuration {directory}"


def _origin(config: Config, index: int) -> Origin:
    return Origin(config.hostname, config.journal.syslog_name, os.getpid(), index)


def _options(config: Config) -> JournalOptions:
    journal = config.journal
    return JournalOptions(
        target=journal.target,
        file=journal.file,
        format=journal.format,
        json_file=journal.json_file,
        syslog=syslog_address(journal.syslog),
        facility=journal.facility,
        anonymise=journal.anonymise,
        salt=journal.anonymise_salt,
        hides_clients=journal.anonymise_clients,
    )
