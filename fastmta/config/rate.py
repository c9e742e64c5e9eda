"""Kinds of values of limits: rates, and what a limit is about.

A rate stays text here: what it comes to is decided by `fastmta.budget.rate`, which reads the
operator's orders as well. A test holds the two together.
"""

import re

from .address import is_domain
from .kind import Kind, plain_text
from .problem import suggest

ANY = "*"
_UNITS = ("s", "sec", "second", "m", "min", "minute", "h", "hr", "hour", "d", "day")
_COUNT = r"(?:[0-9]{1,3}(?:,?[0-9]{3}){0,3}|[0-9]{1,12})"
_RATE = re.compile(rf"({_COUNT}) */ *([a-z]+)(?: *, *burst +({_COUNT}))?")
_RELAY = re.compile(r"[\[:/]")  # stands in relays and in address literals, not in domains
_VALUE = re.compile(r"[!-~]{1,255}")


class RateText(Kind):
    """How many per time, and how many of them at once."""

    shape = 'text such as `"100/min"` or `"1,000/h, burst 50"`, or `""`'

    def check(self, value: object) -> str:
        text = plain_text(value).strip().lower()
        if not text:
            return text
        match = _RATE.fullmatch(text)
        if match is None:
            raise ValueError(f'"{text}" is no rate such as "100/min" or "100/min, burst 10"')
        count, unit, burst = match.groups()
        if unit not in _UNITS:
            units = "s, min, h, d"
            raise ValueError(f'"{text}": the period is one of {units}{suggest(unit, _UNITS)}')
        if not any(digit in "123456789" for digit in count):
            raise ValueError(f'"{text}" lets nothing through: set paused = true to stop mail')
        if burst is not None and not any(digit in "123456789" for digit in burst):
            raise ValueError(f'"{text}": burst is at least 1')
        return text


class Selector(Kind):
    """A value of one dimension that a limit is about: itself, its subdomains, or any."""

    shape = "value, `.value` for what ends with it, or `*` for each value by itself"

    def check(self, value: object) -> str:
        text = plain_text(value)
        if not _VALUE.fullmatch(text) or text == ".":
            raise ValueError(f'"{text}" must be printable ASCII without spaces, not empty')
        star = text.find(ANY)
        if star >= 0 and text != ANY:
            hint = f"; did you mean {text[1:]}?" if text.startswith("*.") else ""
            raise ValueError(f'"{text}": * stands alone{hint}')
        return text


class SiteSelector(Selector):
    """The label of a site; letters count alike."""

    def check(self, value: object) -> str:
        return super().check(value).lower()


class DomainSelector(Selector):
    """A domain that mail is for, or a relay with its port."""

    shape = "domain name, `.name` for its subdomains, or `*` for each by itself"

    def check(self, value: object) -> str:
        text = super().check(value)
        if "@" in text:
            hint = text.rpartition("@")[2]
            raise ValueError(f'"{text}" is an address, not a domain; did you mean {hint}?')
        if not _RELAY.search(text):
            text = text.lower()
            if text != ANY and not is_domain(text.removeprefix(".")):
                raise ValueError(f'"{text}" is not a domain name')
        return text


class SenderPattern(Kind):
    """A mail address, or a domain."""

    shape = "`example.com`, `.example.com` (subdomains) or `user@example.com`"

    def check(self, value: object) -> str:
        text = plain_text(value).lower()
        local_part, at, domain = text.rpartition("@")
        bare = domain if at else domain.removeprefix(".")
        if (at and (not local_part or " " in local_part)) or not is_domain(bare):
            hint = f"; did you mean {bare}?" if at and not local_part and is_domain(bare) else ""
            hint = hint or (f"; did you mean {text[1:]}?" if text.startswith("*.") else "")
            raise ValueError(f'"{text}" is neither a domain nor user@example.com{hint}')
        return text


class Login(Kind):
    """Whom a client has logged in as."""

    shape = "login"

    def check(self, value: object) -> str:
        text = plain_text(value)
        if not text:
            raise ValueError("must not be empty")
        return text
