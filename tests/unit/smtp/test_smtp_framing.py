"""Commands and contents on the wire: whole, octet by octet, at every split, with a tail."""

from typing import Any

import pytest

from fastmta.smtp import Verb, Violation, _framing, frame
from fastmta.smtp.limit import LINE_OCTETS_HARD
from tests.support.wire import TAIL, every_cut, load_cases, pieces_of, read_wire

SECOND = b"MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\nsecond\r\n.\r\n"
UNENDED = [case for case in load_cases("smuggling") if not case.values[0].get("ends_data")]
TAIL_SAID = (Verb.NOOP, b"tail", b"NOOP tail")


def octets_of(text: str) -> bytes:
    return text.encode("latin-1")


def check_every_way(framing_class: Any, octets: bytes, expected: list[Any], **options: Any) -> None:
    """The four ways of a wire case; an unfinished one gets no tail."""
    for name, cuts in every_cut(octets):
        said = read_wire(framing_class(64), pieces_of(octets, cuts), **options)
        assert said == expected, name
    if not expected or (isinstance(expected[-1], tuple) and expected[-1][0] == "buffered"):
        return
    said = read_wire(framing_class(64), [octets + TAIL], **options)
    assert said == [*expected, TAIL_SAID], "with a tail"


def expected_of(case: Any) -> list[Any]:
    """The `said` of a vector, without lines."""
    expected: list[Any] = []
    for item in case["said"]:
        if isinstance(item, str):
            expected.append(getattr(frame, item))
        elif len(item) == 3:
            expected.append((item[0], item[1], octets_of(item[2])))
        elif item[0] == "buffered":
            expected.append(("buffered", item[1]))
        else:
            expected.append((Verb[item[0]], octets_of(item[1])))
    return expected


def without_lines(said: list[Any]) -> list[Any]:
    return [
        item[:2] if isinstance(item, tuple) and isinstance(item[0], Verb) else item for item in said
    ]


@pytest.mark.parametrize("case", load_cases("commands"))
def test_command_vector(framing_class: Any, case: Any) -> None:
    octets = octets_of(case["octets"])
    expected = expected_of(case)
    for name, cuts in every_cut(octets):
        said = read_wire(framing_class(64), pieces_of(octets, cuts))
        assert without_lines(said) == expected, name
    if not (isinstance(expected[-1], tuple) and expected[-1][0] == "buffered"):
        said = read_wire(framing_class(64), [octets + TAIL])
        assert without_lines(said) == [*expected, TAIL_SAID[:2]]


def test_line_is_the_whole_line_and_the_argument_has_no_blanks(framing_class: Any) -> None:
    check_every_way(
        framing_class, b"rcpt  to:<a@b> \r\n", [(Verb.RCPT, b"to:<a@b>", b"rcpt  to:<a@b> ")]
    )


def smuggled(case: Any) -> bytes:
    before = octets_of(case.get("before", "first"))
    return b"DATA\r\n" + before + octets_of(case["sequence"]) + SECOND + b"QUIT\r\n"


def read_contents(framing_class: Any, octets: bytes, cuts: list[int], **options: Any) -> list[Any]:
    said = read_wire(framing_class(64), pieces_of(octets, cuts), **options)
    return [item if len(item) < 3 or not isinstance(item[0], Verb) else item[0] for item in said]


@pytest.mark.parametrize("held_max", [-1, 0])
@pytest.mark.parametrize("case", UNENDED)
def test_smuggling_vector_in_reject_mode(framing_class: Any, case: Any, held_max: int) -> None:
    """The data ends at CR LF . CR LF; violations are seen, and nothing is stored with them."""
    octets = smuggled(case)
    violations = sum(Violation[name] for name in case["violations"])
    for name, cuts in every_cut(octets):
        said = read_contents(framing_class, octets, cuts, held_max=held_max)
        assert [said[0], said[-1]] == [Verb.DATA, Verb.QUIT], name
        assert len(said) == 3, name  # one content: the second message is part of it
        assert said[1][0] == violations, name
        assert (said[1][2] is None) == bool(violations), name
        if not violations:
            stored = octets_of(case["normalized"]) + SECOND[: -len(b".\r\n")]
            assert said[1][2] == stored, name


@pytest.mark.parametrize("held_max", [-1, 0])
@pytest.mark.parametrize("case", UNENDED)
def test_smuggling_vector_in_normalize_mode(framing_class: Any, case: Any, held_max: int) -> None:
    """Repaired before it is stored, or refused; the data ends nowhere else either."""
    octets = smuggled(case)
    for name, cuts in every_cut(octets):
        said = read_contents(framing_class, octets, cuts, is_normalizing=True, held_max=held_max)
        assert len(said) == 3, name
        violations, size, content = said[1]
        if "normalized" not in case:
            assert violations & Violation.NUL, name
            assert content is None, name
            continue
        assert content == octets_of(case["normalized"]) + SECOND[: -len(b".\r\n")], name
        assert size == len(content)
        assert violations == (Violation.NORMALIZED if case["violations"] else 0), name
        assert b"\r" not in content.replace(b"\r\n", b""), name
        assert b"\n" not in content.replace(b"\r\n", b""), name


@pytest.mark.parametrize("is_normalizing", [False, True])
def test_true_end_of_data(framing_class: Any, is_normalizing: bool) -> None:
    """The two sequences of the table that do end the data: what follows are commands."""
    options = {"is_normalizing": is_normalizing}
    data = (Verb.DATA, b"", b"DATA")
    mail = (Verb.MAIL, b"x", b"MAIL x")
    check_every_way(framing_class, b"DATA\r\n.\r\nMAIL x\r\n", [data, (0, 0, b""), mail], **options)
    check_every_way(
        framing_class,
        b"DATA\r\nfirst\r\n.\r\n\rMAIL x\r\nMAIL x\r\n",
        [data, (0, 7, b"first\r\n"), frame.BARE_CR_OR_LF, mail],
        **options,
    )


def test_the_table_of_smuggling_is_complete() -> None:
    cases = [parameter.values[0] for parameter in load_cases("smuggling")]
    assert len(cases) == 21
    assert sum(bool(case.get("ends_data")) for case in cases) == 2


def read_one(framing: Any, wire: bytes, **options: Any) -> int:
    framing.begin_content(
        options.get("prefix", b""), options.get("size_max", 0), False, options.get("size_hint", 0)
    )
    framing.feed(wire)
    answer = framing.read_content()
    framing.keep_rest()
    assert isinstance(answer, int)
    return answer


@pytest.mark.parametrize("size_hint", [-1, 0, 1, 5, 10_000_000])
def test_prefix_and_content_are_one_object(framing_class: Any, size_hint: int) -> None:
    framing = framing_class()
    wire = b"line one\r\n..two\r\n" * 300 + b".\r\n"
    assert read_one(framing, wire, prefix=b"Received: x\r\n", size_hint=size_hint) == frame.DONE
    content = framing.take_content()
    assert content == b"Received: x\r\n" + b"line one\r\n.two\r\n" * 300
    assert framing.content_size == len(content) - len(b"Received: x\r\n")


def test_content_is_taken_once(framing_class: Any) -> None:
    framing = framing_class()
    read_one(framing, b"a\r\n.\r\n")
    assert framing.take_content() == b"a\r\n"
    with pytest.raises(RuntimeError):
        framing.take_content()


def test_empty_content_is_the_prefix(framing_class: Any) -> None:
    framing = framing_class()
    assert read_one(framing, b".\r\n", prefix=b"P\r\n") == frame.DONE
    assert framing.take_content() == b"P\r\n"


@pytest.mark.parametrize("excess", [0, 1])
def test_size_limit_counts_canonical_octets_without_prefix(framing_class: Any, excess: int) -> None:
    framing = framing_class()
    line = b"x" * (98 + excess) + b"\r\n"
    assert read_one(framing, b"." + b"." + line[1:] + b".\r\n", prefix=b"P" * 50, size_max=100) == 5
    assert framing.content_size == 100 + excess
    assert framing.violations == (Violation.TOO_BIG if excess else 0)
    if excess:
        with pytest.raises(RuntimeError):
            framing.take_content()
    else:
        assert len(framing.take_content()) == 150


def test_too_big_content_is_read_to_its_end(framing_class: Any) -> None:
    framing = framing_class()
    framing.begin_content(b"", 10, False)
    for _ in range(50):
        framing.feed(b"0123456789\r\n")
        assert framing.read_content() == frame.NEED_MORE
        assert framing.buffered() == 0
    framing.feed(b".\r\nQUIT\r\n")
    assert framing.read_content() == frame.DONE
    assert framing.content_size == 600
    assert framing.next_command() == frame.COMMAND
    assert framing.verb == Verb.QUIT


@pytest.mark.parametrize("step", [1000, 65_536, 200_000])
@pytest.mark.parametrize("excess", [0, 1])
def test_line_limit(framing_class: Any, excess: int, step: int) -> None:
    """A text line of 64 KiB with its CR LF passes, one octet more does not (as RFC 5321 4.5.3.1.6
    leaves it to the server)."""
    wire = b"short\r\n" + b"x" * (LINE_OCTETS_HARD - 2 + excess) + b"\r\nshort\r\n.\r\n"
    framing = framing_class()
    framing.begin_content(b"", 0, False)
    answers = []
    for begin in range(0, len(wire), step):
        framing.feed(wire[begin : begin + step])
        answers.append(framing.read_content())
        framing.keep_rest()
    assert answers[-1] == frame.DONE
    assert framing.violations == (Violation.LINE_TOO_LONG if excess else 0)


def test_every_violation_is_reported_at_once(framing_class: Any) -> None:
    framing = framing_class()
    assert read_one(framing, b"a\rb\nc\0d\r\n.\r\n", size_max=2) == frame.DONE
    assert framing.violations == (
        Violation.BARE_CR | Violation.BARE_LF | Violation.NUL | Violation.TOO_BIG
    )


def test_the_next_content_does_not_inherit_violations(framing_class: Any) -> None:
    framing = framing_class()
    read_one(framing, b"\0\r\n.\r\n")
    assert framing.violations
    read_one(framing, b"a\r\n.\r\n")
    assert (framing.violations, framing.take_content()) == (0, b"a\r\n")


@pytest.mark.parametrize("offset", range(60, 70))
@pytest.mark.parametrize("odd", [b"\r", b"\n", b"\0", b"\r\n.", b"\r\n..", b"\r\r\n", b"\n\r\n"])
def test_odd_octets_at_the_edges_of_the_scanned_blocks(
    framing_class: Any, odd: bytes, offset: int
) -> None:
    """The compiled scan works on 64 octets at a time: the same answers on each side of an edge."""
    wire = b"DATA\r\n" + b"x" * offset + odd + b"y" * 70 + b"\r\n.\r\n"
    violations, _, content = read_wire(framing_class(), [wire])[1]
    expected = sum(
        violation
        for violation, octets in (
            (Violation.BARE_CR, b"\r"),
            (Violation.BARE_LF, b"\n"),
            (Violation.NUL, b"\0"),
        )
        if octets in odd.replace(b"\r\n", b"")
    )
    assert violations == expected
    if not expected:
        assert content == b"x" * offset + odd.replace(b"\n.", b"\n") + b"y" * 70 + b"\r\n"


def test_pipelined_octets_are_seen_as_buffered(framing_class: Any) -> None:
    framing = framing_class()
    framing.feed(b"DATA\r\nMAIL")
    assert framing.next_command() == frame.COMMAND
    assert framing.buffered() == 4


def test_rest_survives_the_callers_buffer(framing_class: Any) -> None:
    framing = framing_class()
    scratch = bytearray(b"NOOP one\r\nNOO")
    framing.feed(scratch, len(scratch))
    assert framing.next_command() == frame.COMMAND
    framing.keep_rest()
    scratch[:] = b"?" * len(scratch)
    scratch += b"!"  # not exported any more: it may be resized
    framing.feed(b"P two\r\nNOOP three\r\n")
    assert framing.next_command() == frame.COMMAND
    assert framing.line == b"NOOP two"
    framing.feed(b"RSET\r\n")  # without keep_rest() in between
    assert [framing.next_command(), framing.line] == [frame.COMMAND, b"NOOP three"]
    assert [framing.next_command(), framing.line] == [frame.COMMAND, b"RSET"]
    assert framing.next_command() == frame.NEED_MORE


def test_endless_command_line_is_not_kept(framing_class: Any) -> None:
    framing = framing_class()
    for _ in range(100):
        framing.feed(b"x" * 1000)
        assert framing.next_command() == frame.NEED_MORE
        framing.keep_rest()
        assert framing.buffered() <= 2048
    framing.feed(b"\r\n")
    assert framing.next_command() == frame.TOO_LONG
    assert framing.buffered() == 0


def test_idle_session_keeps_no_buffer() -> None:
    """What 10,000 idle sessions hold is the object itself (design section 8)."""
    framing = _framing.Framing()
    idle = framing.__sizeof__()
    assert idle < 512
    for octets in (b"NOOP\r\n" * 10_000, b"NO", b"OP\r\n"):
        framing.feed(octets)
        while framing.next_command() == frame.COMMAND:
            pass
        framing.keep_rest()
    assert framing.__sizeof__() == idle
    framing.feed(b"NOOP\r\n" * 10_000)
    framing.keep_rest()
    assert framing.__sizeof__() >= idle + 60_000
    while framing.buffered() > 100:
        framing.next_command()
    framing.keep_rest()
    assert framing.__sizeof__() < idle + 8192  # a burst's buffer is given back
    read_one(framing := _framing.Framing(), b"x\r\n" * 10_000 + b".\r\n")
    framing.take_content()
    assert framing.__sizeof__() == idle


def test_misuse_is_refused(framing_class: Any) -> None:
    framing = framing_class()
    with pytest.raises(RuntimeError):
        framing.read_content()
    with pytest.raises(RuntimeError):
        framing.take_content()
    framing.begin_content(b"", 0, False)
    with pytest.raises(RuntimeError):
        framing.begin_content(b"", 0, False)
    with pytest.raises(RuntimeError):
        framing.next_command()
    with pytest.raises(RuntimeError):
        framing.take_content()
    with pytest.raises(ValueError, match="at least"):
        framing_class(3)
    with pytest.raises(ValueError, match="count"):
        framing.feed(b"abc", 4)


def test_pieces_leave_nothing_behind(framing_class: Any) -> None:
    """The prefix is in the first piece only; what a piece took needs no room any more."""
    framing = framing_class()
    framing.begin_content(b"prefix\r\n", 0, False, 100_000)
    idle = framing.__sizeof__()
    assert framing.take_piece() == b"prefix\r\n"
    assert framing.take_piece() == b""
    framing.feed(b"x" * 5000 + b"\r\n..\r")
    assert framing.read_content() == frame.NEED_MORE
    framing.keep_rest()
    assert framing.take_piece() == b"x" * 5000 + b"\r\n."
    assert framing.__sizeof__() <= idle
    framing.feed(b"\nrest\r\n.\r\n")
    assert framing.read_content() == frame.DONE
    with pytest.raises(RuntimeError):
        framing.take_piece()
    assert framing.take_content() == b"\r\nrest\r\n"
    assert framing.content_size == 5000 + 2 + 1 + 2 + 6


def test_a_refused_or_discarded_content_has_no_piece(framing_class: Any) -> None:
    framing = framing_class()
    assert read_one(framing, b"a\0b", prefix=b"p") == frame.NEED_MORE
    with pytest.raises(RuntimeError):
        framing.take_piece()
    framing = framing_class()
    assert read_one(framing, b"abc", prefix=b"p") == frame.NEED_MORE
    framing.discard_content()
    with pytest.raises(RuntimeError):
        framing.take_piece()
    framing.feed(b"d\r\n.\r\n")
    assert framing.read_content() == frame.DONE
    assert (framing.violations, framing.content_size) == (0, 6)
    with pytest.raises(RuntimeError):
        framing.take_content()
