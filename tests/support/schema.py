"""The schema that docs/json.md documents, read from its tables, and values held against it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

PAGE = Path(__file__).parents[2] / "docs" / "json.md"
_ROW = re.compile(r"\| `(\w+)` \| ([^|]+?) \|.*\|")
_COMMAND = re.compile(r"\| (`.+`) \| (.*?) ?\| (.+) \|")
_SIMPLE: dict[str, type | tuple[type, ...]] = {
    "string": str,
    "integer": int,
    "number": (int, float),
    "fact": (int, str),
}
_BASES = {"log line": "event"}  # objects that have all fields of another as well


class Field(NamedTuple):
    types: tuple[str, ...]  # one of these; "null" among them
    is_optional: bool


class Schema:
    """What the page says. A value is checked against the name of an object, or a type of the page.

    `seen` collects the fields that values had, so that a test can tell which the page has in vain.
    """

    def __init__(self, text: str = "") -> None:
        self.objects: dict[str, dict[str, Field]] = {}
        self.commands: dict[str, tuple[str, tuple[str, ...]]] = {}
        self.seen: dict[str, set[str]] = {}
        title = ""
        for line in (text or PAGE.read_text()).split("\n"):
            if line.startswith("#"):
                title = line.lstrip("# ")
            elif (command := _COMMAND.fullmatch(line)) and title == "Commands":
                self._add_command(*command.groups())
            elif row := _ROW.fullmatch(line):
                self.objects.setdefault(title, {})[row[1]] = _field(row[2])
        for name, base in _BASES.items():
            if name in self.objects:
                self.objects[name] = {**self.objects[base], **self.objects[name]}

    def _add_command(self, names: str, document: str, lines: str) -> None:
        group = ""
        kinds = tuple(part for part in re.split(r", or |, ", lines) if part)
        for name in re.findall(r"`([^`]+)`", names):
            words = name.split(" ", 1)
            group = words[0] if len(words) > 1 else group
            full = name if len(words) > 1 or "," not in names else f"{group} {name}"
            self.commands[full] = (document, kinds)

    def problems(self, value: Any, type: str, where: str = "") -> Iterator[str]:
        """What is wrong with `value`."""
        if type == "null":
            if value is not None:
                yield f"{where}: not null"
        elif type == "boolean":
            if not isinstance(value, bool):
                yield f"{where}: no boolean but {value!r}"
        elif type in _SIMPLE:
            if not isinstance(value, _SIMPLE[type]) or isinstance(value, bool):
                yield f"{where}: no {type} but {value!r}"
        elif type.startswith("["):
            yield from self._array(value, type[1:-1], where)
        elif type.startswith("{"):
            yield from self._map(value, type[1:-1], where)
        else:
            yield from self._object(value, type, where)

    def _array(self, value: Any, type: str, where: str) -> Iterator[str]:
        if not isinstance(value, list):
            yield f"{where}: no array but {value!r}"
            return
        for number, item in enumerate(value):
            yield from self.problems(item, type, f"{where}[{number}]")

    def _map(self, value: Any, type: str, where: str) -> Iterator[str]:
        if not isinstance(value, dict):
            yield f"{where}: no object but {value!r}"
            return
        for name, item in value.items():
            yield from self.problems(item, type, f"{where}.{name}")

    def _object(self, value: Any, type: str, where: str) -> Iterator[str]:
        fields = self.objects[type]
        if not isinstance(value, dict):
            yield f"{where}: no {type} but {value!r}"
            return
        self.seen.setdefault(type, set()).update(value)
        for name, item in value.items():
            if name not in fields:
                yield f"{where}.{name}: the page has no such field of a {type}"
                continue
            found = [
                list(self.problems(item, one, f"{where}.{name}")) for one in fields[name].types
            ]
            if all(found):
                yield from found[0]
        for name, field in fields.items():
            if name not in value and not field.is_optional:
                yield f"{where}: no {name}, which a {type} has"


def _field(text: str) -> Field:
    kinds = text.removesuffix(", optional")
    return Field(tuple(kinds.split(" or ")), kinds != text)
