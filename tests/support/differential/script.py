"""A session as data: flights of lines, and what follows them."""

from __future__ import annotations

import enum
from collections.abc import Iterator
from dataclasses import dataclass, replace


class Ending(enum.Enum):
    """How the client leaves."""

    QUIT = "QUIT"
    CLOSE = "close"  # without a word
    CUT = "cut"  # in the middle of a line or of content


@dataclass(frozen=True, slots=True)
class Line:
    """One command line, and the chunk behind it.

    `plain` is the same for a server without DSN and CHUNKING and with fewer forms of addresses;
    None: it is left out there.
    """

    verb: str
    octets: bytes
    plain: bytes | None
    chunk: bytes = b""  # of BDAT
    plain_content: bytes | None = None  # the content that `plain`, a DATA, stands for

    def sent(self) -> bytes:
        """What goes over the wire."""
        return self.octets + self.chunk


@dataclass(frozen=True, slots=True)
class Step:
    """Lines in one flight, each with a reply; then content, if the last one is answered 354."""

    lines: tuple[Line, ...]
    content: bytes | None = None  # as it stands on the wire, with the final dot
    is_cut: bool = False  # the content has no final dot: the client leaves after it

    def octets(self) -> bytes:
        """What goes over the wire in one flight."""
        return b"".join(line.sent() for line in self.lines)


@dataclass(frozen=True, slots=True)
class Script:
    """One session of a client."""

    seed: int
    is_trusted: bool  # the client's address is one of the trusted networks
    steps: tuple[Step, ...]
    ending: Ending
    rest: bytes = b""  # sent without waiting, before the end
    is_odd: bool = False  # how many replies `rest` is due is not known: QUIT is its last line

    def plain(self) -> Script:
        """Step by step, with nothing that RFC 5321 itself does not have."""
        steps = tuple(one for step in self.steps for one in _plain_steps(step))
        return replace(self, steps=steps, is_trusted=True)

    def without(self, index: int) -> Script:
        """One step fewer."""
        return replace(self, steps=self.steps[:index] + self.steps[index + 1 :])

    def prefix(self, count: int) -> Script:
        """The first steps, then a clean end."""
        return replace(self, steps=self.steps[:count], ending=Ending.QUIT, rest=b"", is_odd=False)


def _plain_steps(step: Step) -> Iterator[Step]:
    last = len(step.lines) - 1
    for index, line in enumerate(step.lines):
        if line.plain is None:
            continue
        content = step.content if index == last else None
        if line.plain_content is not None:
            content = line.plain_content
        verb = line.verb if line.plain_content is None else "DATA"
        alone = replace(line, verb=verb, octets=line.plain, chunk=b"")
        yield Step((alone,), content, step.is_cut and content is not None)
