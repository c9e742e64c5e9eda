"""Paths, contents and replies: the compiled functions say what their twins say, for any octets."""

import re
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from fastmta.smtp import Problem, _content, _path, _reply, content_py, path_py, reply_py
from fastmta.smtp.content_py import LineEndError
from fastmta.smtp.utf8 import is_text
from tests.support.wire import pieces_of

PATH_TOKENS = (
    b"<", b">", b"@", b".", b"a", b"Bc", b"x-y", b'"', b"\\", b" ", b"\t", b"(", b")", b",", b":",
    b"[1.2.3.4]", b"[IPv6:::1]", b"-", b"_", b"1", b"\0", b"\x7f", b"\x80", b"=", b" SIZE=1",
    b" BODY=8BITMIME", b"a" * 63, b"b" * 65, b"<a@b.c>", b"<>",
)  # fmt: skip
ARGUMENTS = st.one_of(
    st.lists(st.sampled_from(PATH_TOKENS), max_size=10).map(b"".join),
    st.lists(st.sampled_from(PATH_TOKENS), max_size=5).map(lambda t: b"<" + b"".join(t) + b"@x.y>"),
    st.binary(max_size=40),
)


@settings(deadline=None)
@given(ARGUMENTS, st.sampled_from((b"FROM:", b"from: ", b"TO:", b"tO:\t", b"")))
def test_paths(argument: bytes, word: bytes) -> None:
    octets = word + argument
    for compiled, twin in (
        (_path.parse_mail, path_py.parse_mail),
        (_path.parse_rcpt, path_py.parse_rcpt),
    ):
        assert compiled(octets) == twin(octets)


SPACED = st.lists(st.sampled_from((" ", "  ", ".", "a", "ü", "。", "-")), max_size=12).map("".join)


@settings(deadline=None)
@given(SPACED)
def test_spaces_around_dots_are_no_part_of_a_domain(domain: str) -> None:
    bare = re.sub(" *[.。] *", ".", domain)
    for parse in (_path.parse_rcpt, path_py.parse_rcpt):
        expected = parse(f"TO:<x@{bare}>".encode(), True)
        assert parse(f"TO:<x@{domain}>".encode(), True) == expected


UTF8_TOKENS = (
    *PATH_TOKENS, "ö".encode(), "o\u0308".encode(), b"\xc3", b"\xb6", b"\xed\xa0\x80",
    "。".encode(), "例え".encode(), "\u212a".encode(), "\u037e".encode(), "\u0338".encode(),
    "\u200d".encode(), "א".encode(), "\u2028".encode(), b"xn--", b" SMTPUTF8",
    " ORCPT=utf-8;ü".encode(),
)  # fmt: skip
UTF8_ARGUMENTS = st.one_of(
    st.lists(st.sampled_from(UTF8_TOKENS), max_size=10).map(b"".join),
    st.lists(st.sampled_from(UTF8_TOKENS), max_size=6).map(lambda t: b"<a" + b"".join(t) + b">"),
    st.tuples(st.text(max_size=8), st.text(max_size=8)).map(lambda t: f"<{t[0]}@{t[1]}>".encode()),
)


@settings(deadline=None)
@given(UTF8_ARGUMENTS, st.booleans(), st.booleans())
def test_paths_beyond_ascii(argument: bytes, is_utf8: bool, is_declared: bool) -> None:
    """Twins agree; what is accepted is UTF-8 of printable text with an ASCII domain, and stays."""
    octets = argument + (b" SMTPUTF8" if is_declared else b"")
    mail = path_py.parse_mail(b"FROM:" + octets, is_utf8)
    assert _path.parse_mail(b"FROM:" + octets, is_utf8) == mail
    found = path_py.parse_rcpt(b"TO:" + octets, is_utf8)
    assert _path.parse_rcpt(b"TO:" + octets, is_utf8) == found
    problem, path, _ = found
    if not is_utf8:
        assert path.isascii()
    if problem != Problem.NONE:
        return
    assert is_text(path)
    domain = path.rpartition(b"@")[2]
    assert domain.isascii()
    if domain:
        assert _path.parse_rcpt(b"TO:<" + path + b">", True) == (Problem.NONE, path, ())


@settings(deadline=None)
@given(ARGUMENTS)
def test_an_accepted_path_is_safe_and_canonical(argument: bytes) -> None:
    """No control character or 8-bit octet gets through, and parsing again changes nothing."""
    problem, path, parameters = _path.parse_rcpt(b"TO:" + argument)
    if problem not in (Problem.NONE, Problem.SOURCE_ROUTE):
        assert (path, parameters) == (b"", ())
        return
    assert all(32 <= octet < 127 for octet in path)
    assert path.count(b"@") >= 1
    if not path.endswith(b"@"):
        assert _path.parse_rcpt(b"TO:<" + path + b">") == (Problem.NONE, path, ())


HEADERS = st.lists(
    st.sampled_from((
        b"Received: x\r\n", b" fold\r\n", b"\tfold\r\n", b"Bcc: y\r\n", b"bcc:\r\n", b"\r\n",
        b"Resent-Bcc : z\r\n", b"Message-ID: <q>\r\n", b"message-id:\r\n", b"text\r\n", b": x\r\n",
        b"X: y\r\n", b"\r", b"\n", b"\x7f: 1\r\n", b"a b: c\r\n", b"Received", b"M:", b"\0",
    )),
    max_size=12,
).map(b"".join)  # fmt: skip


@given(
    HEADERS, st.integers(0, 30), st.sampled_from((content_py.DROPPED_FIELDS, frozenset((b"x",))))
)
def test_header_sections(content: bytes, start: int, dropped: frozenset[bytes]) -> None:
    expected = content_py.scan_header_section(content, start, dropped)
    assert _content.scan_header_section(content, start, dropped) == expected
    end, received_count, field_count, _, spans = expected
    assert start <= end <= max(start, len(content))
    assert received_count <= field_count
    assert all(start <= begin < stop <= end for begin, stop in spans)


CONTENTS = st.one_of(
    st.lists(
        st.sampled_from((b"\r\n", b".", b"\r", b"\n", b"aa", b"x" * 61, b"\r\n.", b"\r\n..\r\n")),
        max_size=20,
    ).map(b"".join),
    st.lists(st.sampled_from((b"\r\n", b".", b"a" * 62, b"\0")), max_size=20).map(b"".join),
)


def stuffed(function: Any, content: bytes, line_max: int = 0) -> bytes | None:
    try:
        result = function(content, line_max)
    except LineEndError:
        return None
    assert isinstance(result, bytes)
    return result


@given(CONTENTS)
def test_stuffing(content: bytes) -> None:
    expected = stuffed(content_py.stuff, content)
    found = stuffed(_content.stuff, content)
    assert found == expected
    if found is None:
        return
    assert (found is content) == (found == content)
    assert not (found + b"\r\n").startswith(b".\r\n")
    assert b"\r\n.\r\n" not in found  # nothing in it can end the data
    assert found == b"" or found.endswith(b"\r\n")


LONG_CONTENTS = st.lists(
    st.tuples(st.sampled_from((b"x", b".", b"\xff")), st.integers(0, 300), st.booleans())
).map(lambda parts: b"".join(octet * count + b"\r\n" * ends for octet, count, ends in parts))


@given(LONG_CONTENTS, st.integers(2, 200))
def test_folding(content: bytes, line_max: int) -> None:
    expected = stuffed(content_py.stuff, content, line_max)
    assert stuffed(_content.stuff, content, line_max) == expected
    assert expected is not None
    lines = expected.split(b"\r\n")
    assert all(len(line) <= line_max + line.startswith(b".") for line in lines)
    ended = content if content.endswith(b"\r\n") or not content else content + b"\r\n"
    unfolded = [line.removeprefix(b".").removeprefix(b" ") for line in lines]
    assert b"".join(unfolded) == ended.replace(b"\r\n", b"")


REPLIES = st.lists(
    st.sampled_from((
        b"250 Ok\r\n", b"250-a\r\n", b"250-b\n", b"250 2.1.0 Ok\r\n", b"550 5.1.1 no\n", b"354\r\n",
        b"2", b"5", b"\r\n", b"\n", b"\r", b"250 \x01\r\n", b"x", b"250", b"-", b" ", b"999 x\r\n",
    )),
    max_size=8,
).map(b"".join)  # fmt: skip


@settings(deadline=None)
@given(st.lists(REPLIES, max_size=4), st.lists(st.integers(0, 200), max_size=4))
def test_replies(feeds: list[bytes], cuts: list[int]) -> None:
    octets = b"".join(feeds)
    inside = sorted(cut % (len(octets) + 1) for cut in cuts)
    known: dict[bytes, Any] = {}
    readers: list[tuple[Any, list[bytes]]] = [
        (reply_py.ReplyReader(), feeds),
        (_reply.ReplyReader(), feeds),
        (_reply.ReplyReader(known), pieces_of(octets, inside)),
        (_reply.ReplyReader(known), pieces_of(octets, inside[::2])),
        (reply_py.ReplyReader(known), pieces_of(octets, [])),
    ]
    results = [
        (
            [reply for piece in pieces for reply in reader.feed(piece)],
            reader.problem,
            reader.garbage,
            reader.buffered(),
        )
        for reader, pieces in readers
    ]
    assert all(result == results[0] for result in results)
