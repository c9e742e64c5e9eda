"""The verdict on received content: which violation answers what, and which fields are dropped."""

from fastmta.smtp import Reply, Violation
from fastmta.smtp import reply as replies
from fastmta.smtp.content import scan_header_section, without_spans

from .settings import SessionSettings

# In the order in which they are answered when several apply.
_REFUSALS: tuple[tuple[int, Reply], ...] = (
    (Violation.BARE_LF, replies.R550_BARE_LF),
    (Violation.BARE_CR, replies.R550_BARE_CR),
    (Violation.NUL, replies.R550_NUL),
    (Violation.TOO_BIG, replies.R552_CONTENT_TOO_BIG),
    (Violation.LINE_TOO_LONG, replies.R554_LINE_TOO_LONG),
)
# A client that sends odd line ends may be smuggling: what follows on this connection is not trusted.
_CLOSING = Violation.BARE_LF | Violation.BARE_CR


def refusal_of(violations: int) -> tuple[Reply, bool] | None:
    """The reply to content with these violations and whether to close after it; None: no refusal."""
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
        content = without_spans(content, spans)
    return content, message_id
