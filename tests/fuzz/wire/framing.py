"""Framing: the compiled one and its twin, called in lockstep in every order that there is."""

from __future__ import annotations

import array
import itertools
import random
import re
from collections.abc import Iterator
from typing import Any

from fastmta.smtp import Verb, _framing, framing_py
from fastmta.smtp.chunk import parse_bdat
from fastmta.smtp.frame import COMMAND, DONE, NEED_MORE, REFUSING
from tests.fuzz.wire.case import Case, pieces_of

_FACTS = ("content_size", "violations", "verb", "argument", "line")
_OCTETS_MAX = 350_000  # what a client announces may be allocated: 256 KiB of it
Feature = tuple[object, ...]


class Pair:
    """Two framings to which the same happens; they say the same, or it is a finding."""

    def __init__(self, line_octets_max: int) -> None:
        self.made = _framing.Framing(line_octets_max)
        self.twin = framing_py.Framing(line_octets_max)

    def call(self, name: str, *arguments: Any) -> Any:
        """What both answer; the class of what both raise."""
        answer, expected = (_try(each, name, arguments) for each in (self.made, self.twin))
        assert answer == expected, (name, arguments, answer, expected)
        self.compare(name)
        return answer

    def compare(self, name: str) -> None:
        assert self.made.buffered() == self.twin.buffered(), name
        for fact in _FACTS:
            found, expected = getattr(self.made, fact), getattr(self.twin, fact)
            assert found == expected, (name, fact, found, expected)


def _try(framing: Any, name: str, arguments: tuple[Any, ...]) -> Any:
    try:
        return getattr(framing, name)(*arguments)
    except (RuntimeError, ValueError) as error:
        return type(error)


def run_framing(case: Case) -> Iterator[Feature]:
    """Feed it as a session does, with whatever a session may do and more."""
    chance = case.settings_chance()
    reading = _Reading(
        Pair(chance.choice((16, 64, 64, 512, 2048))),
        (b"P" * chance.choice((0, 3, 70)), chance.choice((0, 0, 32, 500)), chance.random() < 0.5),
        held_max=chance.choice((-1, -1, 0, 63)),
        mischief=chance.choice((0.0, 0.0, 0.02, 0.2)),
        chance=case.chance(),
    )
    for piece in pieces_of(case.chance(), case.octets):
        exact = array.array("B", (0,)) * len(piece)  # a repetition has no room behind it
        memoryview(exact)[:] = piece
        reading.pair.call("feed", exact)
        reading.read()
        reading.pair.call("keep_rest")
        memoryview(exact)[:] = b"!" * len(piece)
        assert reading.pair.made.__sizeof__() < _OCTETS_MAX + 4 * len(case.octets)
    yield from reading.features()


class _Reading:
    """What a session does with a framing."""

    def __init__(
        self,
        pair: Pair,
        options: tuple[bytes, int, bool],
        *,
        held_max: int,
        mischief: float,
        chance: random.Random,
    ) -> None:
        self.pair = pair
        self._options = options
        self._held_max = held_max
        self._mischief = mischief
        self._chance = chance
        self._is_content = self._is_chunked = False
        self._is_last = True
        self._taken_octets = 0
        self._said: list[object] = []

    def features(self) -> Iterator[Feature]:
        """Pairs of answers that follow each other."""
        return itertools.pairwise(self._said)

    def read(self) -> None:
        while True:
            if self._mischief and self._chance.random() < self._mischief:
                self._do_mischief()
            answer = self.pair.call("read_content" if self._is_content else "next_command")
            if answer is RuntimeError:  # mischief has ended the content, or begun one
                self._is_content = not self._is_content
                self._said.append("confused")
                return
            if answer == NEED_MORE:
                self._take_piece()
                return
            if answer == DONE:
                self._content_read()
            else:
                self._said.append(answer)
                if answer == COMMAND:
                    self._command()

    def _take_piece(self) -> None:
        twin = self.pair.twin
        held = twin.content_size - self._taken_octets
        if self._is_content and 0 <= self._held_max < held and not twin.violations & REFUSING:
            piece = self.pair.call("take_piece")
            self._taken_octets += 0 if piece is RuntimeError else len(piece)
            self._said.append("piece")

    def _content_read(self) -> None:
        self._is_content = False
        violations = self.pair.twin.violations
        if self._is_chunked and not self._is_last:
            self._said.append(("chunk", violations))
            return
        if self._is_chunked:
            self.pair.call("end_chunks")
            self._is_chunked = False
        violations = self.pair.twin.violations
        self._said.append(("content", violations))
        content = self.pair.call("take_content")
        if content is not RuntimeError:
            assert not violations & REFUSING
            check_canonical(content)
        else:
            assert violations & REFUSING or self._mischief

    def _command(self) -> None:
        twin = self.pair.twin
        self._said.append(twin.verb)
        if twin.verb == Verb.DATA and not self._is_chunked:
            self.pair.call("begin_content", *self._options, self._chance.choice((0, 10, 1 << 40)))
            self._is_content = self._is_last = True
            self._taken_octets = 0
        elif twin.verb == Verb.RSET:
            self.pair.call("drop_content")
            self._is_chunked = False
        elif twin.verb == Verb.VRFY and (chunk := parse_bdat(twin.argument)):
            self.pair.call("skip", chunk[0])
        elif twin.verb == Verb.BDAT and (chunk := parse_bdat(twin.argument)):
            if not self._is_chunked:
                self.pair.call("begin_chunked_content", *self._options)
                self._taken_octets = 0
            self.pair.call("begin_chunk", chunk[0])
            self._is_last = chunk[1]
            self._is_content = self._is_chunked = True

    def _do_mischief(self) -> None:
        """Something that may not be done now, or that a session does when it gives up."""
        name, arguments = self._chance.choice(_MISCHIEF)
        answer = self.pair.call(name, *arguments)
        if name == "drop_content":
            if self._is_chunked:
                self._is_content = False
            self._is_chunked = False
        elif name in ("begin_content", "begin_chunked_content", "begin_chunk") and answer is None:
            self._is_content = name != "begin_chunked_content"
            self._is_chunked = name != "begin_content"
            self._is_last = self._chance.random() < 0.5
            self._taken_octets = 0
        elif name == "end_chunks" and answer is None:
            self._is_chunked = False
        self._said.append((name, answer is None))


_MISCHIEF: tuple[tuple[str, tuple[object, ...]], ...] = (
    ("drop_content", ()),
    ("discard_content", ()),
    ("take_piece", ()),
    ("take_content", ()),
    ("end_chunks", ()),
    ("keep_rest", ()),
    ("feed", (b"", 0)),
    ("feed", (b"ab", 3)),
    ("skip", (0,)),
    ("skip", (5,)),
    ("skip", (-1,)),
    ("begin_chunk", (3,)),
    ("begin_chunk", (-1,)),
    ("begin_content", (b"again", 0, True)),
    ("begin_chunked_content", (b"again", 9, False)),
    ("set_line_octets_max", (16,)),
    ("set_line_octets_max", (15,)),
    ("set_line_octets_max", (12_288,)),
)


def check_canonical(content: bytes) -> None:
    """What an accepted content may be (RFC 5321 2.3.8)."""
    lines = content.split(b"\r\n")
    for line in lines:
        assert not re.search(rb"[\r\n\0]", line), line
    assert lines[-1] == b"" or b"\r\n" not in content, "the last line has no end"
