"""Where a server's directories are, without the time that reading a whole schema takes.

For commands that talk to a server which runs already. Whatever is not as plain as can be is left to
`load`, so the two cannot disagree about a key. Keys that this does not look at are not judged: a
server goes on with what it has, whatever somebody is writing into its file.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, NamedTuple

from .kind import FilePath, Kind

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


class Glimpse(NamedTuple):
    """What a command needs to find a server."""

    spool_directory: str
    control_directory: str  # where its sockets are
    drop_directory: str  # where local programs leave mail


class _Unclear(Exception):
    """`load` has to look."""


def glimpse(
    path: str | None, environ: Mapping[str, str], overrides: Iterable[str] = ()
) -> Glimpse | None:
    """What `load` of the same would say of these keys; None: only `load` can tell, or complain."""
    values = {dotted: default for dotted, (_, default) in KEYS.items()}
    try:
        values |= _of_file(path) if path is not None else {}
        values |= _of_environment(environ)
        values |= _of_overrides(overrides)
    except (_Unclear, OSError, ValueError):
        return None
    return _made(values["spool.directory"], values["control.directory"], values["drop.directory"])


def guess(path: str, environ: Mapping[str, str], overrides: Iterable[str] = ()) -> Glimpse | None:
    """The same of a file that is no TOML: somebody is at work on it, and a server runs by what it
    was before. By the lines that look like these keys; None: that does not help either."""
    values = {dotted: default for dotted, (_, default) in KEYS.items()}
    try:
        values |= _of_lines(path)
        values |= _of_environment(environ)
        values |= _of_overrides(overrides)
    except (_Unclear, OSError, ValueError):
        return None
    return _made(values["spool.directory"], values["control.directory"], values["drop.directory"])


def glimpse_of(config: Config) -> Glimpse:
    """The same of a configuration that is loaded."""
    return _made(config.spool.directory, config.control.directory, config.drop.directory)


def _made(spool: str, control: str, drop: str) -> Glimpse:
    return Glimpse(spool, control or spool, drop or spool.rstrip("/") + _DROP_SUFFIX)


def _checked(dotted: str, value: object) -> str:
    return str(KEYS[dotted][0].check(value))


def _of_file(path: str) -> dict[str, str]:
    with open(path, encoding="utf-8", newline=None) as file:
        table = tomllib.loads(file.read())
    found = {}
    for section, inner in table.items():
        if "." in section:
            raise _Unclear
        for name, value in inner.items() if isinstance(inner, dict) else ():
            if f"{section}.{name}" in KEYS:
                found[f"{section}.{name}"] = _checked(f"{section}.{name}", value)
    if any(not isinstance(table.get(dotted.split(".")[0], {}), dict) for dotted in KEYS):
        raise _Unclear
    return found


def _of_lines(path: str) -> dict[str, str]:
    found, section = {}, ""
    with open(path, encoding="utf-8", errors="replace") as file:
        for line in file:
            text = line.strip()
            if text.startswith("["):
                section = text.strip("[]") + "."
                continue
            name = section + text.partition("=")[0].strip()
            if name in KEYS:
                found[name] = _checked(
                    name, tomllib.loads("value = " + text.partition("=")[2])["value"]
                )
    return found


def _of_environment(environ: Mapping[str, str]) -> dict[str, str]:
    found = {}
    for variable in environ:
        if not variable.startswith(_PREFIX):
            continue
        dotted = variable.removeprefix(_PREFIX).lower().replace("__", ".")
        if dotted in KEYS and variable == variable.upper():
            found[dotted] = _checked(dotted, environ[variable])
        elif dotted.removesuffix("_file") in KEYS:  # or a second way to write it
            raise _Unclear
    return found


def _of_overrides(overrides: Iterable[str]) -> dict[str, str]:
    found = {}
    for override in overrides:
        dotted, equals, text = override.partition("=")
        dotted = dotted.strip()
        if not equals:
            raise _Unclear
        if dotted in KEYS:
            found[dotted] = _checked(dotted, text)
    return found
