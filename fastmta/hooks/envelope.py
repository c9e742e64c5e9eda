"""Envelopes and contents between us and a handler: what it is given, and what it left behind."""

from __future__ import annotations

import re

import aiosmtpd.smtp as real
import msgspec

from fastmta.message import NULL_REVERSE_PATH, Envelope
from fastmta.message.envelope import DSNRequest
from fastmta.smtp import Problem, parse_mail, parse_rcpt, scan_header_section
from fastmta.smtp.limit import LINE_OCTETS_HARD
from fastmta.smtp.problem import Parameters

_NULL_TEXT = "<>"  # aiosmtpd's name for the null reverse-path
# Options whose case means nothing, which aiosmtpd gives in upper case.
_CASELESS = frozenset((b"SIZE", b"BODY", b"SMTPUTF8", b"RET", b"NOTIFY"))
_BRACKETED = re.compile(rb"<([^<>\"\\\s]+)>")
_LONG_LINE = re.compile(rb"[^\n]{%d}" % LINE_OCTETS_HARD)


class Left(msgspec.Struct, frozen=True):
    """What a handler left of a message; None stands for what it left as it was."""

    envelope: Envelope | None = None  # without forward-paths: nobody is to get it
    content: bytes | None = None  # canonical, without our trace field
    message_id_field: bytes = b""  # of a new content


class Given:
    """The addresses of one transaction as the handler was told them."""

    __slots__ = ("forward", "is_utf8", "reverse")

    def __init__(self) -> None:
        self.is_utf8 = False
        self.reverse: tuple[str, bytes] | None = None
        self.forward: dict[str, bytes] = {}


def text_of(octets: bytes) -> str:
    """Octets of a command as aiosmtpd hands them to hooks."""
    return octets.decode("utf-8", "surrogateescape")


def address_of(argument: bytes, path: bytes) -> str:
    """The address in the argument of MAIL or RCPT as a hook gets it.

    As the client wrote it if that means `path` and nothing is special about it, else `path`.
    """
    if not path:
        return _NULL_TEXT
    found = _BRACKETED.search(argument)
    if found is not None:
        local_part, _, domain = found[1].rpartition(b"@")
        if local_part + b"@" + domain.lower() == path:
            return text_of(found[1])
    return text_of(path.removesuffix(b"@"))


def options_of(parameters: Parameters) -> list[str]:
    """Parameters as hooks get them: `KEYWORD` or `KEYWORD=value`."""
    options = []
    for keyword, value in parameters:
        shown = value.upper() if keyword in _CASELESS else value
        options.append(text_of(keyword + b"=" + shown if value else keyword))
    return options


def trace_octets(content: bytes) -> int:
    """The length of our Received field in front of a content; 0 if there is none."""
    if content[:9].lower() != b"received:":
        return 0
    end = content.find(b"\r\n") + 2
    while end > 1 and content[end : end + 1] in (b" ", b"\t"):
        end = content.find(b"\r\n", end) + 2
    return end if end > 1 else 0


def examine(
    theirs: real.Envelope, given: Given, ours: Envelope, handed: bytes | str | None, octets_max: int
) -> Left | str:
    """What the handler changed in its envelope, or in words why that cannot be stored."""
    reverse_path = _reverse_path(theirs.mail_from, given, ours)
    if isinstance(reverse_path, str):
        return reverse_path
    forward_paths = _forward_paths(theirs.rcpt_tos, given)
    if isinstance(forward_paths, str):
        return forward_paths
    content, message_id_field = None, b""
    if theirs.content is not handed and theirs.content != handed:
        canonical = _canonical(theirs.content, octets_max)
        if isinstance(canonical, str):
            return canonical
        content, message_id_field = _without_dropped(canonical)
    is_utf8 = bool(theirs.smtp_utf8)
    is_8bit = ours.is_8bit or (content is not None and not content.isascii())
    envelope = msgspec.structs.replace(
        ours,
        reverse_path=reverse_path,
        forward_paths=forward_paths,
        is_8bit=is_8bit,
        is_utf8=ours.is_utf8 if is_utf8 == given.is_utf8 else is_utf8,
        dsn=_dsn(ours, forward_paths),
    )
    return Left(None if envelope == ours else envelope, content, message_id_field)


def _reverse_path(text: object, given: Given, ours: Envelope) -> bytes | str:
    if given.reverse is not None and text == given.reverse[0]:
        return given.reverse[1]
    if text in ("", _NULL_TEXT):
        return NULL_REVERSE_PATH
    if not isinstance(text, str):
        return f"envelope.mail_from is {type(text).__name__}, not str"
    octets = text.encode("utf-8", "surrogateescape")
    problem, path, parameters = parse_mail(b"FROM:<%b>" % octets)
    if problem != Problem.NONE or parameters or path.endswith(b"@"):
        return f"envelope.mail_from {_shown(text)} is no address"
    return path


def _forward_paths(texts: object, given: Given) -> tuple[bytes, ...] | str:
    if not isinstance(texts, list | tuple):
        return f"envelope.rcpt_tos is {type(texts).__name__}, not list"
    paths: dict[bytes, None] = {}  # an ordered set: each mailbox once
    for text in texts:
        if not isinstance(text, str):
            return f"envelope.rcpt_tos has {type(text).__name__} in it, not str"
        path = given.forward.get(text)
        if path is None:
            octets = text.encode("utf-8", "surrogateescape")
            problem, path, parameters = parse_rcpt(b"TO:<%b>" % octets)
            if problem != Problem.NONE or parameters or path.endswith(b"@"):
                return f"envelope.rcpt_tos has {_shown(text)} in it, which is no address"
        paths[path] = None
    return tuple(paths)


def _dsn(ours: Envelope, forward_paths: tuple[bytes, ...]) -> DSNRequest | None:
    """The DSN parameters of those recipients that are still there, in their new order."""
    dsn = ours.dsn
    if dsn is None or forward_paths == ours.forward_paths:
        return dsn
    index_of = {path: index for index, path in enumerate(ours.forward_paths)}
    indices = [index_of.get(path, -1) for path in forward_paths]
    return msgspec.structs.replace(
        dsn,
        notify=tuple(dsn.notify[i] if 0 <= i < len(dsn.notify) else "" for i in indices),
        original_recipients=tuple(
            dsn.original_recipients[i] if 0 <= i < len(dsn.original_recipients) else b""
            for i in indices
        ),
    )


def _canonical(content: object, octets_max: int) -> bytes | str:
    """A content that a handler made, with CR LF at the end of every line (RFC 5321 2.3.8)."""
    if isinstance(content, str):
        octets = content.encode("utf-8", "surrogateescape")
    elif isinstance(content, bytes | bytearray | memoryview):
        octets = bytes(content)
    else:
        return f"envelope.content is {type(content).__name__}, not bytes or str"
    if b"\0" in octets:
        return "envelope.content has a NUL octet"
    ends = octets.count(b"\r\n")
    if octets.count(b"\r") != ends or octets.count(b"\n") != ends:
        octets = octets.replace(b"\r\n", b"\n").replace(b"\r", b"\n").replace(b"\n", b"\r\n")
    if octets and not octets.endswith(b"\r\n"):
        octets += b"\r\n"
    if len(octets) > octets_max:
        return f"envelope.content has {len(octets)} octets, {octets_max} are allowed"
    if _LONG_LINE.search(octets):
        return f"envelope.content has a line of more than {LINE_OCTETS_HARD} octets"
    return octets


def _without_dropped(content: bytes) -> tuple[bytes, bytes]:
    """(content without Bcc fields, value of Message-ID)."""
    _, _, _, message_id_field, spans = scan_header_section(content)
    for begin, end in reversed(spans):
        content = content[:begin] + content[end:]
    return content, message_id_field


def _shown(text: str) -> str:
    return ascii(text[:100])
