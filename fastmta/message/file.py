"""Content that is too large to be held in memory: a file of the spool's own."""

import msgspec


class ContentFile(msgspec.Struct, frozen=True, gc=False):
    """Where a large content is. Canonical like any other, complete, and durable."""

    path: str  # absolute
    size_octets: int
    checksum: int  # CRC32C of the whole
    boot: int  # number of the start that received it; part of the file's name
