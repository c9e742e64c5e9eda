"""What `verify` found out about a shard."""

from __future__ import annotations

import msgspec

from .recovery import _QUEUE_ID, Hole
from .segment import Segment

KIND_NAMES = ("", "BATCH", "MSG", "STATE", "REF", "FOLD", "TOMB")
_RECORD_OCTETS = 32
_KIND_AT = 24
_ID_OCTETS = 16

_ASK_AGAIN = "whoever sent it has to send it again; the next start copies the region to quarantine/"
_STATE_LOST = "what it recorded is forgotten: a recipient may get that message once more"
_UNKNOWN = "the next start copies the region to quarantine/ and goes on with what is around it"
_ADVICE = {"MSG": _ASK_AGAIN, "REF": _ASK_AGAIN, "STATE": _STATE_LOST, "FOLD": _STATE_LOST}


class Problem(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One thing that is wrong, where it is, and what to do about it."""

    file: str
    text: str
    advice: str
    offset: int | None = None  # in the file
    position: int | None = None  # in the log
    octets: int = 0
    kind: str = ""  # of record; as far as it can be told, as the id
    queue_id: str = ""


class Report(msgspec.Struct, kw_only=True):
    """A shard, verified."""

    shard: int
    is_in_use: bool = False
    segments: int = 0
    octets: int = 0  # of segments and big contents that were read
    records: dict[str, int] = msgspec.field(default_factory=dict)  # by kind
    big: int = 0  # contents in files of their own that were checked
    indexed: int | None = None  # messages whose rows were compared; None: not asked for
    seconds: float = 0.0
    damage: list[Problem] = msgspec.field(default_factory=list)
    unreadable: list[Problem] = msgspec.field(default_factory=list)
    remarks: list[str] = msgspec.field(default_factory=list)

    @property
    def is_sound(self) -> bool:
        """Whether all of it was read and nothing is wrong."""
        return not (self.damage or self.unreadable)


def damage_at(segment: Segment, data: memoryview, hole: Hole) -> Problem:
    """A damaged region of a segment, described by what its first octets claim to be."""
    start = hole.start
    head = bytes(data[start : start + _RECORD_OCTETS + _ID_OCTETS])
    kind = head[_KIND_AT] if len(head) > _KIND_AT else 0
    name = KIND_NAMES[kind] if kind < len(KIND_NAMES) else ""
    id = head[_RECORD_OCTETS:]
    is_id = name != "BATCH" and len(id) == _ID_OCTETS and all(each in _QUEUE_ID for each in id)
    return Problem(
        file=segment.path,
        text="damaged",
        advice=_ADVICE.get(name, _UNKNOWN),
        offset=start,
        position=segment.base + start,
        octets=hole.end - start,
        kind=name,
        queue_id=id.decode() if is_id else "",
    )


def cannot_read(path: str, problem: OSError) -> Problem:
    """A file of the shard that the disk does not give."""
    return Problem(
        file=path,
        text=f"cannot be read: {problem.strerror or problem}",
        advice="look at the disk, and into the kernel's log",
    )
