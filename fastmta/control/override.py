"""Rates, limits and pauses that an operator set on the running system. Values only, no I/O.

    {"version": 1, "shapes": {
      "pause domain:slow.example": {"domain": ["slow.example"], "paused": true,
                                    "until": null, "set_by": "root", "set_at": 1790000000},
      "limit site:mx.big.example tenant:acme": {"site": ["mx.big.example"], "tenant": ["acme"],
                                    "rate": "100/min, burst 10", "until": 1790003600, ...}}}

An override wins over a [shape.*] of the same name in the configuration, until it is removed or has
ended. Pauses and limits of the same selector are two, so that each has its own end.
"""

from __future__ import annotations

from datetime import UTC, datetime
from difflib import get_close_matches
from typing import Annotated, Final, TypeAlias

import msgspec

from fastmta.budget.rate import read_rate
from fastmta.budget.shape import Shape

VERSION = 1
OVERRIDES_MAX = 1_000
VALUE_CHARACTERS_MAX = 300  # of a selector; a label of a site has at most 200
NAME_CHARACTERS_MAX = 2_000
DIMENSIONS: Final = ("site", "domain", "provider", "source", "tenant")
_KINDS: Final = ", ".join(f"{name}:" for name in DIMENSIONS)
_NS = 1_000_000_000
_FOLDED: Final = ("site", "domain")  # case does not count

Values: TypeAlias = tuple[str, ...]
Moment: TypeAlias = Annotated[float, msgspec.Meta(ge=0, le=1e11)]  # Unix time


class OverrideError(Exception):
    """What an operator wants, or what the file says, makes no sense; the text is a sentence."""


class Override(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True
):
    """One override, as the file has it."""

    site: Values = ()
    domain: Values = ()
    provider: Values = ()
    source: Values = ()
    tenant: Values = ()
    rate: str = ""
    connections: Annotated[int, msgspec.Meta(ge=0, le=1_000_000)] = 0
    is_paused: bool = msgspec.field(default=False, name="paused")
    until_s: Moment | None = msgspec.field(default=None, name="until")  # None: for good
    set_by: str = ""
    set_at_s: Moment = msgspec.field(default=0.0, name="set_at")

    @property
    def selector(self) -> str:
        """What it is for: `domain:x.example tenant:acme`."""
        parts = ((name, getattr(self, name)) for name in DIMENSIONS)
        return " ".join(f"{name}:{','.join(values)}" for name, values in parts if values)

    @property
    def effect(self) -> str:
        """What it does: `rate 100/min, 5 connections`."""
        parts = []
        if self.is_paused:
            parts.append("paused")
        if self.rate:
            parts.append(f"rate {self.rate}")
        if self.connections:
            count = self.connections
            parts.append(f"{count} connection" if count == 1 else f"{count} connections")
        return ", ".join(parts)

    @property
    def origin(self) -> str:
        """Who set it, and when: `set by root at 2026-11-25 20:05 UTC`."""
        if not self.set_at_s:
            return f"set by {self.set_by}" if self.set_by else ""
        moment = datetime.fromtimestamp(self.set_at_s, UTC)
        return f"set by {self.set_by or 'somebody'} at {moment:%Y-%m-%d %H:%M} UTC"

    @property
    def is_wide(self) -> bool:
        """Whether it is for more than one site or domain."""
        exact = [values for values in (self.site, self.domain) if values]
        if not exact:
            return True
        return any(len(each) > 1 or each[0].startswith((".", "*")) for each in exact)

    def has_ended(self, now_s: float) -> bool:
        """Whether its time is over at `now_s` (Unix time)."""
        return self.until_s is not None and self.until_s <= now_s

    def check(self) -> None:
        """Raise OverrideError with the first thing that is wrong."""
        selected = [(name, getattr(self, name)) for name in DIMENSIONS]
        if not any(values for _, values in selected):
            raise OverrideError(f"it selects nothing: one of {', '.join(DIMENSIONS)} is wanted")
        for name, values in selected:
            for value in values:
                _check_value(name, value)
        if not self.effect:
            raise OverrideError("it does nothing: rate, connections or paused is wanted")
        if self.rate:
            try:
                read_rate(self.rate)
            except ValueError as error:
                raise OverrideError(f"rate: {error}") from None

    def shape(self, name: str) -> Shape:
        """The same as the scheduler takes it."""
        return Shape(
            name=name,
            site=self.site,
            domain=self.domain,
            provider=self.provider,
            source=self.source,
            tenant=self.tenant,
            rate=read_rate(self.rate) if self.rate else None,
            connections=self.connections,
            is_paused=self.is_paused,
            until_ns=0 if self.until_s is None else int(self.until_s * _NS),
            note=self.origin,
        )


class Overrides(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All of them, by name."""

    version: int = VERSION
    shapes: dict[str, Override] = {}

    def check(self) -> None:
        """Raise OverrideError, which says where."""
        if self.version != VERSION:
            text = f"version {self.version} is not known here; this is for version {VERSION}"
            raise OverrideError(f"{text}: run the newer fastmta that wrote it")
        if len(self.shapes) > OVERRIDES_MAX:
            raise OverrideError(f"more than {OVERRIDES_MAX} overrides: remove some, or use *")
        for name, override in self.shapes.items():
            if not 0 < len(name) <= NAME_CHARACTERS_MAX:
                raise OverrideError(f"shapes: a name has 1 to {NAME_CHARACTERS_MAX} characters")
            try:
                override.check()
            except OverrideError as error:
                raise OverrideError(f'shapes["{name}"]: {error}') from None

    def at(self, now_s: float) -> Overrides:
        """Those that have not ended."""
        shapes = self.shapes.items()
        return Overrides(
            shapes={name: override for name, override in shapes if not override.has_ended(now_s)}
        )

    def put(self, name: str, override: Override) -> Overrides:
        """With this one, in place of the one of that name."""
        return Overrides(shapes={**self.shapes, name: override})

    def drop(self, name: str) -> Overrides:
        """Without the one of that name."""
        return Overrides(shapes={key: value for key, value in self.shapes.items() if key != name})

    @property
    def next_end_s(self) -> float | None:
        """When the first one ends (Unix time); None: none of them does."""
        ends = [one.until_s for one in self.shapes.values() if one.until_s is not None]
        return min(ends, default=None)


def name_of(override: Override) -> str:
    """The name that an override of this selector has: one for its pause, one for its limits."""
    return f"{'pause' if override.is_paused else 'limit'} {override.selector}"


def parse_selector(text: str) -> tuple[str, str]:
    """Dimension and value of `domain:x.example`; the dimension is "" for a bare name.

    A bare label of a site may hold a colon (that of a relay does, in front of its port), and so may
    an IPv6 address; a word in front of anything else is a mistake. Raises OverrideError.
    """
    name, colon, value = text.partition(":")
    if not colon or name not in DIMENSIONS:
        if colon and name.isalpha() and value and not value.isdigit() and ":" not in value:
            near = get_close_matches(name.lower(), DIMENSIONS, 1)
            known = f"did you mean {near[0]}:{value}?" if near else f"there are {_KINDS}"
            raise OverrideError(f"there is no {name}: to select by; {known}")
        name, value = "", text
    if name in _FOLDED or not name:
        value = value.lower()
    _check_value(name or "name", value)
    return name, value


def _check_value(name: str, value: str) -> None:
    if not 0 < len(value) <= VALUE_CHARACTERS_MAX or not value.isprintable():
        text = f"1 to {VALUE_CHARACTERS_MAX} printable characters are wanted"
        raise OverrideError(f"{name}: {value[:50]!r} is no value: {text}")
