"""A name server for domains `d<number>.test`, each at the site that its number has.

    python -m fastmta.lab.bench.traffic.nameserver PORT FIRST_ADDRESS DOMAINS SITES

A process of its own; see `backlog.nameserver` for the little DNS that it knows.
"""

import sys
from collections.abc import Sequence

from ..backlog.nameserver import serve, site_host
from .place import address_of, site_of


class Numbered:
    """Domains and hosts by number; any other name is one of site 0."""

    def __init__(self, first: str, domains: int, sites: int) -> None:
        self._first = first
        self._domains = domains
        self._sites = sites

    def exchange(self, name: bytes) -> bytes:
        """The host of the site of `d<number>.test`."""
        domain = _number(_labels(name)[0].removeprefix(b"d"), self._domains)
        return site_host(site_of(domain, self._domains, self._sites))

    def address(self, name: bytes) -> str:
        """The address of `mx.site.<number>.test`."""
        labels = _labels(name)
        return address_of(self._first, _number(labels[2] if len(labels) > 2 else b"", self._sites))


def _labels(name: bytes) -> list[bytes]:
    """The labels of a name in a question."""
    found, pos = [], 0
    while pos < len(name) and name[pos]:
        found.append(name[pos + 1 : pos + 1 + name[pos]].lower())
        pos += 1 + name[pos]
    return found or [b""]


def _number(text: bytes, below: int) -> int:
    return int(text) % below if text.isdigit() and len(text) < 10 else 0


def main(arguments: Sequence[str]) -> int:
    """Answer until killed."""
    port, first, domains, sites = arguments
    serve(int(port), Numbered(first, int(domains), int(sites)))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
