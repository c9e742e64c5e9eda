"""BDAT: its argument, contents in chunks, and octets that are skipped."""

import re
from typing import Any

import pytest

from fastmta.smtp import Verb, Violation, _framing, frame
from fastmta.smtp.chunk import parse_bdat
from fastmta.smtp.limit import LINE_OCTETS_HARD
from tests.support.wire import chunked, every_cut, load_cases, pieces_of, read_wire

SECOND = b"MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\nsecond\r\n.\r\n"
QUIT_SAID = (Verb.QUIT, b"", b"QUIT")


@pytest.mark.parametrize(
    ("argument", "expected"),
    [
        (b"0", (0, False)),
        (b"1 LAST", (1, True)),
        (b"0 last", (0, True)),
        (b"86 \t Last", (86, True)),
        (b"0000000086", (86, False)),
        (b"9999999999", (9_999_999_999, False)),
        (b"", None),
        (b"LAST", None),
        (b"1LAST", None),
        (b"1 LAST 2", None),
        (b"1 LASTX", None),
        (b"1 2", None),
        (b"00000000086", None),  # eleven digits
        (b"-1", None),
        (b"+1", None),
        (b"1_0", None),
        (b"1.0", None),
        (b"0x1", None),
        (b" 1", None),
        (b"1 ", None),
        (b"1\n", None),
        (b"1 LAST\n", None),
        (b"1\x0bLAST", None),
        ("\u0661".encode(), None),  # a digit of another script
        (b"1 LA\xc5\xbfT", None),  # a letter that folds to S
    ],
)
def test_argument_of_bdat(argument: bytes, expected: tuple[int, bool] | None) -> None:
    assert parse_bdat(argument) == expected


def expected_of(case: Any) -> list[Any]:
    expected: list[Any] = []
    for item in case["said"]:
        if isinstance(item, str):
            expected.append(item if item == "chunk" else getattr(frame, item))
        elif isinstance(item[0], list):
            violations = sum(Violation[name] for name in item[0])
            content = item[1].encode("latin-1") if len(item) > 1 else None
            expected.append((violations, content))
        else:
            expected.append((Verb[item[0]], item[1].encode("latin-1")))
    return expected


def shown(said: list[Any]) -> list[Any]:
    """Commands without their lines, contents without their sizes."""
    return [
        item
        if not isinstance(item, tuple)
        else item[:2]
        if isinstance(item[0], Verb)
        else item[::2]
        for item in said
    ]


@pytest.mark.parametrize("held_max", [-1, 0, 3])
@pytest.mark.parametrize("case", load_cases("chunks"))
def test_chunk_vector(framing_class: Any, case: Any, held_max: int) -> None:
    octets = case["octets"].encode("latin-1")
    options = {
        "is_chunking": True,
        "is_normalizing": case.get("is_normalizing", False),
        "size_max": 32,
        "held_max": held_max,
    }
    for name, cuts in every_cut(octets):
        said = read_wire(framing_class(64), pieces_of(octets, cuts), **options)
        assert shown(said) == expected_of(case), name
    said = read_wire(framing_class(64), [octets + b"NOOP\r\n"], **options)
    assert shown(said) == [*expected_of(case), (Verb.NOOP, b"")]


def repaired(octets: bytes) -> bytes:
    """What is stored of a content without a NUL, by search and replace."""
    octets = re.sub(rb"(?<!\r)\n", b"\r\n", re.sub(rb"\r(?!\n)", b" ", octets))
    return octets if not octets or octets.endswith(b"\r\n") else octets + b"\r\n"


def violations_of(octets: bytes) -> int:
    return int(
        (Violation.BARE_CR if re.search(rb"\r(?!\n)", octets) else 0)
        | (Violation.BARE_LF if re.search(rb"(?<!\r)\n", octets) else 0)
        | (Violation.NUL if b"\0" in octets else 0)
    )


@pytest.mark.parametrize("case", load_cases("smuggling"))
@pytest.mark.parametrize("is_normalizing", [False, True])
def test_smuggling_vector_in_a_chunk(framing_class: Any, case: Any, is_normalizing: bool) -> None:
    """No sequence ends the content; what is lone is seen and refused, or repaired."""
    content = (case.get("before", "first") + case["sequence"]).encode("latin-1") + SECOND
    octets = chunked(content, []) + b"QUIT\r\n"
    said = read_wire(framing_class(64), [octets], is_chunking=True, is_normalizing=is_normalizing)
    violations = violations_of(content)
    if is_normalizing and violations:
        violations = violations & Violation.NUL | Violation.NORMALIZED * (
            violations & ~Violation.NUL != 0
        )
    stored = None if violations & frame.REFUSING else repaired(content)
    assert said[1:] == [(violations, len(repaired(content)), stored), QUIT_SAID]
    for name, cuts in every_cut(octets):
        again = read_wire(
            framing_class(64),
            pieces_of(octets, cuts),
            is_chunking=True,
            is_normalizing=is_normalizing,
        )
        assert again == said, name


@pytest.mark.parametrize("case", load_cases("smuggling"))
@pytest.mark.parametrize("is_normalizing", [False, True])
def test_smuggling_vector_at_chunk_borders(
    framing_class: Any, case: Any, is_normalizing: bool
) -> None:
    """Where chunks end makes no difference to what they are together."""
    before = case.get("before", "first").encode("latin-1")
    sequence = case["sequence"].encode("latin-1")
    content = before + sequence + SECOND
    options = {"is_chunking": True, "is_normalizing": is_normalizing}
    whole = read_wire(framing_class(64), [chunked(content, []) + b"QUIT\r\n"], **options)[1:]
    borders = range(len(before), len(before) + len(sequence) + 1)
    for cuts in [[border] for border in borders] + [list(borders), list(range(len(content)))]:
        octets = chunked(content, cuts) + b"QUIT\r\n"
        for pieces in ([octets], pieces_of(octets, list(range(1, len(octets))))):
            said = read_wire(framing_class(64), pieces, **options)
            commands = [item for item in said[:-2] if item != "chunk"]
            assert {item[0] for item in commands} == {Verb.BDAT}, cuts
            assert said[-2:] == whole, cuts


def read_chunk(framing: Any, octets: bytes) -> None:
    framing.begin_chunk(len(octets))
    framing.feed(octets)
    assert framing.read_content() == frame.DONE
    framing.keep_rest()


@pytest.mark.parametrize("excess", [0, 1])
@pytest.mark.parametrize("tail", [b"\r\n", b""])
def test_line_limit_over_chunks(framing_class: Any, excess: int, tail: bytes) -> None:
    """The line end that is missing at the end of a content counts as if it were there."""
    framing = framing_class()
    framing.begin_chunked_content(b"", 0, False)
    for size in (1, LINE_OCTETS_HARD - 4 + excess, 1):
        read_chunk(framing, b"x" * size)
    read_chunk(framing, tail)
    framing.end_chunks()
    assert framing.violations == (Violation.LINE_TOO_LONG if excess else 0)
    assert framing.content_size == LINE_OCTETS_HARD + excess


def test_prefix_stands_in_front_and_is_no_content(framing_class: Any) -> None:
    framing = framing_class()
    framing.begin_chunked_content(b"P\r\n", 3, False, 1000)
    read_chunk(framing, b"")
    read_chunk(framing, b"a")
    framing.end_chunks()
    assert framing.content_size == 3
    assert framing.take_content() == b"P\r\na\r\n"


def test_pieces_between_chunks(framing_class: Any) -> None:
    framing = framing_class()
    framing.begin_chunked_content(b"P", 0, False)
    assert framing.take_piece() == b"P"
    read_chunk(framing, b"abc\r")
    assert framing.take_piece() == b"abc"
    read_chunk(framing, b"\nd")
    framing.end_chunks()
    with pytest.raises(RuntimeError):
        framing.take_piece()
    assert framing.take_content() == b"\r\nd\r\n"
    assert framing.content_size == 8


def test_discarded_chunks_are_read_on(framing_class: Any) -> None:
    framing = framing_class()
    framing.begin_chunked_content(b"P", 0, False)
    read_chunk(framing, b"abc")
    framing.discard_content()
    read_chunk(framing, b"d\0")
    framing.end_chunks()
    assert (framing.content_size, framing.violations) == (7, Violation.NUL)
    with pytest.raises(RuntimeError):
        framing.take_content()
    framing.begin_content(b"", 0, False)


def test_dropped_in_a_chunk(framing_class: Any) -> None:
    """The rest of the chunk is skipped, wherever it comes from; then there are commands."""
    framing = framing_class()
    framing.begin_chunked_content(b"", 0, False)
    framing.begin_chunk(10)
    framing.feed(b"abc")
    assert framing.read_content() == frame.NEED_MORE
    framing.keep_rest()
    framing.drop_content()
    framing.feed(b"QU")
    framing.drop_content()
    assert framing.next_command() == frame.NEED_MORE
    framing.keep_rest()
    framing.feed(b"IT\r\n\rNOOP\r\n")
    assert framing.next_command() == frame.COMMAND
    assert (framing.line, framing.buffered()) == (b"NOOP", 0)


def test_dropped_wherever_it_stands(framing_class: Any) -> None:
    framing = framing_class()
    framing.drop_content()  # there is none
    framing.begin_chunked_content(b"", 0, False)
    framing.drop_content()  # before the first chunk
    framing.begin_chunked_content(b"", 0, False)
    read_chunk(framing, b"a")
    framing.end_chunks()
    framing.drop_content()  # done and not taken
    with pytest.raises(RuntimeError):
        framing.take_content()
    framing.begin_content(b"", 0, False)
    framing.feed(b"a\r\n")
    assert framing.read_content() == frame.NEED_MORE
    framing.drop_content()  # up to its end of data, which is looked for
    framing.feed(b"b\r\n.\r\nNOOP\r\n")
    assert framing.read_content() == frame.DONE
    assert framing.next_command() == frame.COMMAND
    with pytest.raises(RuntimeError):
        framing.take_content()


def test_skipping_keeps_nothing(framing_class: Any) -> None:
    """A gigabyte of a refused chunk needs no room."""
    framing = framing_class()
    idle = framing.__sizeof__()
    block = bytes(1_000_000)
    framing.feed(block)
    framing.skip(1_000_000_000)
    assert framing.buffered() == 0
    framing.keep_rest()
    for _ in range(999):
        framing.feed(block)
        assert framing.next_command() == frame.NEED_MORE
        framing.keep_rest()
        assert (framing.buffered(), framing.__sizeof__()) == (0, idle)
    framing.feed(b"NOOP\r\n")
    assert framing.next_command() == frame.COMMAND
    assert framing.line == b"NOOP"


@pytest.mark.parametrize("size", [16, 64, 12_288])
def test_limit_of_lines_can_change_between_lines(framing_class: Any, size: int) -> None:
    """An AUTH response may be longer than a command (RFC 4954 4)."""
    framing = framing_class(16)
    line = b"x" * (size - 2) + b"\r\n"
    framing.set_line_octets_max(size)
    for piece in (line[:10], line[10:] + b"x" + line):
        framing.feed(piece)
        answer = framing.next_command()
        framing.keep_rest()
    assert answer == frame.COMMAND
    assert framing.line == line[:-2]
    assert framing.next_command() == frame.TOO_LONG
    framing.set_line_octets_max(16)
    framing.feed(b"x" * 15 + b"\r\n" + b"y" * 14 + b"\r\n")
    assert framing.next_command() == frame.TOO_LONG
    assert framing.next_command() == frame.COMMAND
    with pytest.raises(ValueError, match="at least"):
        framing.set_line_octets_max(15)


def test_chunk_after_a_content_and_content_after_a_chunk(framing_class: Any) -> None:
    """A "." means something in the one only."""
    framing = framing_class()
    for _ in range(2):
        framing.begin_chunked_content(b"", 0, False)
        read_chunk(framing, b".\r\n..a\r\n")
        framing.end_chunks()
        assert framing.take_content() == b".\r\n..a\r\n"
        framing.begin_content(b"", 0, False)
        framing.feed(b"..a\r\n.\r\n")
        assert framing.read_content() == frame.DONE
        assert framing.take_content() == b".a\r\n"


def test_misuse_of_chunks_is_refused(framing_class: Any) -> None:
    framing = framing_class()
    for call in (lambda: framing.begin_chunk(1), framing.end_chunks):
        with pytest.raises(RuntimeError):
            call()
    for call in (lambda: framing.skip(-1),):
        with pytest.raises(ValueError, match="negative"):
            call()
    framing.begin_chunked_content(b"", 0, False)
    for call in (
        framing.read_content,
        framing.take_content,
        lambda: framing.begin_content(b"", 0, False),
        lambda: framing.begin_chunked_content(b"", 0, False),
    ):
        with pytest.raises(RuntimeError):
            call()
    with pytest.raises(ValueError, match="negative"):
        framing.begin_chunk(-1)
    framing.begin_chunk(1)
    for call in (
        framing.next_command,
        framing.end_chunks,
        framing.take_content,
        lambda: framing.begin_chunk(1),
        lambda: framing.skip(1),
    ):
        with pytest.raises(RuntimeError):
            call()
    framing.drop_content()
    for call in (
        lambda: framing.skip(1),
        lambda: framing.begin_content(b"", 0, False),
    ):
        with pytest.raises(RuntimeError):
            call()


def test_chunks_leave_nothing_behind() -> None:
    framing = _framing.Framing()
    idle = framing.__sizeof__()
    framing.begin_chunked_content(b"", 0, False, 100_000)
    framing.begin_chunk(1_000_000_000)
    framing.keep_rest()
    assert framing.__sizeof__() == idle  # what is announced only is not allocated
    framing.feed(b"x" * 5000)
    framing.read_content()
    framing.keep_rest()
    assert framing.__sizeof__() >= idle + 5000
    framing.drop_content()
    framing.keep_rest()
    assert framing.__sizeof__() == idle
