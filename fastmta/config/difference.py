"""What is different in two configurations, by dotted key."""

import dataclasses
from collections.abc import Iterable, Iterator
from typing import TypeVar

from .schema import Config

_T = TypeVar("_T")


def difference(old: Config, new: Config) -> list[str]:
    """The keys whose values differ, in the schema's order: `relay.host`, `route.2.to`.

    A table with a name or number that only one of them has is a key itself: `listen.submission`.
    """
    old, new = (dataclasses.replace(one, warnings=(), places={}) for one in (old, new))
    return list(dict.fromkeys(_differing("", old, new)))


def keeping(old: Config, new: Config, keys: Iterable[str]) -> Config:
    """`new`, but with the values of `old` at these keys, none of which is in a table."""
    for key in keys:
        new = _with(old, new, key.split("."))
    return new


def _with(old: _T, new: _T, names: list[str]) -> _T:
    assert dataclasses.is_dataclass(new)
    assert not isinstance(new, type)
    name, *below = names
    before, after = getattr(old, name), getattr(new, name)
    return dataclasses.replace(new, **{name: _with(before, after, below) if below else before})


def _differing(dotted: str, old: object, new: object) -> Iterator[str]:
    if dataclasses.is_dataclass(old) and type(old) is type(new):
        for one in dataclasses.fields(old):
            name = f"{dotted}.{one.name}" if dotted else one.name
            yield from _differing(name, getattr(old, one.name), getattr(new, one.name))
        return
    before, after = _tables(old), _tables(new)
    if before is None or after is None:
        if old != new:
            yield dotted
        return
    if list(before) != list(after) and sorted(before) == sorted(after):
        yield dotted  # another order of the same
    for name in {**before, **after}:
        if name in before and name in after:
            yield from _differing(f"{dotted}.{name}", before[name], after[name])
        else:
            yield f"{dotted}.{name}"


def _tables(value: object) -> dict[str, object] | None:
    """Tables of which there may be several, by name or number; None: it is something else."""
    if isinstance(value, dict):
        return value
    if isinstance(value, tuple) and all(dataclasses.is_dataclass(one) for one in value):
        return {str(number): one for number, one in enumerate(value, 1)}
    return None
