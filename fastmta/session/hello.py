"""EHLO, HELO and LHLO: who the client says it is, and what it may use (RFC 5321 4.1.1.1)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from fastmta.message.trace import protocol_keyword, received_prefix
from fastmta.smtp import Reply
from fastmta.smtp import reply as replies
from fastmta.smtp.extension import Offer, r250_ehlo
from fastmta.smtp.xclient import XCLIENT_ATTRIBUTES, XFORWARD_ATTRIBUTES

from .settings import SessionSettings
from .state import State

if TYPE_CHECKING:
    from .session import Session

_HELO_OCTETS_MAX = 255  # RFC 5321 4.5.3.1.2


def greeting_of(settings: SessionSettings) -> Reply:
    """The banner (RFC 5321 4.3.1, RFC 2033 4.1)."""
    if settings.is_lmtp:
        return replies.r220_greeting(settings.hostname, "LMTP fastmta")
    return replies.r220_greeting(settings.hostname)


def helo(session: Session) -> Reply:
    hostname = session.ports.settings.hostname
    return _hello(session, False, replies.R501_HELO_SYNTAX) or replies.r250_hello(hostname)


def ehlo(session: Session) -> Reply:
    return _hello(session, True, replies.R501_EHLO_SYNTAX) or r250_ehlo(_offer(session))


def lhlo(session: Session) -> Reply:
    """RFC 2033 4.1: as EHLO."""
    return _hello(session, True, replies.R501_LHLO_SYNTAX) or r250_ehlo(_offer(session))


def _hello(session: Session, is_esmtp: bool, syntax: Reply) -> Reply | None:
    argument = session.framing.argument
    if not argument:
        return syntax
    if session.framing.buffered():  # RFC 2920 3.1: EHLO is the last of a group
        return session.last(replies.R554_SYNCHRONIZATION)
    session.is_esmtp = is_esmtp
    session.is_pipelining = is_esmtp and "PIPELINING" not in session.ports.settings.discarded
    # A name that a trusted front end gave by XCLIENT stands (Postfix does so).
    name = session.front_helo if session.front_helo is not None else argument
    session.identity = replace(session.identity, helo=name[:_HELO_OCTETS_MAX])
    session.reset()
    session.state = State.READY
    note_protocol(session)
    return None


def note_protocol(session: Session) -> None:
    """What the Received field says of this session has changed."""
    settings = session.ports.settings
    facts = session.tls
    session.identity = replace(
        session.identity,
        tls="" if facts is None else facts.text,
        login=session.login,
        protocol=keyword(session),
    )
    session.received_prefix = received_prefix(
        session.identity, settings.hostname, shows_login=settings.is_naming_login
    )


def keyword(session: Session, *, is_utf8: bool = False) -> str:
    """What the "with" clause calls this session's protocol (RFC 3848)."""
    return protocol_keyword(
        is_esmtp=session.is_esmtp and session.front_protocol != "SMTP",
        is_tls=session.tls is not None,
        is_authenticated=bool(session.login),
        is_utf8=is_utf8,
        is_lmtp=session.ports.settings.is_lmtp,
    )


def _offer(session: Session) -> Offer:
    """What this client is told that it may use; an honest server honours it (RFC 5321 2.2)."""
    ports = session.ports
    settings = ports.settings
    address = session.peer_address
    return Offer(
        hostname=settings.hostname,
        size_max=settings.message_octets_max,
        has_starttls=settings.has_tls and session.tls is None,
        auth_mechanisms=session.mechanisms(),
        xclient=XCLIENT_ATTRIBUTES if address in settings.xclient else (),
        xforward=XFORWARD_ATTRIBUTES if address in settings.xforward else (),
        is_dsn=True,
        is_utf8=True,
        is_chunking=True,
        mail_max=settings.messages_max,
        rcpt_max=settings.recipients_max,
        discarded=settings.discarded,
    )
