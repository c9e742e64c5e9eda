"""The schema seen as dotted keys: `spool.directory`, `listen.*.bind`, `retry.first_s`."""

import dataclasses
import re
from collections.abc import Iterator
from typing import Any, NamedTuple, get_args

from .inbound import Listen
from .key import Key
from .relay import NamedRelay, Route, TlsPolicy
from .schema import Config
from .shaping import Profile, Provider, Shape, Tenant

# Tables that there may be several of: by a name of the operator's, or by their number in the file.
NAMED: dict[str, type[Any]] = {
    "listen": Listen,
    "relays": NamedRelay,
    "profile": Profile,
    "tenant": Tenant,
    "provider": Provider,
    "shape": Shape,
}
LISTED: dict[str, type[Any]] = {"route": Route, "tls_policy": TlsPolicy}
_NAME = re.compile(r"[a-z][a-z0-9-]*(?:_[a-z0-9-]+)*")
_NUMBER = re.compile(r"[1-9][0-9]{0,4}")


class Entry(NamedTuple):
    """One key."""

    dotted: str  # a name or number of the operator's is `*`
    key: Key
    default: object


class Section(NamedTuple):
    """One table of keys."""

    dotted: str
    schema: type[Any]  # Any: dataclasses of different shapes
    doc: str


def _sections(schema: type[Any], dotted: str) -> Iterator[Section]:
    yield Section(dotted, schema, _doc(schema) if dotted else "")
    for one in dataclasses.fields(schema):
        prefix = f"{dotted}.{one.name}" if dotted else one.name
        several = NAMED.get(one.name) or LISTED.get(one.name)
        if several is not None and not dotted:
            yield Section(f"{one.name}.*", several, _doc(several))
        elif dataclasses.is_dataclass(one.type):
            assert isinstance(one.type, type)
            yield from _sections(one.type, prefix)


def _doc(schema: type[Any]) -> str:
    return " ".join((schema.__doc__ or "").split())


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
    """The entry of a key whose name or number, if any, is given: `listen.smtp.bind`."""
    first, _, rest = dotted.partition(".")
    if first in NAMED or first in LISTED:
        name, _, leaf = rest.partition(".")
        if not is_name(first, name):
            return None
        dotted = f"{first}.*.{leaf}"
    return ENTRIES.get(dotted)


def is_name(section: str, name: str) -> bool:
    """Whether `name` can stand behind `listen`, `relays`, `route` ..."""
    return (_NUMBER if section in LISTED else _NAME).fullmatch(name) is not None
