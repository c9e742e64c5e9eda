"""Named points at which a test kills the server: a system call of a kind, on a file.

The server has no code for this: the fault library (tests/support/fault) sees the call. The letters
are the steps of the design: A acceptance, B large contents, C creation of a segment, G the trimmer,
R recovery, X commit of the index.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from .fault import Action, Content, Operation, Rule

HOT = "*/hot/*.seg"
COLD = "*/cold/*.seg"
INDEX = "*/index/data.mdb"
BIG = "*/big/*-*"
META_OCTETS = 8192  # the two pages that make a commit of LMDB valid


class When(enum.Enum):
    """When the rule is armed."""

    LOADED = enum.auto()  # under load
    STARTING = enum.auto()  # before the start that follows a kill of everybody
    REBUILDING = enum.auto()  # the same, and the index was deleted


@dataclass(frozen=True)
class Point:
    """One point; `call` is which of the calls after arming."""

    name: str
    what: str
    operation: Operation
    pattern: str
    call: int = 1
    is_after: bool = False
    content: Content = Content.ANY
    below: int = 0
    when: When = When.LOADED

    def rule(self, root: str, is_group: bool) -> Rule:
        """Kill the process at this point, or everybody."""
        return Rule(
            operations=self.operation,
            action=Action.KILL_GROUP if is_group else Action.KILL,
            call=self.call,
            is_after=self.is_after,
            root=root,
            pattern=self.pattern,
            below=self.below,
            content=self.content,
        )


_W, _F, _C = Operation.WRITE, Operation.FLUSH, Operation.CREATE
_FILL, _LOG, _VOID = Content.FILL, Content.LOG, Content.VOID
_START, _REBUILD = When.STARTING, When.REBUILDING

POINTS = (
    Point("C0-made", "a segment file has a name and no blocks", _C, "*/hot/*.seg", is_after=True),
    Point("C0-filling", "half of its blocks are there", _W, HOT, 1, True, _FILL),
    Point("C0-named", "its name is to be made durable", _F, "*/hot"),
    Point("A3-before", "a group is to be written", _W, HOT, 40, False, _LOG),
    Point("A3-after", "it is written and not flushed", _W, HOT, 40, True, _LOG),
    Point("A4-after", "it is flushed and nobody was told", _F, HOT, 40, True),
    Point("A6-before", "a reply or a command is to be sent", _W, "socket:*", 200),
    Point("A6-after", "it has left", _W, "socket:*", 200, True),
    Point("B1-made", "a large content has a file", _C, BIG, is_after=True),
    Point("B1-written", "some of it is written", _W, BIG, 3, True),
    Point("B2-before", "it is to be flushed", _F, BIG),
    Point("B3-before", "its name is to be made durable", _F, "*/big"),
    Point("B3-after", "it is durable, and no record names it", _F, "*/big", is_after=True),
    Point("B9-before", "its message is final, it is to go", Operation.UNLINK, BIG),
    Point("B9-after", "it has gone", Operation.UNLINK, BIG, is_after=True),
    Point("X1", "a commit of the index begins to write", _W, INDEX),
    Point("X2-before", "its pages are written, not flushed", _F, INDEX),
    Point("X2-after", "they are flushed, no page names them", _F, INDEX, 1, True),
    Point("X3", "the commit is valid, nothing was freed", _W, INDEX, 1, True, below=META_OCTETS),
    Point("G3-before", "the header of a segment is to be voided", _W, HOT, 1, False, _VOID),
    Point("G3-after", "it is void and not flushed", _W, HOT, 1, True, _VOID),
    Point("R3-written", "the number of this start is in a file", _W, "*/boot*", when=_START),
    Point("R3-before", "it is to be put in place", Operation.RENAME, "*/boot", when=_START),
    Point("R3-after", "it is in place", Operation.RENAME, "*/boot", is_after=True, when=_START),
    Point("R5", "the log is to be scanned", Operation.MAP, HOT, when=_START),
    Point("R8-before", "what was scanned is to be flushed", _F, HOT, when=_START),
    Point("R8-commit", "the index is to be told of it", _W, INDEX, 2, when=_START),
    Point("R2", "a new index has a name", _C, INDEX, is_after=True, when=_REBUILD),
    Point("R6", "the rebuilt index is to be flushed", _F, INDEX, 2, when=_REBUILD),
    Point("R9", "the rebuilt index is valid", _W, INDEX, 3, True, below=META_OCTETS, when=_REBUILD),
)
