"""The verdict on received content: which violation answers what, and which fields are dropped."""

from collections.abc import Sequence

from fastmta.smtp import Reply, Violation
from fastmta.smtp import reply as replies
from fastmta.smtp.content import scan_header_section

from .settings import SessionSettings

# In the order in which they are answered when several apply.
_REFUSALS: tuple[tuple[int, Reply], ...] = (
    (int(Violation.BARE_LF), replies.R550_BARE_LF),
    (int(Violation.BARE_CR), replies.R550_BARE_CR),
    (int(Violation.NUL), replies.R550_NUL),
    (int(Violation.TOO_BIG), replies.R552_CONTENT_TOO_BIG),
    (int(Violation.LINE_TOO_LONG), replies.R554_LINE_TOO_LONG),
)
# Odd line ends may be an attempt at smuggling: what follows on this connection is not trusted.
_CLOSING = int(Violation.BARE_LF | Violation.BARE_CR)
_SPACE, _BLANKS = 0x20, b" \t"


def refusal_of(violations: int) -> tuple[Reply, bool] | None:
    """The reply to content with these violations, and whether to close after it."""
    for bit, reply in _REFUSALS:
        if violations & bit:
            return reply, bool(violations & _CLOSING)
    return None


def examine_header(
    content: bytes, start: int, settings: SessionSettings
) -> tuple[bytes, bytes] | Reply:
    """Check the header section that begins at `start`; return (content to store, Message-ID).

    Fields named in `drop_fields` are cut out (a copy is made only then).
    """
    end, hops, fields, message_id, spans = scan_header_section(content, start, settings.drop_fields)
    if hops > settings.hops_max:
        return replies.R554_TOO_MANY_HOPS
    if end - start > settings.header_octets_max or fields > settings.header_fields_max:
        return replies.R554_HEADER_TOO_LONG
    if spans:
        content = _without(content, spans)
    if start < len(content) and content[start] <= _SPACE and content[start] in _BLANKS:
        # RFC 5322 2.2.3: it would go on with our Received field. An empty line ends the header
        # section before it, as in Postfix.
        content = b"\r\n".join((content[:start], content[start:]))
    return content, message_id


def _without(content: bytes, spans: Sequence[tuple[int, int]]) -> bytes:
    """`content` without the octets of `spans`, which ascend and do not overlap."""
    kept = []
    begin = 0
    for cut_begin, cut_end in spans:
        kept.append(content[begin:cut_begin])
        begin = cut_end
    kept.append(content[begin:])
    return b"".join(kept)
