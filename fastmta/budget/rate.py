"""Rates as values: so many per time, and how many of them at once."""

import re
from typing import Final

import msgspec

PERIODS_S: Final = {
    "s": 1.0, "sec": 1.0, "second": 1.0,
    "m": 60.0, "min": 60.0, "minute": 60.0,
    "h": 3600.0, "hr": 3600.0, "hour": 3600.0,
    "d": 86_400.0, "day": 86_400.0,
}  # fmt: skip
_SHOWN: Final = ((86_400.0, "d"), (3600.0, "h"), (60.0, "min"), (1.0, "s"))
_BURST_S: Final = 0.2
_COUNT: Final = r"[0-9]{1,3}(?:,?[0-9]{3}){0,3}|[0-9]{1,12}"
_RATE: Final = re.compile(rf"({_COUNT}) */ *([a-z]+)(?: *, *burst +({_COUNT}))?")


class Rate(msgspec.Struct, frozen=True):
    """`count` per `period_s`, of which `burst` may come at once."""

    count: float
    period_s: float
    burst: int = 1

    def __post_init__(self) -> None:
        if not (self.count > 0 and self.period_s > 0 and self.burst >= 1):
            raise ValueError("a rate needs a count, a period and a burst above zero")


def read_rate(text: str) -> Rate:
    """The rate that `text` says: `100/min`, `1,000/h, burst 50`. Raises ValueError for a human.

    Without a burst it is what comes in a fifth of a second, at least 1.
    """
    found = _RATE.fullmatch(text.strip().lower())
    if found is None:
        raise ValueError(f'"{text}" is no rate such as "100/min" or "100/min, burst 10"')
    period_s = PERIODS_S.get(found[2])
    if period_s is None:
        raise ValueError(f'"{text}": the period is one of s, min, h, d')
    count = int(found[1].replace(",", ""))
    burst = int(found[3].replace(",", "")) if found[3] else burst_of(count, period_s)
    if not (count and burst):
        raise ValueError(f'"{text}": count and burst are at least 1')
    return Rate(count, period_s, burst)


def burst_of(count: float, period_s: float) -> int:
    """The burst of a rate that names none: timers are late by a millisecond or two, and of a high
    rate that would be lost."""
    return max(1, int(count / period_s * _BURST_S))


def rate_text(rate: Rate) -> str:
    """`rate` as `read_rate` reads it."""
    unit = next((name for period_s, name in _SHOWN if period_s == rate.period_s), None)
    text = f"{rate.count:g}/{unit or format(rate.period_s, 'g') + 's'}"
    is_default = rate.burst == burst_of(rate.count, rate.period_s)
    return text if is_default else f"{text}, burst {rate.burst}"
