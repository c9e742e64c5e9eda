"""The twin of ext/smtp/content.pyx: what is asked of a whole canonical content.

Canonical content has CR LF line ends and no lone CR or LF; it is not dot-stuffed.
"""

import re

DROPPED_FIELDS = frozenset((b"bcc", b"resent-bcc"))

# RFC 5322 3.6.8 field name; 4.5 allows spaces before the colon in what others wrote.
_FIELD_NAME = re.compile(rb"([\x21-\x39\x3b-\x7e]+)[ \t]*:")
_LONE = re.compile(rb"\r(?!\n)|(?<!\r)\n")


class LineEndError(ValueError):
    """A content that is to be sent has a lone CR or LF: it must not leave (RFC 5321 2.3.8)."""


def scan_header_section(
    content: bytes, start: int = 0, dropped: frozenset[bytes] = DROPPED_FIELDS
) -> tuple[int, int, int, bytes, tuple[tuple[int, int], ...]]:
    """Look over the header section that begins at `start`.

    Returns (end, received_count, field_count, message_id, drop_spans): the offset behind the empty
    line, or of the first line that is no field, or of the end of the content; how many Received
    and how many fields there are; the value of the first Message-ID, unfolded and trimmed, b"" if
    there is none (octets of the sender: not fit for a log as they are); (begin, end) of each field
    whose lower-case name is in `dropped`.
    """
    if start < 0:
        raise ValueError("start is not negative")
    fields: list[list[int]] = []
    pos = start
    while pos < len(content):
        end = content.find(b"\r\n", pos) + 2
        if end == 1:
            end = len(content)
        if content[pos:end] == b"\r\n":
            pos = end
            break
        if content[pos : pos + 1] in (b" ", b"\t"):
            if not fields:
                break
            fields[-1][1] = end
        elif _FIELD_NAME.match(content, pos, end):
            fields.append([pos, end])
        else:
            break
        pos = end
    received_count = 0
    message_id = b""
    has_message_id = False
    spans = []
    for begin, end in fields:
        name, _, value = content[begin:end].partition(b":")
        name = name.rstrip(b" \t").lower()
        if name == b"received":
            received_count += 1
        if name == b"message-id" and not has_message_id:
            has_message_id = True
            message_id = value.replace(b"\r\n", b"").strip(b" \t")
        if name in dropped:
            spans.append((begin, end))
    return pos, received_count, len(fields), message_id, tuple(spans)


def fold(content: bytes, line_max: int) -> bytes:
    """Break lines longer than `line_max` octets (CR LF not counted) by CR LF and a space.

    As Postfix does: what others wrote is changed as little as can be, and a header field survives.
    """

    def broken(match: re.Match[bytes]) -> bytes:
        line = match.group()
        pieces = [line[:line_max]]
        step = line_max - 1  # the space counts
        pieces += [line[begin : begin + step] for begin in range(line_max, len(line), step)]
        return b"\r\n ".join(pieces)

    if line_max < 2:
        raise ValueError("a line has room for a space and an octet")
    # Looked for at the beginnings of lines only, or a long line would be tried at each octet.
    return re.sub(rb"(?<![^\n])[^\r\n]{%d,}" % (line_max + 1), broken, content)


def stuff(content: bytes, line_max: int = 0) -> bytes:
    """The octets to send before "." CR LF (RFC 5321 4.5.2): the same object if nothing is to do.

    A "." is put before each line that begins with one, and a CR LF behind a content that lacks it.
    Lines longer than `line_max` octets are folded before that; 0: none are.
    Raises LineEndError for a lone CR or LF: such a content would end somewhere else for some.
    """
    if _LONE.search(content):
        raise LineEndError("a lone CR or LF in a content to send")
    if line_max:
        content = fold(content, line_max)
    stuffed = content.replace(b"\r\n.", b"\r\n..")
    if content.startswith(b"."):
        stuffed = b"." + stuffed
    if content and not content.endswith(b"\r\n"):
        stuffed += b"\r\n"
    return content if stuffed == content else stuffed
