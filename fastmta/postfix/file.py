"""Which configuration file a command means."""

from __future__ import annotations

import os

from .option import Fatal

TYPE_CHECKING = False  # as mypy knows it: importing `typing` takes as long as all of ours
if TYPE_CHECKING:
    from collections.abc import Mapping

FILE_NAME = "fastmta.toml"
DEFAULT_FILE = f"/etc/fastmta/{FILE_NAME}"


def config_file(
    chosen: str | None, environ: Mapping[str, str], status: int | None = None
) -> str | None:
    """The configuration: `-c`, else MAIL_CONFIG, else FASTMTA_CONFIG, else the usual place.

    A directory means the file in it. Raises Fatal, with `status`, if what `-c` or FASTMTA_CONFIG
    names is missing: nothing else can have been meant. MAIL_CONFIG may be meant for a Postfix
    beside us: without our file there it is overlooked.
    """
    if chosen is not None:
        return _named(chosen, status)
    beside = environ.get("MAIL_CONFIG", "")
    path = _file_in(beside)
    if beside and os.path.exists(path):
        return path
    own = environ.get("FASTMTA_CONFIG", "")
    if own:
        return _named(own, status)
    return DEFAULT_FILE if os.path.exists(DEFAULT_FILE) else None


def _file_in(value: str) -> str:
    return os.path.join(value, FILE_NAME) if os.path.isdir(value) else value


def _named(value: str, status: int | None) -> str:
    """What must be there; one that we may not see is."""
    path = _file_in(value)
    try:
        os.stat(path)
    except PermissionError:
        return path
    except OSError as problem:
        raise Fatal(f"open {path}: {problem.strerror}", status) from None
    return path
