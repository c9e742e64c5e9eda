"""The grammar of lists of addresses (RFC 5322 3.4): see `parse_addresses`.

Made for what programs write, not for what the standard allows: nothing is refused, what is not
understood is part of a local part. `root`, `Full Name <a@b>`, `a@b (Full Name)`, groups, source
routes, quoted strings, comments within comments.
"""

from __future__ import annotations

import re

from .mailbox import Mailbox

_TOKEN = re.compile(
    rb'[ \t\r\n]+|"(?:[^"\\]|\\.)*(?:"|\Z)|\[[^\]]*\]?|[<>@,;:.]'
    rb'|(?:[^ \t\r\n"(),:;<>@.\[\\]|\\.)+|.',
    re.DOTALL,
)
_PLAIN = re.compile(
    rb"[A-Za-z0-9!#$%&'*+/=?^_`{|}~\x80-\xff-]+(?:\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~"
    rb"\x80-\xff-]+)*"
)
_QUOTED = re.compile(rb'"(?:[^"\\]|\\.)*"', re.DOTALL)
_BLANKS = b" \t\r\n"


def parse_list(text: bytes) -> list[Mailbox]:
    """The addresses in `text`, in order; empty ones (`<>`) are left out."""
    found: list[Mailbox] = []
    words: list[tuple[bytes, int]] = []  # (token, where it ends)
    angle: list[tuple[bytes, int]] | None = None
    is_open = False  # between "<" and ">"
    for token, end in _tokens(text):
        if is_open:
            assert angle is not None
            if token == b">":
                is_open = False
            elif token == b":":
                angle.clear()  # the end of a source route
            elif token in (b",", b";") and not (angle and angle[0][0] == b"@"):
                is_open = False  # ">" is missing
                _finish(found, angle)
                words, angle = [], None
            else:
                angle.append((token, end))
        elif token == b"<":
            angle, is_open = [], True
        elif token in (b",", b";"):
            _finish_each(found, words, angle)
            words, angle = [], None
        elif token == b":":
            words = []  # the name of a group
        elif angle is None:
            words.append((token, end))
    _finish_each(found, words, angle)
    return found


def _tokens(text: bytes) -> list[tuple[bytes, int]]:
    """What is neither a blank nor in a comment."""
    tokens = []
    pos = depth = 0
    while pos < len(text):
        octet = text[pos : pos + 1]
        if octet == b"(":
            depth += 1
            pos += 1
        elif depth:
            depth -= octet == b")"
            pos += 2 if octet == b"\\" else 1
        else:
            match = _TOKEN.match(text, pos)
            assert match is not None
            pos = match.end()
            if match[0][:1] not in _BLANKS:
                tokens.append((match[0], pos))
    return tokens


def _finish_each(
    found: list[Mailbox], words: list[tuple[bytes, int]], angle: list[tuple[bytes, int]] | None
) -> None:
    """What stands between two commas: one address, or words side by side, one each."""
    if angle is not None:
        _finish(found, angle)
        return
    begin = 0
    for index in range(1, len(words)):
        if not {words[index - 1][0], words[index][0]} & {b".", b"@"}:
            _finish(found, words[begin:index])
            begin = index
    _finish(found, words[begin:])


def _finish(found: list[Mailbox], words: list[tuple[bytes, int]]) -> None:
    if not words:
        return
    marks = [index for index, (token, _) in enumerate(words) if token == b"@"]
    at = marks[-1] if marks and marks[-1] + 1 < len(words) else len(words)
    local_part = _local_part([token for token, _ in words[: min(at, len(words))]])
    if not local_part:
        return
    octets = local_part
    if at < len(words):
        octets += b"@" + b"".join(token for token, _ in words[at + 1 :])
    found.append(Mailbox(octets, at < len(words), words[-1][1]))


def _local_part(tokens: list[bytes]) -> bytes:
    """As it may stand before an "@": quoted where it has to be."""
    if len(tokens) == 1 and _QUOTED.fullmatch(tokens[0]):
        return tokens[0]
    text = bytearray()  # which grows in place: there may be very many
    for token in tokens:
        bare = unquoted(token)
        is_beside = text and b"." not in (token, text[-1:]) and b"@" not in (token, text[-1:])
        text += b" " + bare if is_beside else bare
    return quoted(bytes(text))


def quoted(text: bytes) -> bytes:
    """`text` as a local part, in quotes if it needs them (RFC 5321 4.1.2)."""
    if not text or _PLAIN.fullmatch(text):
        return text
    return b'"' + re.sub(rb'(["\\])', rb"\\\1", text) + b'"'


def unquoted(token: bytes) -> bytes:
    """What a local part, or a token of one, stands for."""
    if token.startswith(b'"'):
        token = token[1:-1] if _QUOTED.fullmatch(token) else token[1:]
    return re.sub(rb"\\(.)", rb"\1", token, flags=re.DOTALL)
