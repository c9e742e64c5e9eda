"""Where lines of the mail log may be: the file, what rotation made of it, our own history."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from typing import Final

HISTORY: Final = "history"  # below the spool's directory
FILES_MAX: Final = 1_000
# mail.log.1, mail.log.2.gz, mail.log-20261125, mail.log-20261125-1795640000.gz
_ROTATED: Final = re.compile(r"[.-]\d{1,10}(?:[.-]\d{1,10})*(?:\.(?:gz|bz2|xz))?")
_HISTORY_FILE: Final = re.compile(r"worker-\d{1,4}\.log(?:\.\d{1,3})?")
_SYSLOG: Final = ("/var/log/mail.log", "/var/log/maillog")


def log_files(path: str) -> list[str]:
    """The log at `path` and its elder siblings, as logrotate names them; the newest first."""
    directory, name = os.path.split(path)
    return newest_first(
        os.path.join(directory, other)
        for other in _names(directory or ".")
        if other == name or (other.startswith(name) and _ROTATED.fullmatch(other, len(name)))
    )


def history_files(spool_directory: str) -> list[str]:
    """What the workers kept of their lines."""
    directory = os.path.join(spool_directory, HISTORY)
    return newest_first(
        os.path.join(directory, name) for name in _names(directory) if _HISTORY_FILE.fullmatch(name)
    )


def syslog_files() -> list[str]:
    """Where syslog daemons put mail."""
    return [path for log in _SYSLOG for path in log_files(log)]


def newest_first(paths: Iterable[str]) -> list[str]:
    """Those that are there, by the time of their last line."""
    found = []
    for path in paths:
        try:
            found.append((os.stat(path).st_mtime_ns, path))
        except OSError:
            continue  # rotated away just now
    return [path for _, path in sorted(found, reverse=True)][:FILES_MAX]


def end_of(path: str) -> float:
    """Unix time of the last line of a file, about."""
    try:
        return os.stat(path).st_mtime
    except OSError:
        return 0.0


def _names(directory: str) -> list[str]:
    try:
        return os.listdir(directory)
    except OSError:
        return []
