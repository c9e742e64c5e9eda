"""Accepted differences between our lines and Postfix's, each with its reason."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

COUNT_MAX = 20


@dataclass(frozen=True, slots=True)
class Divergence:
    """One row of the table."""

    name: str
    ours: tuple[re.Pattern[str], ...]
    theirs: tuple[re.Pattern[str], ...]
    situations: frozenset[str]  # empty: all


def load(file: Path) -> list[Divergence]:
    rows = tomllib.loads(file.read_text())["divergence"]
    assert len(rows) <= COUNT_MAX, "too many to be exceptions"
    found = []
    for row in rows:
        assert row["reason"], row["name"]
        assert row.keys() <= {"name", "reason", "ours", "theirs", "situations"}, row["name"]
        ours, theirs = _patterns(row.get("ours", ())), _patterns(row.get("theirs", ()))
        found.append(Divergence(row["name"], ours, theirs, frozenset(row.get("situations", ()))))
    return found


def _patterns(texts: Sequence[str]) -> tuple[re.Pattern[str], ...]:
    return tuple(re.compile(text) for text in texts)


def unexplained(
    divergences: Sequence[Divergence], situation: str, ours: list[str], theirs: list[str]
) -> tuple[list[str], set[str]]:
    """What no divergence takes, marked with whose it is, and the names of those that took some."""
    left, used = [], set()
    for mark, lines in (("-", theirs), ("+", ours)):
        for line in lines:
            name = _name_of(divergences, situation, mark, line)
            if name:
                used.add(name)
            else:
                left.append(f"{mark} {line}")
    return left, used


def _name_of(divergences: Sequence[Divergence], situation: str, mark: str, line: str) -> str:
    for one in divergences:
        if one.situations and situation not in one.situations:
            continue
        patterns = one.ours if mark == "+" else one.theirs
        if any(pattern.fullmatch(line) for pattern in patterns):
            return one.name
    return ""
