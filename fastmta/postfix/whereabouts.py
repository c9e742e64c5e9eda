"""Where the drop directory is, in the time that a command has which is called for each message.

A file in which the keys stand as plainly as can be is read here, line by line; anything else, and
every variable of the environment that sets a key of a section, is left to `glimpse`, which is
slower to import. So the two cannot disagree.
"""

from __future__ import annotations

import os

_SPOOL = "/var/lib/fastmta"  # as `glimpse` has it; a test compares
_SUFFIX = "-drop"
_SECTIONS = ("spool", "drop")


def drop_directory(path: str | None) -> str | None:
    """The directory that the configuration at `path` names; None: it is not that plain."""
    for variable in os.environ:
        if variable.startswith("FASTMTA_") and "__" in variable:  # a key of a section
            return None
    found = {} if path is None else _directories(path)
    if found is None:
        return None
    return found.get("drop") or found.get("spool", _SPOOL).rstrip("/") + _SUFFIX


def _directories(path: str) -> dict[str, str] | None:
    """`directory` of [spool] and [drop], where they are set."""
    try:
        with open(path, encoding="utf-8") as file:
            text = file.read()
    except (OSError, ValueError):
        return None
    if '"""' in text or "'''" in text or "\\" in text:
        return None
    found: dict[str, str] = {}
    section = ""
    for line in text.split("\n"):
        line = line.strip(" \t\r")
        if line.startswith("[") and _is_about_us(line):
            if line not in ("[spool]", "[drop]"):
                return None
            section = line[1:-1]
        elif line.startswith("["):
            if not line.strip("[]").replace(".", "").replace("-", "").replace("_", "").isalnum():
                return None
            section = "?"
        elif "=" in line and not line.startswith("#"):
            name, _, value = line.partition("=")
            name = name.strip(" \t")
            if not section and _is_about_us(name):  # a dotted key, as in a file without sections
                owner, _, name = name.partition(".")
                if not name.replace("_", "").replace(".", "").isalnum() or not owner.isalnum():
                    return None
            else:
                owner = section
            if owner in _SECTIONS and "directory" in name:
                plain = _plain(value.strip(" \t"))
                if name != "directory" or plain is None or owner in found:
                    return None
                found[owner] = plain
    return found


def _is_about_us(text: str) -> bool:
    return any(section in text for section in _SECTIONS)


def _plain(value: str) -> str | None:
    """What stands between double quotes, and nothing behind them; an absolute path."""
    inner = value[1:-1]
    is_quoted = len(value) > 2 and value[0] == value[-1] == '"' and '"' not in inner
    is_path = inner.startswith("/") and inner.isprintable() and "=" not in inner
    return inner if is_quoted and is_path else None
