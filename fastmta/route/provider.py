"""Whose mail hosts those of a site are."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence


class Providers:
    """Names of receivers, by their MX hosts.

    A pattern is a host, or what ends with it: `.example.com` is not example.com itself.
    """

    __slots__ = ("_rules",)

    def __init__(self, rules: Mapping[str, Iterable[str]] | None = None) -> None:
        """Patterns (in lower case) by name; the first name that fits is that of a site."""
        self._rules = [
            (
                name,
                tuple(one for one in patterns if one.startswith(".")),
                frozenset(one for one in patterns if not one.startswith(".")),
            )
            for name, patterns in (rules or {}).items()
        ]

    def of(self, hosts: Sequence[str]) -> str:
        """Who runs each of these hosts; "": nobody we know, or more than one.

        One host of somebody else is enough: whoever adds a large provider's host to his own MX
        records neither gets its limits nor uses them up.
        """
        if hosts:
            for name, suffixes, exact in self._rules:
                if all(host.endswith(suffixes) or host in exact for host in hosts):
                    return name
        return ""
