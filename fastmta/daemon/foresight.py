"""What a configuration promises and the system will not let it keep: warnings for a check or start.

None of it stops a server that works otherwise.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator

from fastmta.config import Config
from fastmta.config.catalogue import entry_of
from fastmta.config.glimpse import glimpse_of
from fastmta.config.kind import FilePath, Listing
from fastmta.control.access import Access

from .footing import is_closed
from .privilege import ROOT, find_identity

# Made or written by the server's user, or for it.
_NOT_READ = (
    "spool.directory", "control.directory", "drop.directory", "journal.file", "journal.json_file",
)  # fmt: skip


def try_reading(config: Config) -> list[str]:
    """As root: files that the user whom the server becomes will not be able to read.

    Raises BadStart: there is no such user.
    """
    identity = find_identity(config.process) if os.geteuid() == ROOT else None
    if identity is None:
        return []
    said = []
    for key, path in files_read(config):
        if is_closed(path, identity):
            what = "a new one is taken up by a restart only" if key.startswith("tls.") else ""
            what = what or "no start, or no reload, will work"
            said.append(f"{key}: process.user {identity.name} cannot read {path}: {what}")
    places = (place.rpartition(":") for place in config.places.values())
    for path in sorted({path for path, _, line in places if line.isdigit()}):  # not environment
        if is_closed(path, identity):
            said.append(f"{path}: process.user {identity.name} cannot read it: no reload will work")
    return said


def try_access(config: Config) -> list[str]:
    """Others who may give orders, or look, and cannot."""
    control = config.control
    said = []
    for key, names in (("control.users", control.users), ("control.readers", control.readers)):
        for name in Access(names).unknown:
            kind = "group" if name.startswith("@") else "user"
            said.append(f"{key}: there is no {kind} {name.removeprefix('@')}: nobody is meant")
    if control.is_shared:
        path = glimpse_of(config).control_directory
        try:
            is_reachable = bool(os.stat(path).st_mode & 0o011)
        except OSError:
            is_reachable = bool(control.directory)  # it will be made so
        if not is_reachable:
            key = "users" if control.users else "readers" if control.readers else "mailq_users"
            said.append(
                f"control.{key}: nobody but its owner can come to {path}: set control.directory to "
                "another one, such as /run/fastmta"
            )
    return said


def files_read(config: Config) -> list[tuple[str, str]]:
    """(key, path) of every file that the server reads."""
    return [
        (dotted, path)
        for dotted, value in _leaves("", config)
        if dotted not in _NOT_READ and _is_path(dotted)
        for path in (value if isinstance(value, tuple) else (value,))
        if isinstance(path, str) and path
    ]


def _is_path(dotted: str) -> bool:
    entry = entry_of(dotted)
    kind = None if entry is None else entry.key.kind
    return isinstance(kind.item if isinstance(kind, Listing) else kind, FilePath)


def _leaves(dotted: str, value: object) -> Iterator[tuple[str, object]]:
    """Keys and values, tables by name or number."""
    inner: dict[str, object] = {}
    if dataclasses.is_dataclass(value):
        inner = {one.name: getattr(value, one.name) for one in dataclasses.fields(value)}
    elif isinstance(value, dict) and dotted != "places":
        inner = value
    elif isinstance(value, tuple) and all(map(dataclasses.is_dataclass, value)):
        inner = {str(number): one for number, one in enumerate(value, 1)}
    if not inner:
        yield dotted, value
    for name, below in inner.items():
        yield from _leaves(f"{dotted}.{name}" if dotted else name, below)
