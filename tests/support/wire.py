"""Drives a Framing over octets cut into pieces, and names the cuts every wire case is run with."""

import itertools
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fastmta.smtp import Verb
from fastmta.smtp.chunk import parse_bdat
from fastmta.smtp.frame import COMMAND, NEED_MORE, REFUSING

VECTORS = Path(__file__).parents[1] / "vectors"
TAIL = b"NOOP tail\r\n"


def load_cases(name: str) -> list[Any]:
    """The cases of a vector file, as test parameters with their names as ids."""
    table = tomllib.loads((VECTORS / f"{name}.toml").read_text(encoding="utf-8"))
    return [pytest.param(case, id=case["name"]) for case in table["case"]]


def every_cut(octets: bytes) -> Iterator[tuple[str, list[int]]]:
    """Whole, octet by octet, and split at each position: (name, cut positions)."""
    yield "whole", []
    yield "octet by octet", list(range(1, len(octets)))
    for position in range(1, len(octets)):
        yield f"split at {position}", [position]


def pieces_of(octets: bytes, cuts: list[int]) -> list[bytes]:
    bounds = [0, *cuts, len(octets)]
    return [octets[begin:end] for begin, end in itertools.pairwise(bounds)]


def read_wire(framing: Any, pieces: list[bytes], **options: Any) -> list[Any]:
    """What the framing says, in order. DATA begins a content, as it does in a session.

    Commands are (verb, argument, line), contents (violations, size, content or None), everything
    else the plain answer. The buffer is shared and overwritten after each piece, as a listener's.
    """
    reading = _Reading(framing, **options)
    scratch = bytearray(max((len(piece) for piece in pieces), default=0) + 8)
    for piece in pieces:
        scratch[: len(piece)] = piece
        framing.feed(memoryview(scratch), len(piece))
        reading.read()
        framing.keep_rest()
        scratch[:] = b"!" * len(scratch)
    return reading.end()


class _Reading:
    """`held_max` (negative: no limit): a content that holds more is taken out in pieces as it
    grows. `is_chunking`: BDAT begins a chunk, whose end says "chunk" unless it is the last one,
    RSET drops the content, `SKIP n` skips n octets.
    """

    def __init__(
        self,
        framing: Any,
        *,
        is_normalizing: bool = False,
        size_max: int = 0,
        held_max: int = -1,
        is_chunking: bool = False,
    ) -> None:
        self.framing = framing
        self.options = (b"", size_max, is_normalizing)
        self.held_max = held_max
        self.is_chunking = is_chunking
        self.said: list[Any] = []
        self.taken: list[bytes] = []
        self.is_content = False  # read_content() is to be called
        self.is_chunked = False  # a chunked content is open
        self.is_last = True

    def read(self) -> None:
        framing = self.framing
        while True:
            answer = framing.read_content() if self.is_content else framing.next_command()
            if answer == NEED_MORE:
                if self.is_content:
                    self._take_piece()
                return
            if self.is_content:
                self._content_read()
            elif answer == COMMAND:
                self.said.append((framing.verb, framing.argument, framing.line))
                self._command()
            else:
                self.said.append(answer)

    def _take_piece(self) -> None:
        held = self.framing.content_size - sum(map(len, self.taken))
        if 0 <= self.held_max < held and not self.framing.violations & REFUSING:
            self.taken.append(self.framing.take_piece())

    def _content_read(self) -> None:
        """The end of a content, or of one of its chunks."""
        framing = self.framing
        self.is_content = False
        if not self.is_last:
            self.said.append("chunk")
            self._take_piece()
            return
        if self.is_chunked:
            framing.end_chunks()
            self.is_chunked = False
        is_refused = framing.violations & REFUSING
        content = None if is_refused else b"".join(self.taken) + framing.take_content()
        self.taken.clear()
        self.said.append((framing.violations, framing.content_size, content))

    def _command(self) -> None:
        framing = self.framing
        if framing.verb == Verb.DATA and not self.is_chunked:
            framing.begin_content(*self.options)
            self.is_content = self.is_last = True
        if not self.is_chunking:
            return
        if framing.verb == Verb.RSET:
            framing.drop_content()
            self.is_chunked = False
            self.taken.clear()
        elif framing.verb == Verb.BDAT and (chunk := parse_bdat(framing.argument)):
            if not self.is_chunked:
                framing.begin_chunked_content(*self.options)
            size, self.is_last = chunk
            framing.begin_chunk(size)
            self.is_content = self.is_chunked = True
        elif framing.line.startswith(b"SKIP ") and (chunk := parse_bdat(framing.argument)):
            framing.skip(chunk[0])

    def end(self) -> list[Any]:
        """What was said, and what is open."""
        framing = self.framing
        if self.is_content:
            self.said.append(("in content", framing.violations, framing.content_size))
        elif framing.buffered():
            self.said.append(("buffered", framing.buffered()))
        return self.said


def chunked(octets: bytes, cuts: list[int]) -> bytes:
    """The octets as BDAT commands, one for each piece between the cuts."""
    pieces = pieces_of(octets, cuts)
    heads = [b"BDAT %d\r\n" % len(piece) for piece in pieces[:-1]]
    heads.append(b"BDAT %d LAST\r\n" % len(pieces[-1]))
    return b"".join(head + piece for head, piece in zip(heads, pieces, strict=True))
