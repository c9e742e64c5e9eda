"""What the operator may choose about a spool."""

import enum
from collections.abc import Callable

import msgspec

from fastmta.message import Envelope

DAY_S = 86_400.0
SEGMENT_OCTETS = 32 * 1024 * 1024
SEGMENT_OCTETS_MIN = 64 * 1024


class Durability(enum.Enum):
    """What an acknowledgement is worth; shown in logs, metrics and benchmarks under these names."""

    FULL = "full"  # flushed to the device: survives power loss
    OS = "os"  # written to the kernel: survives the end of the process only
    UNSAFE = "unsafe"  # promises nothing; today the same as OS


class SpoolOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Options of one shard."""

    shard: int = 0  # its number; part of every queue id
    durability: Durability = Durability.FULL
    segment_octets: int = SEGMENT_OCTETS  # of segment files made from now on
    lifetime_s: float = 5 * DAY_S
    bounce_lifetime_s: float = 5 * DAY_S  # for the null reverse-path
    lifetime_of: Callable[[Envelope], float] | None = None  # in seconds, in place of those two
    clean_s: float = 300.0  # after a failed write or flush of the log, until it is trusted again
    # Changes whenever `next_hop` or `lifetime_of` may answer differently than before: the index is
    # then rebuilt.
    routing_token: bytes = b""

    def __post_init__(self) -> None:
        if self.segment_octets % 4096 or self.segment_octets < SEGMENT_OCTETS_MIN:
            raise ValueError("segment_octets must be a multiple of 4096, at least 64 KiB")
        if not 0 <= self.shard < 4096:
            raise ValueError("a shard's number is 0 to 4095")
