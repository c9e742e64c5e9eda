"""Where a server's directories are, without the time that reading a whole schema takes.

For commands that talk to a server which runs already. Whatever is not as plain as can be is left to
`load`, so the two cannot disagree about a key. Keys that this does not look at are not judged: a
server goes on with what it has, whatever somebody is writing into its file.
"""

from __future__ import annotations

import contextlib
import tomllib
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from .kind import Choice, FilePath, Kind

if TYPE_CHECKING:
    from .schema import Config

_PREFIX = "FASTMTA_"
_DROP_SUFFIX = "-drop"  # beside the spool, which is closed to users
# As the schema has them; a test compares.
KEYS: dict[str, tuple[Kind, str]] = {
    "spool.directory": (FilePath(), "/var/lib/fastmta"),
    "control.directory": (FilePath(may_be_empty=True), ""),
    "drop.directory": (FilePath(may_be_empty=True), ""),
}
LOG_KEYS: dict[str, tuple[Kind, str]] = {
    "journal.target": (Choice("file", "syslog", "journald"), "file"),
    "journal.file": (FilePath(may_be_dash=True), "-"),
    "journal.json_file": (FilePath(may_be_empty=True), ""),
}
_Keys: TypeAlias = Mapping[str, tuple[Kind, str]]


class Glimpse(NamedTuple):
    """What a command needs to find a server."""

    spool_directory: str
    control_directory: str  # where its sockets are
    drop_directory: str  # where local programs leave mail


class LogGlimpse(NamedTuple):
    """Where a server's log goes: keys of `journal`."""

    target: str
    file: str
    json_file: str


class _Unclear(Exception):
    """`load` has to look."""


def glimpse(
    path: str | None, environ: Mapping[str, str], overrides: Iterable[str] = ()
) -> Glimpse | None:
    """What `load` of the same would say of these keys; None: only `load` can tell, or complain."""
    values = {dotted: default for dotted, (_, default) in KEYS.items()}
    try:
        values |= _of_file(path, KEYS) if path is not None else {}
        values |= _of_environment(environ, KEYS)
        values |= _of_overrides(overrides, KEYS)
    except (_Unclear, OSError, ValueError):
        return None
    return _made(values["spool.directory"], values["control.directory"], values["drop.directory"])


def guess(path: str, environ: Mapping[str, str], overrides: Iterable[str] = ()) -> Glimpse | None:
    """The same of a file that is no TOML: somebody is at work on it, and a server runs by what it
    was before. By the lines that look like these keys; None: that does not help either."""
    values = {dotted: default for dotted, (_, default) in KEYS.items()}
    try:
        values |= _of_lines(path, KEYS)
        values |= _of_environment(environ, KEYS)
        values |= _of_overrides(overrides, KEYS)
    except (_Unclear, OSError, ValueError):
        return None
    return _made(values["spool.directory"], values["control.directory"], values["drop.directory"])


def guess_log(
    path: str, environ: Mapping[str, str], overrides: Iterable[str] = ()
) -> LogGlimpse | None:
    """Where the log goes by a file that `load` refuses; None: that cannot be told."""
    flags = tuple(overrides)
    for read in (_of_file, _of_lines):
        with contextlib.suppress(_Unclear, OSError, ValueError):
            values = {dotted: default for dotted, (_, default) in LOG_KEYS.items()}
            values |= read(path, LOG_KEYS)
            values |= _of_environment(environ, LOG_KEYS)
            values |= _of_overrides(flags, LOG_KEYS)
            return LogGlimpse(*values.values())
    return None


def glimpse_of(config: Config) -> Glimpse:
    """The same of a configuration that is loaded."""
    return _made(config.spool.directory, config.control.directory, config.drop.directory)


def log_glimpse_of(config: Config) -> LogGlimpse:
    """Where the log goes by a configuration that is loaded."""
    journal = config.journal
    return LogGlimpse(journal.target, journal.file, journal.json_file)


def _made(spool: str, control: str, drop: str) -> Glimpse:
    return Glimpse(spool, control or spool, drop or spool.rstrip("/") + _DROP_SUFFIX)


def _checked(keys: _Keys, dotted: str, value: object) -> str:
    return str(keys[dotted][0].check(value))


def _of_file(path: str, keys: _Keys) -> dict[str, str]:
    with open(path, encoding="utf-8", newline=None) as file:
        table = tomllib.loads(file.read())
    found = {}
    for section, inner in table.items():
        if "." in section:
            raise _Unclear
        for name, value in inner.items() if isinstance(inner, dict) else ():
            if f"{section}.{name}" in keys:
                found[f"{section}.{name}"] = _checked(keys, f"{section}.{name}", value)
    if any(not isinstance(table.get(dotted.split(".")[0], {}), dict) for dotted in keys):
        raise _Unclear
    return found


def _of_lines(path: str, keys: _Keys) -> dict[str, str]:
    found, section = {}, ""
    with open(path, encoding="utf-8", errors="replace") as file:
        for line in file:
            text = line.strip()
            if text.startswith("["):
                section = text.strip("[]") + "."
                continue
            name = section + text.partition("=")[0].strip()
            if name in keys:
                value = tomllib.loads("value = " + text.partition("=")[2])["value"]
                found[name] = _checked(keys, name, value)
    return found


def _of_environment(environ: Mapping[str, str], keys: _Keys) -> dict[str, str]:
    found = {}
    for variable in environ:
        if not variable.startswith(_PREFIX):
            continue
        dotted = variable.removeprefix(_PREFIX).lower().replace("__", ".")
        if dotted in keys and variable == variable.upper():
            found[dotted] = _checked(keys, dotted, environ[variable])
        elif dotted.removesuffix("_file") in keys:  # or a second way to write it
            raise _Unclear
    return found


def _of_overrides(overrides: Iterable[str], keys: _Keys) -> dict[str, str]:
    found = {}
    for override in overrides:
        dotted, equals, text = override.partition("=")
        dotted = dotted.strip()
        if not equals:
            raise _Unclear
        if dotted in keys:
            found[dotted] = _checked(keys, dotted, text)
    return found
