"""Framing: any octets, any pieces; twin and compiled say the same, and both what an oracle says."""

import re
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from fastmta.smtp import Verb, Violation, _framing, content_py, framing_py
from fastmta.smtp.frame import REFUSING
from tests.support.wire import chunked, pieces_of, read_wire

TOKENS = (
    b"\r\n", b"\r", b"\n", b".", b"..", b"\0", b" ", b"a", b"x" * 63, b"y" * 64, b"z" * 130,
    b"\r\n.\r\n", b"\r\n.", b"\xff", b"DATA\r\n", b"MAIL FROM:<a@b>\r\n", b"NOOP\t", b"v" * 2050,
    b"BDAT 0\r\n", b"BDAT 1\r\n", b"BDAT 3\r\n", b"BDAT 70\r\n", b"BDAT 2 LAST\r\n", b"RSET\r\n",
    b"BDAT 0 LAST\r\n", b"SKIP 1\r\n", b"SKIP 90\r\n",
)  # fmt: skip
WIRE = st.one_of(
    st.lists(st.sampled_from(TOKENS), max_size=20).map(b"".join),
    st.lists(st.sampled_from((b"\r", b"\n", b".", b"\0", b"a")), max_size=30).map(b"".join),
    st.binary(max_size=300),
)
CUTS = st.lists(st.integers(0, 1000), max_size=6)


def said(framing_class: Any, octets: bytes, cuts: list[int], **options: Any) -> list[Any]:
    inside = sorted(cut % (len(octets) + 1) for cut in cuts)
    return read_wire(framing_class(), pieces_of(octets, inside), **options)


@settings(deadline=None)
@given(
    WIRE,
    CUTS,
    st.booleans(),
    st.booleans(),
    st.sampled_from((0, 1, 64, 200)),
    st.sampled_from((0, 1, 63, 150)),
)
@example(b"\r\n.\r\r\n.\r\n", [3, 5], True, True, 0, 0)
def test_twin_equality_and_split_invariance(
    octets: bytes,
    cuts: list[int],
    is_content: bool,
    is_normalizing: bool,
    size_max: int,
    held_max: int,
) -> None:
    """Whatever the octets, wherever they are cut, whole or in pieces: the same, no exception."""
    wire = b"DATA\r\n" + octets if is_content else octets
    options = {"is_normalizing": is_normalizing, "size_max": size_max, "is_chunking": True}
    expected = said(framing_py.Framing, wire, [], **options)
    assert said(framing_py.Framing, wire, cuts, **options) == expected
    assert said(_framing.Framing, wire, [], **options) == expected
    assert said(_framing.Framing, wire, cuts, **options) == expected
    for framing_class in (framing_py.Framing, _framing.Framing):
        assert said(framing_class, wire, cuts, held_max=held_max, **options) == expected


def read_by_oracle(octets: bytes, is_normalizing: bool) -> tuple[int, bytes, bytes] | None:
    """Violations, canonical content and what is left, by search and replace; None: no end yet."""
    end = 0 if octets.startswith(b".\r\n") else octets.find(b"\r\n.\r\n") + 2
    if end == 1:
        return None
    raw, rest = octets[:end], octets[end + 3 :]
    bare_cr = re.search(rb"\r(?!\n)", raw) is not None
    bare_lf = re.search(rb"(?<!\r)\n", raw) is not None
    violations = Violation(0)
    if is_normalizing:
        violations |= Violation.NORMALIZED if bare_cr or bare_lf else Violation(0)
        raw = re.sub(rb"(?<!\r)\n", b"\r\n", re.sub(rb"\r(?!\n)", b" ", raw))
    else:
        violations |= Violation.BARE_CR if bare_cr else Violation(0)
        violations |= Violation.BARE_LF if bare_lf else Violation(0)
    if b"\0" in raw:
        violations |= Violation.NUL
    lines = raw.split(b"\r\n")
    content = b"\r\n".join(
        line[1:] if line[:1] == b"." and line != b"." else line for line in lines
    )
    return int(violations), content, rest


@settings(deadline=None)
@given(WIRE, CUTS, CUTS, st.booleans(), st.sampled_from((-1, 0, 63)))
def test_chunks_are_their_concatenation(
    octets: bytes, borders: list[int], cuts: list[int], is_normalizing: bool, held_max: int
) -> None:
    """Wherever the chunks end and wherever the wire is cut; and both what an oracle says."""
    wire = chunked(octets, sorted(border % (len(octets) + 1) for border in borders)) + b"QUIT\r\n"
    violations, content = read_chunks_by_oracle(octets, is_normalizing)
    stored = None if violations & REFUSING else content
    for framing_class in (framing_py.Framing, _framing.Framing):
        found = said(
            framing_class,
            wire,
            cuts,
            is_chunking=True,
            is_normalizing=is_normalizing,
            held_max=held_max,
        )
        assert found[-2] == (violations, len(content), stored)
        assert found[-1][0] == Verb.QUIT


def read_chunks_by_oracle(octets: bytes, is_normalizing: bool) -> tuple[int, bytes]:
    """Violations and canonical content, by search and replace."""
    bare_cr = re.search(rb"\r(?!\n)", octets) is not None
    bare_lf = re.search(rb"(?<!\r)\n", octets) is not None
    violations = Violation.NUL if b"\0" in octets else Violation(0)
    if is_normalizing:
        violations |= Violation.NORMALIZED if bare_cr or bare_lf else Violation(0)
    else:
        violations |= Violation.BARE_CR if bare_cr else Violation(0)
        violations |= Violation.BARE_LF if bare_lf else Violation(0)
    content = re.sub(rb"(?<!\r)\n", b"\r\n", re.sub(rb"\r(?!\n)", b" ", octets))
    if content and not content.endswith(b"\n"):
        content += b"\r\n"
    return int(violations), content


@settings(deadline=None)
@given(WIRE, st.booleans())
def test_content_is_what_the_oracle_says(octets: bytes, is_normalizing: bool) -> None:
    expected = read_by_oracle(octets, is_normalizing)
    for framing in (framing_py.Framing(), _framing.Framing()):
        framing.begin_content(b"P", 0, is_normalizing)
        framing.feed(octets)
        if expected is None:
            assert framing.read_content() == 0
            continue
        violations, content, rest = expected
        assert framing.read_content() == 5
        assert framing.violations == violations
        assert framing.buffered() == len(rest)
        if not violations & 31:
            assert framing.take_content() == b"P" + content
            assert framing.content_size == len(content)


CONTENT_LINES = st.lists(
    st.sampled_from((b"", b".", b"..", b".a", b"a.", b"x" * 64, b"y" * 300, b"\x80\xff", b" ."))
)


@settings(deadline=None)
@given(CONTENT_LINES, CUTS)
def test_what_leaves_comes_in_again(lines: list[bytes], cuts: list[int]) -> None:
    """Stuffing and reading are inverse, and what is sent ends only where its end is."""
    content = b"".join(line + b"\r\n" for line in lines)
    wire = b"DATA\r\n" + content_py.stuff(content) + b".\r\nQUIT\r\n"
    for framing_class in (framing_py.Framing, _framing.Framing):
        found = said(framing_class, wire, cuts)
        assert len(found) == 3
        assert found[1] == (0, len(content), content)
