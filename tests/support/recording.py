"""What a process changed below a directory, event by event (recorded by shim/recorder.c).

variables = controls(root, log, marks, delay_us=800, seed=1)
subprocess.run(command, env={**os.environ, **variables}, check=True)
for event in read_events(log): ...
"""

from __future__ import annotations

import enum
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tests.support import shim

MAPPED = ("lock.mdb", "doubt")  # hold nothing that is relied on after a crash of the machine

_HEAD = struct.Struct("<IIQQQQII")


class Kind(enum.IntEnum):
    """As in recorder.c."""

    ROOT = 1  # the recorder begins; node is the directory
    CREATE = 2
    MKDIR = 3
    WRITE = 4
    RESIZE = 5  # to `offset` octets
    EXTEND = 6  # to at least `offset` octets
    LINK = 7
    UNLINK = 8  # of a file or an empty directory
    RENAME = 9  # `name` in `parent` to `data` in `other`
    SYNC_BEGIN = 10  # flush number `other`; node 0: of everything
    SYNC_END = 11  # `offset` is the errno
    WRITE_SYNCED = 12  # the write right before was through a descriptor with O_DSYNC
    MARK = 13  # one that begins with ["die" is the last of its process
    DENIED = 14  # something that would have escaped the recorder


class Event(NamedTuple):
    """One event; nodes are inode numbers."""

    kind: Kind
    thread: int
    node: int
    parent: int
    other: int
    offset: int
    name: str
    data: bytes

    def __str__(self) -> str:
        words = [self.kind.name.lower()]
        if self.name:
            words.append(self.name)
        if self.kind is Kind.MARK:
            words.append(self.data.decode().strip())
        elif self.kind is Kind.RENAME:
            words.append(f"to {self.data.decode()}")
        elif self.kind is Kind.WRITE:
            words.append(f"{len(self.data)} octets at {self.offset}")
        elif self.kind in (Kind.RESIZE, Kind.EXTEND):
            words.append(f"to {self.offset}")
        elif self.kind in (Kind.SYNC_BEGIN, Kind.SYNC_END):
            words.append(f"number {self.other}" + (f", error {self.offset}" * bool(self.offset)))
        return " ".join(words)


def controls(
    root: Path, log: Path, marks: Path, *, delay_us: int = 0, seed: int = 0
) -> dict[str, str]:
    """The variables that load and steer the recorder, to be added to an environment."""
    return {
        "LD_PRELOAD": str(shim.build(shim.RECORDER)),
        "FASTMTA_RECORD_ROOT": str(root.resolve(strict=True)),
        "FASTMTA_RECORD_LOG": str(log),
        "FASTMTA_RECORD_MARKS": str(marks),
        "FASTMTA_RECORD_DELAY_US": str(delay_us),
        "FASTMTA_RECORD_SEED": str(seed),
        "FASTMTA_RECORD_MAPPED": ":".join(MAPPED) + ":",
    }


def read_events(log: Path) -> Iterator[Event]:
    """Everything recorded; an event that the end of a process cut is left out."""
    octets = log.read_bytes()
    at = 0
    while at + _HEAD.size <= len(octets):
        kind, thread, node, parent, other, offset, name, data = _HEAD.unpack_from(octets, at)
        at += _HEAD.size
        if at + name + data > len(octets):
            return
        text = octets[at : at + name].decode()
        at += name
        yield Event(Kind(kind), thread, node, parent, other, offset, text, octets[at : at + data])
        at += data
