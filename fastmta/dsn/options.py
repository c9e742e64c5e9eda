"""What an operator decides about reports."""

import msgspec

from .report import ORIGINAL_OCTETS_MAX

BOUNCE, DOUBLE_BOUNCE, DELAY = "bounce", "2bounce", "delay"


class NotifyOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Who is told of what. The classes are those of Postfix's notify_classes."""

    postmaster: bytes = b""  # mailbox; b"": no notices, whatever the classes
    classes: frozenset[str] = frozenset()
    original_octets: int = ORIGINAL_OCTETS_MAX  # a larger message comes back as header section

    def has(self, kind: str) -> bool:
        """Whether the postmaster wants notices of this class."""
        return bool(self.postmaster) and kind in self.classes
