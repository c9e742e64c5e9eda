"""Standard input in any pieces: the same lines, the same end, the same recipients."""

from __future__ import annotations

import io
import re
from collections.abc import Callable

from hypothesis import example, given
from hypothesis import strategies as st

from fastmta.postfix.reading import LINE_OCTETS_MAX, Lines, read_header, recipients_of

PIECES = st.lists(
    st.sampled_from([b"a", b".", b"\n", b"\r", b"\0", b"From ", b">", b"To: x@y.test", b" ", b":"]),
    max_size=40,
).map(b"".join)


def pieces_of(octets: bytes, size: int) -> Callable[[int], bytes]:
    stream = io.BytesIO(octets)
    return lambda _: stream.read(size)


def plain(octets: bytes, ends_at_dot: bool) -> bytes:
    """The specification: line by line."""
    if octets and not octets.endswith(b"\n"):
        octets += b"\n"
    kept = []
    is_first = True
    for line in re.findall(rb"[^\n]*\n", octets.replace(b"\0", b"")):
        bare = line[:-1].rstrip(b"\r")
        if is_first and bare.lstrip(b">").startswith(b"From "):
            continue
        is_first = False
        if ends_at_dot and bare == b".":
            break
        kept.append(bare + b"\n")
    return b"".join(kept)


@given(PIECES, st.booleans(), st.integers(1, 7))
@example(b"x\r", True, 1)
@example(b".", True, 1)
@example(b"\n.\r\nx", True, 3)
def test_lines_are_the_same_in_any_pieces(octets: bytes, ends_at_dot: bool, size: int) -> None:
    blocks = list(Lines(pieces_of(octets, size), ends_at_dot))
    assert all(block.endswith(b"\n") for block in blocks)
    assert b"".join(blocks) == plain(octets, ends_at_dot)


@given(st.lists(st.integers(0, 3 * LINE_OCTETS_MAX), max_size=4), st.sampled_from([4096, 65536]))
def test_a_long_line_is_broken_and_nothing_is_lost(lengths: list[int], size: int) -> None:
    octets = b"\n".join(b"x" * length for length in lengths) + b"\nend\n"
    found = b"".join(Lines(pieces_of(octets, size), False))
    assert found.replace(b"\n", b"") == octets.replace(b"\n", b"")
    assert max(map(len, found.split(b"\n"))) <= 2 * LINE_OCTETS_MAX


@given(PIECES, st.integers(1, 9))
def test_a_header_section_ends_where_it_ends(octets: bytes, size: int) -> None:
    blocks = iter(Lines(pieces_of(octets, size), False))
    read, end = read_header(blocks, 10_000)
    whole = read + b"".join(blocks)
    assert whole == plain(octets, False)
    assert read_header(iter([whole]), 10_000)[1] == end


def test_a_header_section_without_an_end_is_not_read_for_ever() -> None:
    blocks = iter([b"X: y\n" * 100] * 100)
    assert read_header(blocks, 1000)[1] == -1
    assert len(list(blocks)) > 90


@given(st.binary(max_size=300))
def test_recipients_of_anything(header: bytes) -> None:
    recipients_of(header)
