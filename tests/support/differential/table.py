"""The table of differences that have a name, and what it may not have in it.

A class is a name, the servers it is about, the section of an RFC, the reason, and rows that say
which differences it takes. One that takes differences in what is taken or stored must say where the
project's design has settled it (`design`): without that it does not apply to such a difference.
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from pathlib import Path

from .play import CLOSE, Difference

CLASSES_MAX = 20
_DECISIVE = frozenset({"MAIL", "RCPT", "DATA", "BDAT", "content"})  # positive: mail is on its way


@dataclass(frozen=True, slots=True)
class Row:
    """What a difference has to be like; what is not given may be anything."""

    server: str
    verbs: frozenset[str]
    sent: re.Pattern[bytes]
    ours: frozenset[int]
    theirs: frozenset[int]
    is_trusted: bool | None

    def takes(self, server: str, difference: Difference) -> bool:
        return (
            self.server in ("", server)
            and difference.verb in self.verbs
            and difference.ours.code in self.ours
            and difference.theirs.code in self.theirs
            and self.is_trusted in (None, difference.is_trusted)
            and self.sent.search(difference.octets) is not None
        )


@dataclass(frozen=True, slots=True)
class DivergenceClass:
    """One kind of difference that is as it should be."""

    name: str
    servers: frozenset[str]
    rfc: str
    reason: str
    design: str
    rows: tuple[Row, ...]

    def takes(self, server: str, difference: Difference) -> bool:
        if server not in self.servers or not any(
            row.takes(server, difference) for row in self.rows
        ):
            return False
        return bool(self.design) or not is_decisive(difference)


def is_decisive(difference: Difference) -> bool:
    """One of the two takes mail, or goes on, where the other does not; or keeps other octets."""
    ours, theirs = difference.ours.is_positive, difference.theirs.is_positive
    return difference.verb == "stored" or (difference.verb in _DECISIVE and ours != theirs)


class Table:
    """All classes; raises ValueError when the file breaks its own rules."""

    def __init__(self, path: Path) -> None:
        entries = tomllib.loads(path.read_text())["class"]
        self.classes = tuple(_read_class(entry) for entry in entries)
        names = [one.name for one in self.classes]
        if len(names) > CLASSES_MAX or len(set(names)) != len(names):
            raise ValueError(f"{path}: {len(names)} classes, at most {CLASSES_MAX}, each once")

    def name_of(self, server: str, difference: Difference) -> str:
        """Its class, or nothing."""
        for one in self.classes:
            if one.takes(server, difference):
                return one.name
        return ""


def _read_class(entry: dict[str, object]) -> DivergenceClass:
    texts = {key: entry.get(key, "") for key in ("name", "rfc", "reason", "design")}
    rows, servers = entry.get("row"), entry.get("servers")
    if not isinstance(rows, list) or not isinstance(servers, list) or not servers:
        raise ValueError(f"{texts['name']}: rows and servers are missing")
    name, rfc, reason, design = (str(text) for text in texts.values())
    if not name or not reason or re.fullmatch(r"RFC \d{3,5} [\d.]+", rfc) is None:
        raise ValueError(f"{name}: needs a name, one RFC section and a reason")
    return DivergenceClass(
        name, frozenset(servers), rfc, reason, design, tuple(map(_read_row, rows))
    )


def _read_row(entry: dict[str, object]) -> Row:
    unknown = entry.keys() - {"server", "verbs", "sent", "ours", "theirs", "client"}
    verbs, ours, theirs = (entry.get(key) for key in ("verbs", "ours", "theirs"))
    if unknown or not (
        isinstance(verbs, list) and isinstance(ours, list) and isinstance(theirs, list)
    ):
        raise ValueError(f"a row has {sorted(entry)}")
    client = entry.get("client")
    return Row(
        str(entry.get("server", "")),
        frozenset(CLOSE if verb == "CLOSE" else verb for verb in verbs),
        re.compile(str(entry.get("sent", "")).encode("latin-1"), re.IGNORECASE | re.DOTALL),
        frozenset(ours),
        frozenset(theirs),
        None if client is None else client == "trusted",
    )
