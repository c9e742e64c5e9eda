"""Everything that takes one value apart: addresses, parameters, logins' encodings, headers."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Iterator
from typing import Any

from fastmta.delivery.command import encode_mail, encode_rcpt
from fastmta.delivery.transaction import Extras, Transaction
from fastmta.listener.proxy import ProxyHeader, ProxyProblem
from fastmta.message.envelope import DSNRequest
from fastmta.security import dovecot_line
from fastmta.security.hello import scan_server_name
from fastmta.security.step import Malformed, decode_base64
from fastmta.session.login import _decode
from fastmta.smtp import Problem, _content, _path, _reply, content_py, parameter, path_py, reply_py
from fastmta.smtp.chunk import parse_bdat
from fastmta.smtp.extension import Extensions
from fastmta.smtp.xclient import FrontProblem, parse_xclient, parse_xforward
from fastmta.smtp.xtext import decode_xtext, encode_xtext
from tests.fuzz.wire.case import Case, pieces_of

Feature = tuple[object, ...]
_CONTROL = re.compile(rb"[\x00-\x1f\x7f]")
_CONTROL_TEXT = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_BDAT = re.compile(rb"\A([0-9]+)(?:[ \t]+([Ll][Aa][Ss][Tt]))?\Z")
_EVERYTHING = Extensions(size=0, pipelining=True, eightbit=True, smtputf8=True, dsn=True)


def run_mail(case: Case) -> Iterator[Feature]:
    return _run_path(case.octets, "parse_mail")


def run_rcpt(case: Case) -> Iterator[Feature]:
    return _run_path(case.octets, "parse_rcpt")


def _run_path(argument: bytes, name: str) -> Iterator[Feature]:
    for is_utf8 in (False, True):
        found = getattr(_path, name)(argument, is_utf8)
        expected = getattr(path_py, name)(argument, is_utf8)
        assert found == expected, (found, expected)
        problem, path, parameters = found
        if problem not in (Problem.NONE, Problem.SOURCE_ROUTE):
            assert (path, parameters) == (b"", ())
        else:
            _check_path(path, is_utf8)
        for keyword, value in parameters:
            assert re.fullmatch(rb"[A-Z0-9][A-Z0-9-]*", keyword)
            assert not re.search(rb"[\x00-\x20=\x7f]", value)
            assert is_utf8 or value.isascii()
        assert len({keyword for keyword, _ in parameters}) == len(parameters)
        yield name, is_utf8, problem, _shape(path), len(parameters)


def _check_path(path: bytes, is_utf8: bool) -> None:
    assert not _CONTROL.search(path)
    assert is_utf8 or path.isascii()
    path.decode("utf-8")
    if not path or path.endswith(b"@"):
        return
    assert path.rpartition(b"@")[2].isascii()
    for parse in (path_py.parse_rcpt, _path.parse_rcpt):
        again = parse(b"TO:<" + path + b">", not path.isascii())
        assert again == (Problem.NONE, path, ()), "what is canonical stays so"
    transaction = Transaction(path, [path], b"", 0, False)
    encode_mail(transaction, _EVERYTHING)
    encode_rcpt(transaction, 0, _EVERYTHING)


def _shape(path: bytes) -> Feature:
    return (b'"' in path, b"[" in path, path.isascii(), b"xn--" in path, len(path).bit_length())


def run_parameter(case: Case) -> Iterator[Feature]:
    keyword, _, value = case.octets.partition(b"=")
    results: list[object] = []
    for is_utf8 in (False, True):
        original = parameter.parse_orcpt(value, is_utf8)
        notify, returned = parameter.parse_notify(value), parameter.parse_ret(value)
        envelope_id, author = parameter.parse_envid(value), parameter.parse_auth(value)
        results += [each is None for each in (original, notify, returned, envelope_id, author)]
        if author:
            assert not _CONTROL.search(author)
        if envelope_id is not None:
            assert re.fullmatch(rb"[ -~]+", decode_xtext(envelope_id) or b"\0")
        if original and not original.upper().startswith(b"UTF-8;"):
            assert re.fullmatch(rb"[ -~]+", decode_xtext(original.partition(b";")[2]) or b"\0")
        # Values come from `parse_mail`, which lets nothing else through.
        if re.search(rb"[\x00-\x20=\x7f]", value):
            continue
        dsn = DSNRequest(returned or "", envelope_id or b"", (notify or "",), (original or b"",))
        transaction = Transaction(b"a@b.example", [b"a@b.example"], b"", 0, False)
        transaction.extras = Extras(dsn, [0], is_utf8, True)
        line = encode_mail(transaction, _EVERYTHING)[len(b"MAIL ") : -2]
        assert path_py.parse_mail(line, True)[0] == Problem.NONE, line
        line = encode_rcpt(transaction, 0, _EVERYTHING)[len(b"RCPT ") : -2]
        problem, _, parameters = path_py.parse_rcpt(line, is_utf8)
        assert problem == Problem.NONE, line
        sent = dict(parameters)
        assert sent.get(b"NOTIFY", b"") == (notify or "").encode()
        if original:
            assert parameter.parse_orcpt(sent[b"ORCPT"], is_utf8) == original
    yield "parameter", keyword[:8].upper(), *results


def run_xtext(case: Case) -> Iterator[Feature]:
    octets = case.octets
    assert decode_xtext(encode_xtext(octets)) == octets
    decoded = decode_xtext(octets)
    if decoded is not None:
        assert decode_xtext(encode_xtext(decoded)) == decoded
        assert not re.search(rb"[^!-~]", octets)
    yield "xtext", decoded is None, b"+" in octets


def run_front(case: Case) -> Iterator[Feature]:
    for parse in (parse_xclient, parse_xforward):
        said = parse(case.octets)
        if isinstance(said, FrontProblem):
            check_reply(said.reply.octets)
            yield parse.__name__, said.reply.octets[:40]
            continue
        given = []
        for name in said.__struct_fields__:
            value = getattr(said, name)
            given.append(value is not None)
            text = value.decode("ascii") if isinstance(value, bytes) else str(value)
            assert not _CONTROL_TEXT.search(text)
            assert len(text) <= 255
        yield parse.__name__, *given


def run_bdat(case: Case) -> Iterator[Feature]:
    parsed = parse_bdat(case.octets)
    found = _BDAT.match(case.octets)
    is_small = found is not None and len(found[1]) <= 10 and case.octets[-1:] != b"\n"
    assert (parsed is not None) == is_small
    if parsed is not None and found is not None:
        assert parsed == (int(found[1]), found[2] is not None)
        yield "bdat", parsed[1], parsed[0].bit_length()


def run_content(case: Case) -> Iterator[Feature]:
    octets = case.octets
    start = case.chance().choice((0, 0, 1, len(octets), len(octets) + 3))
    found = _content.scan_header_section(octets, start)
    assert found == content_py.scan_header_section(octets, start), start
    odd = frozenset((b"received", b"message-id", b"to"))
    found_odd = _content.scan_header_section(octets, 0, odd)
    assert found_odd == content_py.scan_header_section(octets, 0, odd)
    stuffed, expected = (_try(each.stuff, octets) for each in (_content, content_py))
    assert stuffed == expected
    line_max = case.chance().choice((2, 64, 65, 998))
    folded, expected = (_try(each.stuff, octets, line_max) for each in (_content, content_py))
    assert folded == expected
    if isinstance(stuffed, bytes):
        lines = stuffed.split(b"\r\n")
        assert not [line for line in lines if line == b"." or (line[:1] == b"." != line[1:2])]
        content = b"\r\n".join(line.removeprefix(b".") for line in lines)
        assert content in (octets, octets + b"\r\n")
    yield (
        "content",
        type(stuffed),
        min(found[1], 3),
        min(found[2], 5),
        len(found[4]),
        bool(found[3]),
    )


def _try(call: Callable[..., Any], *arguments: Any) -> Any:
    try:
        return call(*arguments)
    except ValueError as error:
        return type(error)


def run_reply(case: Case) -> Iterator[Feature]:
    known: tuple[dict[bytes, Any], dict[bytes, Any]] = ({}, {})
    for _ in range(2):  # the second time, what is known is taken as it is
        readers = (_reply.ReplyReader(known[0]), reply_py.ReplyReader(known[1]))
        for piece in pieces_of(case.chance(), case.octets):
            found, expected = (reader.feed(piece) for reader in readers)
            assert found == expected
            for reply in found:
                check_reply(reply.octets, octets_max=70_000)
                yield "reply", reply.code, bool(reply.enhanced_status), min(len(reply.lines), 4)
            facts = [(each.problem, each.garbage, each.buffered()) for each in readers]
            assert facts[0] == facts[1]
        yield "problem", readers[0].problem, readers[0].buffered() > 0


def run_proxy(case: Case) -> Iterator[Feature]:
    octets = case.octets
    whole, split = (
        _proxy(pieces) for pieces in ([octets] if octets else [], pieces_of(case.chance(), octets))
    )
    assert whole == split
    yield "proxy", whole[0] if isinstance(whole[0], str) else type(whole[0]), *map(bool, whole[1:])


def _proxy(pieces: list[bytes]) -> tuple[object, ...]:
    """What comes of the octets: the problem, or who it is; and how many belong to the header."""
    header, used = ProxyHeader(), 0
    for piece in pieces:
        if header.is_complete:
            break
        try:
            used += header.feed(memoryview(piece))
        except ProxyProblem as problem:
            try:
                header.feed(b"x")
            except ProxyProblem:
                return str(problem), 0, None, None
            raise AssertionError("a problem goes away") from None
    if header.is_complete:
        assert header.octets == b"".join(pieces)[:used]
        assert used <= 536
    return header.is_complete, used, header.source, header.destination, header.is_local


def run_hello(case: Case) -> Iterator[Feature]:
    octets = case.octets
    whole = scan_server_name(octets)
    assert whole is not None or len(octets) < 150_000
    if whole:
        assert re.fullmatch(r"[a-z0-9_.-]{1,254}", whole)
    cuts = case.chance().choices(range(len(octets) + 1), k=4)
    seen = [scan_server_name(bytearray(octets[:cut])) for cut in sorted(cuts)]
    assert all(name in (None, whole) for name in seen), "a name that changes"
    yield "hello", None if whole is None else len(whole).bit_length(), None in seen


def run_dovecot(case: Case) -> Iterator[Feature]:
    octets = case.octets.replace(b"\n", b"")
    escaped = dovecot_line.escape(octets)
    assert not re.search(rb"[\0\t\r\n]", escaped)
    assert dovecot_line.unescape(escaped) == octets
    answer = dovecot_line.parse_answer(octets)
    if answer is not None:
        assert 0 <= answer.id < 10**10
        yield "dovecot", answer.command, min(len(answer.fields), 5), answer.is_temporary
    line = dovecot_line.continuation(7, octets)
    assert line is None or (line.count(b"\n") == 1 and line.endswith(b"\n"))
    yield "dovecot", answer is None, line is None


def run_base64(case: Case) -> Iterator[Feature]:
    octets = case.octets
    decoded = _decode(octets)
    if decoded is not None:
        assert binascii.a2b_base64(octets, strict_mode=bool(octets)) == decoded
        assert len(octets) == 4 * ((len(decoded) + 2) // 3)
    try:
        strict = decode_base64(octets, 3000)
        assert strict == decoded
        assert base64.b64encode(strict) == octets
    except Malformed:
        strict = None
    yield "base64", decoded is None, strict is None, len(octets) % 4


def check_reply(octets: bytes, octets_max: int = 512) -> list[tuple[int, int]]:
    """RFC 5321 4.2: (code, lines) of each reply in it; nothing else may be there."""
    replies: list[tuple[int, int]] = []
    lines = octets.split(b"\r\n")
    assert lines.pop() == b"", "a reply does not end with CR LF"
    count, before = 0, b""
    for line in lines:
        found = re.fullmatch(rb"([2-5][0-9][0-9])(?:([ -])([\x20-\x7e]*))?", line)
        assert found is not None, line
        assert len(line) + 2 <= octets_max, line  # RFC 5321 4.5.3.1.5
        assert not count or found[1] == before, octets
        count, before = count + 1, found[1]
        if found[2] != b"-":
            replies.append((int(found[1]), count))
            count = 0
    assert not count, "a reply without its last line"
    return replies
