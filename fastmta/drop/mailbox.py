"""One address of a list."""

from __future__ import annotations


class Mailbox:
    """One address of a list: `octets` without blanks and comments, behind which `end` points."""

    __slots__ = ("end", "is_qualified", "octets")

    def __init__(self, octets: bytes, is_qualified: bool, end: int) -> None:
        self.octets = octets
        self.is_qualified = is_qualified
        self.end = end
