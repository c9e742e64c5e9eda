"""Whether a header section needs SMTPUTF8: in memory, and piece by piece from a file."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastmta.delivery.content import HeaderLook, is_ascii_header


class Pieces:
    """Hands out the pieces of a content, then the end or an error, at once."""

    def __init__(self, octets: bytes, cuts: list[int], error: Exception | None = None) -> None:
        places = sorted({cut % (len(octets) + 1) for cut in cuts} | {0, len(octets)})
        self._pieces = [octets[begin:end] for begin, end in itertools.pairwise(places)]
        self._error = error
        self.reads = 0

    def read(self, done: Callable[[bytes, Exception | None], None]) -> None:
        self.reads += 1
        piece = self._pieces.pop(0) if self._pieces else b""
        done(piece, None if piece else self._error)


def looked(stream: Pieces) -> tuple[bool, Exception | None]:
    answers: list[tuple[bool, Exception | None]] = []
    HeaderLook(stream, lambda *answer: answers.append(answer))
    (answer,) = answers
    return answer


@pytest.mark.parametrize(
    ("content", "is_ascii"),
    [
        (b"", True),
        (b"Subject: x\r\n\r\n\xff\r\n", True),
        (b"Subject: \xff\r\n\r\nx\r\n", False),
        (b"A: b\r\nSubject: \xff\r\n\r\nx\r\n", False),
        (b"\r\n\xff\r\n\r\n", True),  # no header section
        (b"Subject: x\r\n", True),
        (b"Subject: \xff\r\n", False),
        (b"\xff", False),
        (b"A: b\r\n\r\n", True),
    ],
)
def test_header_section_is_looked_at_and_nothing_else(content: bytes, is_ascii: bool) -> None:
    assert is_ascii_header(content) is is_ascii
    for cut in range(len(content) + 1):
        assert looked(Pieces(content, [cut])) == (is_ascii, None)
    assert looked(Pieces(content, list(range(len(content))))) == (is_ascii, None)


LINES = st.lists(st.sampled_from([b"", b"A: b", b"\xff", b"\r", b"x" * 40]), max_size=12)


@settings(deadline=None)
@given(LINES, st.lists(st.integers(0, 500), max_size=6))
def test_pieces_do_not_matter(lines: list[bytes], cuts: list[int]) -> None:
    content = b"".join(line + b"\r\n" for line in lines)
    assert looked(Pieces(content, cuts)) == (is_ascii_header(content), None)


def test_reading_ends_with_the_header_section() -> None:
    stream = Pieces(b"A: b\r\n\r\n" + b"x" * 1000, list(range(0, 1000, 4)))
    assert looked(stream) == (True, None)
    assert stream.reads == 2


def test_a_header_section_without_end_is_given_up() -> None:
    content = b"A: b\r\n" * 1_000_000
    stream = Pieces(content, list(range(0, len(content), 128 * 1024)))
    assert looked(stream) == (False, None)
    assert stream.reads <= 33


def test_a_content_that_cannot_be_read() -> None:
    error = OSError("the disk does not give it")
    assert looked(Pieces(b"A: b\r\n", [], error)) == (False, error)
