"""The schema seen as dotted keys: `spool.directory`, `listen.*.bind`, `retry.first_s`."""

import dataclasses
import re
from collections.abc import Iterator
from typing import Any, NamedTuple, get_args

from .inbound import Listen
from .key import Key
from .schema import Config

LISTENER = re.compile(r"[a-z][a-z0-9-]*(?:_[a-z0-9-]+)*")


class Entry(NamedTuple):
    """One key."""

    dotted: str  # a listener's name is `*`
    key: Key
    default: object


class Section(NamedTuple):
    """One table of keys."""

    dotted: str
    schema: type[Any]  # Any: dataclasses of different shapes
    doc: str


def _sections(schema: type[Any], dotted: str) -> Iterator[Section]:
    yield Section(dotted, schema, (schema.__doc__ or "") if dotted else "")
    for one in dataclasses.fields(schema):
        prefix = f"{dotted}.{one.name}" if dotted else one.name
        if one.name == "listen":
            yield Section("listen.*", Listen, Listen.__doc__ or "")
        elif dataclasses.is_dataclass(one.type):
            assert isinstance(one.type, type)
            yield from _sections(one.type, prefix)


def _entries() -> Iterator[Entry]:
    for section in SECTIONS.values():
        for one in dataclasses.fields(section.schema):
            for key in get_args(one.type)[1:]:
                if isinstance(key, Key):
                    dotted = f"{section.dotted}.{one.name}" if section.dotted else one.name
                    yield Entry(dotted, key, one.default)


SECTIONS = {section.dotted: section for section in _sections(Config, "")}
ENTRIES = {entry.dotted: entry for entry in _entries()}


def entry_of(dotted: str) -> Entry | None:
    """The entry of a key whose listener, if any, is named: `listen.smtp.bind`."""
    first, _, rest = dotted.partition(".")
    if first == "listen":
        name, _, leaf = rest.partition(".")
        if not LISTENER.fullmatch(name):
            return None
        dotted = f"listen.*.{leaf}"
    return ENTRIES.get(dotted)
