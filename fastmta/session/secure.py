"""STARTTLS (RFC 3207): the session says when; whoever owns the socket does the handshake."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastmta.smtp import Reply
from fastmta.smtp import reply as replies
from fastmta.smtp.use import Use

if TYPE_CHECKING:
    from .session import Session


def starttls(session: Session) -> Reply:
    ports = session.ports
    if session.framing.argument:
        return replies.R501_STARTTLS_SYNTAX
    if session.tls is not None:
        return replies.R554_TLS_ACTIVE
    if not ports.settings.has_tls:
        return replies.R502_NOT_IMPLEMENTED
    if session.framing.buffered():  # RFC 3207 6: what came in clear must not count within TLS
        return session.last(replies.R554_SYNCHRONIZATION)
    if not session.spend(Use.TLS):
        hostname = ports.settings.hostname
        refusal = replies.r421_too_many_tls(hostname, session.client)
        return session.last(session.refused("STARTTLS", refusal))
    session.reset()
    session.is_starting_tls = True
    return replies.R220_READY_FOR_TLS
