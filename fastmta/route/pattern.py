"""Patterns of mail addresses, as rules have them.

user@example.com    this address; case does not count
example.com         every address at this domain, not at its subdomains
.example.com        every address at a subdomain of it
<>                  the null reverse-path
/pattern/           a regular expression that matches the whole address, whatever its case
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Iterator

NULL_PATH = b""  # as an envelope has <>


class Patterns:
    """Whether an address is one of those that `texts` describe; without any text all are."""

    __slots__ = (
        "addresses",
        "domains",
        "domains_of_addresses",
        "expressions",
        "is_everything",
        "parents",
    )

    def __init__(self, texts: Iterable[str] = ()) -> None:
        """Raises ValueError with a sentence for a human."""
        addresses: set[bytes] = set()
        domains: set[bytes] = set()
        parents: set[bytes] = set()
        expressions: list[re.Pattern[bytes]] = []
        texts = tuple(texts)
        for text in texts:
            octets = text.encode()
            if text == "<>":
                addresses.add(NULL_PATH)
            elif len(text) > 1 and text[0] == text[-1] == "/":
                expressions.append(_expression(text))
            elif b"@" in octets.strip(b"@"):
                addresses.add(octets.lower())
            elif text.startswith(".") and len(text) > 1:
                parents.add(octets[1:].lower())
            elif text.strip(".") and b"@" not in octets:
                domains.add(octets.lower())
            else:
                raise ValueError(f'"{text}" is no address, domain, .domain or /pattern/')
        self.is_everything = not texts
        self.addresses = frozenset(addresses)
        self.domains_of_addresses = frozenset(one[one.rfind(b"@") + 1 :] for one in addresses)
        self.domains = frozenset(domains)
        self.parents = frozenset(parents)
        self.expressions = tuple(expressions)

    def covers(self, domain: bytes) -> bool:
        """Whether every address at `domain` (lower case) is one of these."""
        if self.is_everything or domain in self.domains:
            return True
        return bool(self.parents) and any(one in self.parents for one in parents_of(domain))

    def may_match(self, domain: bytes) -> bool:
        """Whether some address at `domain` (lower case; b"" of <>) may be one of these."""
        return bool(self.expressions) or domain in self.domains_of_addresses or self.covers(domain)

    def matches(self, path: bytes) -> bool:
        """Whether `path` is one of these."""
        if self.is_everything:
            return True
        path = path.lower()
        if path in self.addresses:
            return True
        at = path.rfind(b"@")
        if at >= 0 and self.covers(path[at + 1 :]):
            return True
        return any(one.fullmatch(path) is not None for one in self.expressions)


def parents_of(domain: bytes) -> Iterator[bytes]:
    """`b.c` and `c` for `a.b.c`."""
    dot = domain.find(b".")
    while dot >= 0:
        yield domain[dot + 1 :]
        dot = domain.find(b".", dot + 1)


def _expression(text: str) -> re.Pattern[bytes]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", FutureWarning)  # "[[" will mean something else one day
            return re.compile(text[1:-1].encode(), re.IGNORECASE)
    except (re.error, FutureWarning) as error:
        raise ValueError(f'"{text}" is no regular expression: {error}') from None
