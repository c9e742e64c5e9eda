"""Header sections and dot-stuffing."""

from typing import Any

import pytest

from fastmta.smtp.content_py import LineEndError

TRACE = b"Received: from a\r\n\tby b;\r\n\tdate\r\n"
HEADER = (
    TRACE
    + b"received : from c\r\nBcc: x@y\r\nFrom: a@b\r\nMessage-ID:\r\n <1@x>\r\nMIME-Version: 1.0"
    b"\r\nResent-BCC: p@q,\r\n r@s\r\nReply-To: z@z\r\nMessage-Id: <2@x>\r\n\r\n"
)


def test_header_section(content: Any) -> None:
    octets = HEADER + b"Bcc: is text here\r\n"
    end, received, fields, message_id, spans = content.scan_header_section(octets, 0)
    assert end == len(HEADER)
    assert (received, fields, message_id) == (2, 9, b"<1@x>")
    assert [octets[begin:stop] for begin, stop in spans] == [
        b"Bcc: x@y\r\n",
        b"Resent-BCC: p@q,\r\n r@s\r\n",
    ]


def test_fields_before_the_start_are_not_counted(content: Any) -> None:
    end, received, fields, _, spans = content.scan_header_section(HEADER, len(TRACE))
    assert (end, received, fields, len(spans)) == (len(HEADER), 1, 8, 2)


@pytest.mark.parametrize(
    ("octets", "end", "fields"),
    [
        (b"", 0, 0),
        (b"\r\n", 2, 0),
        (b"\r\nA: b\r\n", 2, 0),
        (b"just text\r\n", 0, 0),
        (b" folded nothing\r\nA: b\r\n", 0, 0),
        (b"A: b\r\ntext\r\n", 6, 1),
        (b"A: b\r\n", 6, 1),
        (b"A: b", 4, 1),
        (b"A: b\r\n\r\n", 8, 1),
        (b"A:\r\n", 4, 1),
        (b":b\r\n", 0, 0),
        (b"A b: c\r\n", 0, 0),
        (b"A\xff: c\r\n", 0, 0),
        (b"From x Mon Jan 1 00:00:00\r\nA: b\r\n", 0, 0),
        (b"A: b\r\n\t\r\nC: d\r\n\r\n", 17, 2),
        (b"A: b\r\n\rx", 6, 1),
    ],
)
def test_end_of_header_section(content: Any, octets: bytes, end: int, fields: int) -> None:
    assert content.scan_header_section(octets, 0)[:3:2] == (end, fields)


@pytest.mark.parametrize("last", [b"Bcc: a\r\n b", b"Bcc: a\r\n b\r\n"])
def test_last_field_without_an_empty_line_behind_it(content: Any, last: bytes) -> None:
    octets = b"A: b\r\n" + last
    assert content.scan_header_section(octets, 0)[4] == ((6, len(octets)),)
    octets = b"A: b\r\nMessage-ID: <x>"
    assert content.scan_header_section(octets, 0)[3] == b"<x>"


def test_names_to_drop_are_the_callers(content: Any) -> None:
    octets = b"Bcc: a\r\nX-Secret: b\r\nx-secret2: c\r\n\r\n"
    spans = content.scan_header_section(octets, 0, frozenset((b"x-secret",)))[4]
    assert [octets[begin:end] for begin, end in spans] == [b"X-Secret: b\r\n"]
    assert content.scan_header_section(octets, 0, frozenset())[4] == ()


def test_start_is_an_offset(content: Any) -> None:
    with pytest.raises(ValueError, match="start"):
        content.scan_header_section(b"A: b\r\n", -1)
    assert content.scan_header_section(b"A: b\r\n", 6) == (6, 0, 0, b"", ())


@pytest.mark.parametrize(
    "octets", [b"", b"a\r\n", b"a.b\r\n..c"[:5], b"\r\n", b"x" * 500 + b"\r\n"]
)
def test_nothing_to_stuff_is_the_same_object(content: Any, octets: bytes) -> None:
    assert content.stuff(octets) is octets


@pytest.mark.parametrize(
    ("octets", "stuffed"),
    [
        (b".\r\n", b"..\r\n"),
        (b".", b"..\r\n"),
        (b"a", b"a\r\n"),
        (b"a\r\n.", b"a\r\n..\r\n"),
        (b"a\r\n.\r\nb\r\n", b"a\r\n..\r\nb\r\n"),
        (b"..a\r\n.b\r\nc.\r\n", b"...a\r\n..b\r\nc.\r\n"),
        (b"\r\n.\r\n.\r\n", b"\r\n..\r\n..\r\n"),
    ],
)
def test_stuffing(content: Any, octets: bytes, stuffed: bytes) -> None:
    assert content.stuff(octets) == stuffed


@pytest.mark.parametrize("offset", [0, 1, 61, 62, 63, 64, 65, 126, 127, 128])
@pytest.mark.parametrize("lone", [b"\r", b"\n", b"\r\r\n", b"\n\r\n", b"\n.\r\n", b"\r."])
def test_lone_cr_or_lf_never_leaves(content: Any, lone: bytes, offset: int) -> None:
    for tail in (b"", b"x\r\n", b"y" * 80 + b"\r\n"):
        with pytest.raises(LineEndError):
            content.stuff(b"x" * offset + lone + tail)


@pytest.mark.parametrize("offset", range(60, 67))
def test_dots_at_the_edges_of_the_scanned_blocks(content: Any, offset: int) -> None:
    octets = b"x" * offset + b"\r\n.y\r\n"
    assert content.stuff(octets) == b"x" * offset + b"\r\n..y\r\n"


@pytest.mark.parametrize(
    ("octets", "folded"),
    [
        (b"x" * 998 + b"\r\n", b"x" * 998 + b"\r\n"),
        (b"x" * 999 + b"\r\n", b"x" * 998 + b"\r\n x\r\n"),
        (b"x" * 999, b"x" * 998 + b"\r\n x\r\n"),
        (b"x" * 1995 + b"\r\n", b"x" * 998 + b"\r\n " + b"x" * 997 + b"\r\n"),
        (b"x" * 1996 + b"\r\n", b"x" * 998 + b"\r\n " + b"x" * 997 + b"\r\n x\r\n"),
        (b"." * 999 + b"\r\n", b"." * 999 + b"\r\n .\r\n"),  # the dot that is put there is free
        (b"a\r\n" + b"x" * 999 + b"\r\n.b\r\n", b"a\r\n" + b"x" * 998 + b"\r\n x\r\n..b\r\n"),
    ],
)
def test_long_line_is_folded_as_postfix_does(content: Any, octets: bytes, folded: bytes) -> None:
    assert content.stuff(octets, 998) == folded
    assert content.stuff(folded.replace(b"\r\n..", b"\r\n."), 999).count(b"\r\n") == folded.count(
        b"\r\n"
    )


@pytest.mark.parametrize("octets", [b"", b"x" * 998 + b"\r\n", (b"y" * 998 + b"\r\n") * 40])
def test_lines_that_are_not_too_long_stay_the_same_object(content: Any, octets: bytes) -> None:
    assert content.stuff(octets, 998) is octets


@pytest.mark.parametrize("line_max", [1, -1, -100])
def test_no_line_can_be_folded_to_nothing(content: Any, line_max: int) -> None:
    with pytest.raises(ValueError, match="room"):
        content.stuff(b"abc\r\n", line_max)


def test_lone_line_end_is_seen_before_anything_is_folded(content: Any) -> None:
    with pytest.raises(LineEndError):
        content.stuff(b"x" * 2000 + b"\n" + b"x" * 2000, 998)
