"""Which configuration file a command means."""

from __future__ import annotations

import os

from .option import Fatal

TYPE_CHECKING = False  # as mypy knows it: importing `typing` takes as long as all of ours
if TYPE_CHECKING:
    from collections.abc import Mapping

FILE_NAME = "fastmta.toml"
DEFAULT_FILE = f"/etc/fastmta/{FILE_NAME}"


def config_file(chosen: str | None, environ: Mapping[str, str]) -> str | None:
    """The configuration: `-c`, else MAIL_CONFIG, else FASTMTA_CONFIG, else the usual place.

    A directory means the file in it. MAIL_CONFIG may be meant for a Postfix beside us: without our
    file there it is overlooked.
    """
    if chosen is not None:
        path = os.path.join(chosen, FILE_NAME) if os.path.isdir(chosen) else chosen
        if not os.path.exists(path):
            raise Fatal(f"open {path}: No such file or directory")
        return path
    for variable in ("MAIL_CONFIG", "FASTMTA_CONFIG"):
        value = environ.get(variable, "")
        path = os.path.join(value, FILE_NAME) if os.path.isdir(value) else value
        if value and os.path.exists(path):
            return path
    return DEFAULT_FILE if os.path.exists(DEFAULT_FILE) else None
