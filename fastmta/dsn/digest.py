"""What the postmaster is to be told of, gathered so that it makes few notices."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

FIRST_S = 10.0  # after the first line, in which what belongs to it comes
INTERVAL_S = 600.0  # at least, between two notices of one class
LINES_MAX = 100  # of a notice; the rest is counted
LINE_CHARACTERS_MAX = 900


class Notable(NamedTuple):
    """The arguments of `Bouncer.notice`."""

    kind: str
    lines: list[str]
    left_out: int


class _Class:
    """One class of notices."""

    __slots__ = ("due_at_s", "left_out", "lines", "sent_at_s")

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.left_out = 0
        self.due_at_s: float | None = None
        self.sent_at_s = float("-inf")


class Digest:
    """Lines by class; bounded, whatever happens how often."""

    __slots__ = ("_classes",)

    def __init__(self, classes: Iterable[str]) -> None:
        """Others than `classes` are not gathered."""
        self._classes = {kind: _Class() for kind in classes}

    def heed(self, kind: str, line: str) -> None:
        """Something happened; `line` says what."""
        known = self._classes.get(kind)
        if known is None:
            return
        if len(known.lines) < LINES_MAX:
            known.lines.append(line[:LINE_CHARACTERS_MAX])
        else:
            known.left_out += 1

    def take(self, now_s: float) -> list[Notable]:
        """What is to be sent now (monotonic time); called every few seconds."""
        found = []
        for kind, known in self._classes.items():
            if not known.lines:
                continue
            if known.due_at_s is None:
                known.due_at_s = max(now_s + FIRST_S, known.sent_at_s + INTERVAL_S)
            elif now_s >= known.due_at_s:
                found.append(Notable(kind, known.lines, known.left_out))
                known.lines, known.left_out = [], 0
                known.due_at_s, known.sent_at_s = None, now_s
        return found
