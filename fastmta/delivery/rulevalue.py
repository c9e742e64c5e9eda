"""The values of a rule file: each reader takes what TOML gave, or says what is expected."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from typing import Any, Final

from fastmta.message import OutcomeKind, Scope
from fastmta.message.category import Category

from .rule import COMMANDS, TEXT_MAX, Example, normalise, parse_example

_CODES: Final = re.compile(r"[45][0-9][0-9]|[45]xx")
_STATUS: Final = re.compile(r"([45x])\.([0-9]{1,3})\.([0-9]{1,3})(?:-([0-9]{1,3}))?")
_LABEL: Final = re.compile(r"[a-z][a-z0-9_-]{0,63}")
CONDITIONS: Final = ("codes", "statuses", "starts", "phrases", "also")  # a rule has one of them


def nearest(word: str, known: Iterable[str]) -> str:
    """`; did you mean X?`, or nothing when none is near."""
    near = difflib.get_close_matches(word, [str(one) for one in known], n=1)
    return f"; did you mean {near[0]}?" if near else ""


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError("a text is expected")
    return value


def _texts(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not value:
        raise ValueError('a list of texts is expected: ["...", "..."]')
    return tuple(_text(one) for one in value)


def read_label(value: Any) -> str:
    """A name. Raises ValueError."""
    label = _text(value)
    if _LABEL.fullmatch(label) is None:
        raise ValueError(f'"{label}" is no name: a-z, 0-9, "-", "_"')
    return label


def _labels(value: Any) -> tuple[str, ...]:
    return tuple(read_label(one) for one in _texts(value))


def read_lower_texts(value: Any) -> tuple[str, ...]:
    """Texts in lower case, one at least. Raises ValueError."""
    texts = _texts(value)
    for text in texts:
        if text != text.lower():
            raise ValueError(f'"{text}": write it in lower case')
    return texts


def _phrases(value: Any) -> tuple[str, ...]:
    texts = read_lower_texts(value)
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
        near = nearest(value, Category)
        raise ValueError(f'"{value}" is no category{near or ", known are " + known}') from None


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


READERS: Final = {
    "name": read_label,
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
