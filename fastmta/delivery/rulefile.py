"""A TOML file of rules for replies, with the line of each mistake in it.

[[rule]]
name = "gmail-rate"
providers = ["gmail"]                       # none: everybody's replies
codes = ["4xx"]                             # "421", "4xx", "5xx"
statuses = ["x.7.28", "5.7.606-649"]        # x: 4 or 5
phrases = ["unusual rate of"]               # in lower case, as `normalise` leaves replies
category = "soft.rate"
scope = "site"                              # none: as far as the command reaches
matches = ["421 4.7.28 Gmail has detected an unusual rate of mail"]
not_matches = ["450 4.2.1 The user is over quota (in reply to MAIL FROM command)"]
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any, Final

import msgspec

from .rule import Rule
from .rulevalue import CONDITIONS, READERS, nearest, read_label, read_lower_texts

SHIPPED: Final = Path(__file__).with_name("replies.toml")
FILE_OCTETS_MAX: Final = 1024 * 1024
_PLACE: Final = re.compile(r" \(at (?:line ([0-9]+), column [0-9]+|end of document)\)")


class RuleProblem(Exception):
    """A rule file cannot be used; each line of the text is `file:line: what is wrong`."""


class RuleFile(msgspec.Struct, frozen=True):
    """What a file says: rules in their order, and host name endings by provider."""

    rules: tuple[Rule, ...]
    hosts: dict[str, str]  # `.l.google.com` or a whole name: provider


def read_rules(path: Path) -> RuleFile:
    """The rules of one file. Raises RuleProblem."""
    try:
        octets = path.read_bytes()
    except OSError as error:
        raise RuleProblem(f"{path}: {error.strerror}") from error
    if len(octets) > FILE_OCTETS_MAX:
        raise RuleProblem(f"{path}: larger than {FILE_OCTETS_MAX} octets")
    try:
        source = octets.decode("utf-8")
    except UnicodeDecodeError as error:
        line = octets.count(b"\n", 0, error.start) + 1
        raise RuleProblem(f"{path}:{line}: is not UTF-8 text") from error
    try:
        document = tomllib.loads(source)
    except tomllib.TOMLDecodeError as error:
        found = _PLACE.search(str(error))
        line = int(found[1]) if found and found[1] else source.count("\n") + 1
        reason = str(error)[: found.start()] if found else str(error)
        raise RuleProblem(f"{path}:{line}: not valid TOML: {reason}") from error
    return _Reader(path, source).read(document)


class _Reader:
    """One file on its way to rules; knows the line of each mistake."""

    def __init__(self, path: Path, source: str) -> None:
        self._path = path
        self._lines = source.split("\n")
        self._heads = [at for at, line in enumerate(self._lines, 1) if _bare(line) == "[[rule]]"]
        self._problems: list[tuple[int, str]] = []

    def read(self, document: dict[str, Any]) -> RuleFile:
        """Raises RuleProblem with every mistake, in the order of their lines."""
        for key in document:
            if key not in ("rule", "hosts"):
                self._note(self._line_of(key), f'unknown key "{key}": there are [[rule]], [hosts]')
        rules = self._rules(document.get("rule", []))
        hosts = self._hosts(document.get("hosts", {}))
        if self._problems:
            lines = [f"{self._path}:{line}: {text}" for line, text in sorted(self._problems)]
            raise RuleProblem("\n".join(dict.fromkeys(lines)))
        return RuleFile(tuple(rules), hosts)

    def _note(self, line: int, text: str) -> None:
        self._problems.append((line, text))

    def _rules(self, tables: Any) -> list[Rule]:
        if not isinstance(tables, list) or not all(isinstance(one, dict) for one in tables):
            self._note(self._line_of("rule"), "rules are written as [[rule]]")
            return []
        if len(self._heads) != len(tables):
            self._note(self._line_of("rule"), "write each rule under a line [[rule]] of its own")
            return []
        rules = []
        names: set[str] = set()
        for table, first in zip(tables, self._heads, strict=True):
            rule = self._rule(table, first)
            if rule is None:
                continue
            if rule.name in names:
                self._note(first, f'two rules are named "{rule.name}": rename this one')
            names.add(rule.name)
            rules.append(rule)
        return rules

    def _rule(self, table: dict[str, Any], first: int) -> Rule | None:
        """The rule that begins on line `first`; None: it was complained about."""
        count = len(self._problems)
        end = next((head for head in self._heads if head > first), len(self._lines) + 1)
        values: dict[str, Any] = {}
        for key, value in table.items():
            line = self._line_of(key, first, end)
            reader = READERS.get(key)
            if reader is None:
                near = nearest(key, READERS) or f", known are {', '.join(READERS)}"
                self._note(line, f'unknown key "{key}"{near}')
                continue
            try:
                values[key] = reader(value)
            except ValueError as error:
                self._note(line, f"{key}: {error}")
        for key in ("name", "category", "matches"):
            if key not in table:
                self._note(first, f'a rule needs "{key}"')
        if not any(key in table for key in CONDITIONS):
            self._note(first, f"a rule needs one of {', '.join(CONDITIONS)}")
        if "kind" in table and "why" not in table:
            self._note(first, 'a rule with "kind" needs "why"')
        if len(self._problems) > count:
            return None
        values.pop("why", None)
        return Rule(**values, origin=f"{self._path}:{first}")

    def _hosts(self, table: Any) -> dict[str, str]:
        hosts: dict[str, str] = {}
        first = self._line_of("hosts")
        if not isinstance(table, dict):
            self._note(first, "hosts is a table: [hosts]")
            return hosts
        for provider, names in table.items():
            try:
                label = read_label(provider)
                hosts.update((name, label) for name in read_lower_texts(names))
            except ValueError as error:
                self._note(self._line_of(provider, first), f"{provider}: {error}")
        return hosts

    def _line_of(self, key: str, first: int = 1, end: int | None = None) -> int:
        """The line that sets `key`, from `first` up to `end`; `first` when nobody can tell."""
        end = len(self._lines) + 1 if end is None else end
        for at in range(first, end):
            name, equals, _ = self._lines[at - 1].partition("=")
            if _bare(name).strip("[]\"' ") == key and (equals or "[" in name):
                return at
        return first


def _bare(line: str) -> str:
    return line.partition("#")[0].strip(" \t\r")
