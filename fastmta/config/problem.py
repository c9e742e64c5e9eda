"""What is wrong with a configuration, said so that it can be mended at once."""

import difflib
import re
from collections.abc import Iterable
from typing import NamedTuple

# `smtp://name:password@host` is no way to write a relay, but it is written.
_LOGIN = re.compile(r"((?:[A-Za-z0-9+.-]+://)?)[^\s\"/@:]*:[^\s\"@]*@")


class Problem(NamedTuple):
    """One thing that is wrong (or, as a warning, doubtful)."""

    place: str  # `file:line`, `environment` or `--set`
    key: str  # dotted key, or the name of the environment variable
    text: str

    def __str__(self) -> str:
        """In one line, without a login that stands in the value that is wrong."""
        text = _LOGIN.sub(r"\1***@", self.text)
        return f"{self.place}: {self.key}: {text}" if self.key else f"{self.place}: {text}"


class ConfigError(Exception):
    """The configuration cannot be used; `problems` names every reason."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


def suggest(word: str, known: Iterable[str]) -> str:
    """`; did you mean X?` for the nearest of `known`, or nothing when none is near."""
    near = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f"; did you mean {near[0]}?" if near else ""
