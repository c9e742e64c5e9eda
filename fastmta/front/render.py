"""Values to text: Prometheus' exposition format 0.0.4."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from fastmta.journal.family import BOUNDS_S, DESK, FAMILIES, NANO, Family

from .reading import Labels, Value, Values

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_ESCAPES = str.maketrans({"\\": "\\\\", '"': '\\"', "\n": "\\n"})
_NAMES_KEPT = 65_536
_names: dict[tuple[str, tuple[str, ...], Labels], str] = {}


def render(values: Values) -> str:
    """All families that have a value, in the order of the catalogue."""
    lines: list[str] = []
    for family in (*FAMILIES, *DESK):
        of_family = values.get(family)
        if of_family:
            lines.append(head(family.full_name, family.kind.value, family.help))
            for labels, value in of_family.items():
                lines += _samples(family, labels, value)
    lines.append("")
    return "\n".join(lines)


def head(name: str, kind: str, help: str) -> str:
    """What stands in front of the samples of a metric."""
    text = help.replace("\\", "\\\\").replace("\n", "\\n")
    return f"# HELP {name} {text}\n# TYPE {name} {kind}"


def labelled(name: str, names: tuple[str, ...], labels: Labels) -> str:
    """`name{a="x"}`."""
    if not names:
        return name
    key = (name, names, labels)
    text = _names.get(key)
    if text is None:
        pairs = ",".join(
            f'{label}="{value.translate(_ESCAPES)}"'
            for label, value in zip(names, labels, strict=True)
        )
        if len(_names) >= _NAMES_KEPT:
            _names.clear()
        text = _names[key] = f"{name}{{{pairs}}}"
    return text


def histogram(
    name: str, labels: Mapping[str, str], bounds: tuple[float, ...], words: list[int]
) -> Iterator[str]:
    """The samples of one histogram: buckets add up, and count what is in them."""
    names, values = tuple(labels), tuple(labels.values())
    total = 0
    for bound, count in zip((*map(str, bounds), "+Inf"), words, strict=False):
        total += count
        yield f"{labelled(f'{name}_bucket', (*names, 'le'), (*values, bound))} {total}"
    yield f"{labelled(f'{name}_sum', names, values)} {words[-1] * NANO!r}"
    yield f"{labelled(f'{name}_count', names, values)} {total}"


def _samples(family: Family, labels: Labels, value: Value) -> Iterator[str]:
    name, names = family.full_name, family.shown_labels
    if isinstance(value, list):
        named = dict(zip(names, labels, strict=True))
        yield from histogram(name, named, BOUNDS_S[family.bounds], value)
    elif family.scale != 1.0:
        yield f"{labelled(name, names, labels)} {value * family.scale!r}"
    else:
        yield f"{labelled(name, names, labels)} {value!r}"
