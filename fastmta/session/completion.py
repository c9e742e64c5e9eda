"""What a submitted message must have and does not (RFC 6409 8): From, Date and Message-ID."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .session import Session

_FIELD = re.compile(rb"(?im)^(from|date|message-id)[ \t]*:")
_END = b"\r\n\r\n"


def complete(session: Session, content: bytes, message_id_field: bytes) -> tuple[bytes, bytes]:
    """(`content` with what was missing in front of its header section, its Message-ID then).

    Of a large content the first piece will do, which holds the header section.
    """
    if not session.ports.settings.is_adding_fields:
        return content, message_id_field
    fields, message_id_field = _missing_fields(session, content, message_id_field)
    if not fields:
        return content, message_id_field
    at = session.transaction.trace_octets
    return b"".join((content[:at], fields, content[at:])), message_id_field


def _missing_fields(
    session: Session, content: bytes, message_id_field: bytes
) -> tuple[bytes, bytes]:
    transaction = session.transaction
    begin = transaction.trace_octets
    end = content.find(_END, begin - 2)
    header = content[begin : end if end >= 0 else len(content)]
    present = {match.group(1).lower() for match in _FIELD.finditer(header)}
    fields = []
    clock = session.ports.clock
    if b"from" not in present and transaction.reverse_path:
        fields.append(b"From: <%b>\r\n" % transaction.reverse_path)
    if b"date" not in present:
        fields.append(b"Date: %b\r\n" % clock.date())
    if b"message-id" not in present:
        hostname = session.ports.settings.hostname.encode("ascii")
        message_id_field = b"<%d.%b@%b>" % (
            clock.wall_ns() // 1_000_000_000,
            transaction.queue_id,
            hostname,
        )
        fields.append(b"Message-ID: %b\r\n" % message_id_field)
    return b"".join(fields), message_id_field
