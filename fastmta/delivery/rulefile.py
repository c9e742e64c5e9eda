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
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NoReturn

import msgspec

from fastmta.message import OutcomeKind, Scope
from fastmta.message.category import Category

from .rule import COMMANDS, TEXT_MAX, Example, Rule, normalise, parse_example

SHIPPED: Final = Path(__file__).with_name("replies.toml")
FILE_OCTETS_MAX: Final = 1024 * 1024
_CODES: Final = re.compile(r"[45][0-9][0-9]|[45]xx")
_STATUS: Final = re.compile(r"([45x])\.([0-9]{1,3})\.([0-9]{1,3})(?:-([0-9]{1,3}))?")
_LABEL: Final = re.compile(r"[a-z][a-z0-9_-]{0,63}")


class RuleProblem(Exception):
    """A rule file cannot be used; the text names file and line."""


class RuleFile(msgspec.Struct, frozen=True):
    """What a file says: rules in their order, and host name endings by provider."""

    rules: tuple[Rule, ...]
    hosts: dict[str, str]  # `.l.google.com` or a whole name: provider


def read_rules(path: Path) -> RuleFile:
    """The rules of one file. Raises RuleProblem."""
    try:
        octets = path.read_bytes()
        if len(octets) > FILE_OCTETS_MAX:
            raise RuleProblem(f"{path}: larger than {FILE_OCTETS_MAX} octets")
        source = octets.decode("utf-8")
        document = tomllib.loads(source)
    except OSError as error:
        raise RuleProblem(f"{path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise RuleProblem(f"{path}: {error}") from error
    return _Reader(path, source).read(document)


class _Reader:
    """One file on its way to rules; knows the line of what it complains about."""

    def __init__(self, path: Path, source: str) -> None:
        self._path = path
        self._lines = source.split("\n")
        self._heads = [at for at, line in enumerate(self._lines, 1) if _bare(line) == "[[rule]]"]
        self._line = 1

    def read(self, document: dict[str, Any]) -> RuleFile:
        for key in document:
            if key not in ("rule", "hosts"):
                self._line = self._line_of(key, 1, len(self._lines))
                self._fail(f'unknown key "{key}": there are [[rule]] and [hosts]')
        tables = document.get("rule", [])
        if not isinstance(tables, list) or not all(isinstance(one, dict) for one in tables):
            self._fail("rules are written as [[rule]]")
        if len(self._heads) != len(tables):
            self._fail("write each rule under a line [[rule]] of its own")
        rules = tuple(self._rule(table, at) for at, table in enumerate(tables))
        self._line = 1
        names = [rule.name for rule in rules]
        for name in names:
            if names.count(name) > 1:
                self._fail(f'two rules are named "{name}"')
        return RuleFile(rules, dict(self._hosts(document.get("hosts", {}))))

    def _rule(self, table: dict[str, Any], at: int) -> Rule:
        first = self._heads[at]
        ends = [*self._heads, len(self._lines) + 1]
        places = {key: self._line_of(key, first, ends[at + 1]) for key in table}
        values: dict[str, Any] = {}
        for key, value in table.items():
            self._line = places[key]
            reader = _KEYS.get(key)
            if reader is None:
                self._fail(f'unknown key "{key}", known are {", ".join(_KEYS)}')
            try:
                values[key] = reader(value)
            except ValueError as error:
                self._fail(f"{key}: {error}")
        self._line = first
        for key in ("name", "category", "matches"):
            if not values.get(key):
                self._fail(f'a rule needs "{key}"')
        if not any(values.get(key) for key in ("codes", "statuses", "starts", "phrases", "also")):
            self._fail("a rule needs codes, statuses, starts, phrases or also")
        if "kind" in values and not values.get("why"):
            self._fail('a rule with "kind" needs "why"')
        values.pop("why", None)
        return Rule(**values, origin=f"{self._path}:{first}")

    def _hosts(self, table: Any) -> Iterator[tuple[str, str]]:
        if not isinstance(table, dict):
            self._fail("hosts is a table")
        for provider, names in table.items():
            self._line = self._line_of(provider, 1, len(self._lines))
            try:
                label = _label(provider)
                for name in _lower_texts(names):
                    yield name, label
            except ValueError as error:
                self._fail(f"{provider}: {error}")

    def _line_of(self, key: str, first: int, end: int) -> int:
        """The line that sets `key`, from `first` up to `end`; `first` when nobody can tell."""
        for at in range(first, min(end, len(self._lines) + 1)):
            name, equals, _ = self._lines[at - 1].partition("=")
            if _bare(name).strip("[]\"'") == key and (equals or "[" in name):
                return at
        return first

    def _fail(self, text: str) -> NoReturn:
        raise RuleProblem(f"{self._path}:{self._line}: {text}")


def _bare(line: str) -> str:
    return line.partition("#")[0].strip(" \t\r")


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError("a text is expected")
    return value


def _texts(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not value:
        raise ValueError('a list of texts is expected: ["...", "..."]')
    return tuple(_text(one) for one in value)


def _label(value: Any) -> str:
    label = _text(value)
    if _LABEL.fullmatch(label) is None:
        raise ValueError(f'"{label}" is no name: a-z, 0-9, "-", "_"')
    return label


def _labels(value: Any) -> tuple[str, ...]:
    return tuple(_label(one) for one in _texts(value))


def _lower_texts(value: Any) -> tuple[str, ...]:
    texts = _texts(value)
    for text in texts:
        if text != text.lower():
            raise ValueError(f'"{text}": write it in lower case')
    return texts


def _phrases(value: Any) -> tuple[str, ...]:
    texts = _lower_texts(value)
    for text in texts:
        if not text.isascii() or not text.isprintable() or len(text) > TEXT_MAX:
            raise ValueError(f'"{text}": replies are printable ASCII')
        if normalise(text) != text:
            raise ValueError(f'"{text}": addresses, numbers and long words with digits are masked')
    return texts


def _codes(value: Any) -> frozenset[int]:
    codes: set[int] = set()
    for text in _texts(value):
        if _CODES.fullmatch(text) is None:
            raise ValueError(f'"{text}" is none of "421", "4xx", "5xx"')
        first = int(text[0]) * 100
        codes |= set(range(first, first + 100)) if text.endswith("xx") else {int(text)}
    return frozenset(codes)


def _statuses(value: Any) -> frozenset[str]:
    statuses: set[str] = set()
    for text in _texts(value):
        found = _STATUS.fullmatch(text)
        if found is None:
            raise ValueError(f'"{text}" is none of "5.1.1", "x.1.1", "5.7.606-649"')
        kind, subject, first, last = found.groups()
        for detail in range(int(first), int(last or first) + 1):
            statuses |= {f"{one}.{subject}.{detail}" for one in ("45" if kind == "x" else kind)}
    if not statuses:
        raise ValueError("a range that begins after its end")
    return frozenset(statuses)


def _commands(value: Any) -> frozenset[str]:
    commands = frozenset(_texts(value))
    if not commands <= COMMANDS.keys():
        raise ValueError(f"known are {', '.join(COMMANDS)}")
    return commands


def _category(value: Any) -> Category:
    try:
        return Category(_text(value))
    except ValueError:
        known = ", ".join(Category)
        raise ValueError(f'"{value}" is no category, known are {known}') from None


def _scope(value: Any) -> Scope:
    name = _text(value)
    if name != name.lower() or name.upper() not in Scope.__members__:
        known = ", ".join(scope.name.lower() for scope in Scope)
        raise ValueError(f'"{name}" is no scope, known are {known}')
    return Scope[name.upper()]


def _kind(value: Any) -> OutcomeKind:
    if value not in ("deferred", "bounced"):
        raise ValueError('"deferred" or "bounced"')
    return OutcomeKind(value)


def _examples(value: Any) -> tuple[Example, ...]:
    return tuple(parse_example(one) for one in _texts(value))


_KEYS: Final = {
    "name": _label,
    "category": _category,
    "providers": _labels,
    "codes": _codes,
    "statuses": _statuses,
    "commands": _commands,
    "starts": _phrases,
    "phrases": _phrases,
    "also": _phrases,
    "scope": _scope,
    "kind": _kind,
    "why": _text,
    "before": _labels,
    "matches": _examples,
    "not_matches": _examples,
}
