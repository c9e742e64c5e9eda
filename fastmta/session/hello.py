"""EHLO, HELO and LHLO: who the client says it is, and what it may use (RFC 5321 4.1.1.1)."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from fastmta.message import ClientIdentity
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
_PREFIXES_MAX = 256  # of Received fields, that are remembered
_READY = State.READY


def greeting_of(settings: SessionSettings) -> Reply:
    """The banner (RFC 5321 4.3.1, RFC 2033 4.1)."""
    if settings.is_lmtp:
        return replies.r220_greeting(settings.hostname, "LMTP fastmta")
    return replies.r220_greeting(settings.hostname)


def helo(session: Session) -> Reply:
    hostname = session.ports.settings.hostname
    return _hello(session, False, replies.R501_HELO_SYNTAX) or replies.r250_hello(hostname)


def ehlo(session: Session) -> Reply:
    return _hello(session, True, replies.R501_EHLO_SYNTAX) or _welcome(session)


def lhlo(session: Session) -> Reply:
    """RFC 2033 4.1: as EHLO."""
    return _hello(session, True, replies.R501_LHLO_SYNTAX) or _welcome(session)


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
    if session.state > _READY or session.hook is not None:
        session.reset()
    session.state = _READY
    note_protocol(session, name[:_HELO_OCTETS_MAX])
    return None


def note_protocol(session: Session, helo: bytes) -> None:
    """What the Received field says of this session has changed."""
    settings = session.ports.settings
    facts, identity = session.tls, session.identity
    session.identity = ClientIdentity(
        identity.address,
        identity.name,
        helo,
        keyword(session),
        session.login,
        "" if facts is None else facts.text,
    )
    session.received_prefix = _prefix(session.identity, settings.hostname, settings.is_naming_login)


@lru_cache(maxsize=_PREFIXES_MAX)
def _prefix(client: ClientIdentity, hostname: str, shows_login: bool) -> bytes:
    """Clients that connect for each message say the same each time."""
    return received_prefix(client, hostname, shows_login=shows_login)


def keyword(session: Session, *, is_utf8: bool = False) -> str:
    """What the "with" clause calls this session's protocol (RFC 3848)."""
    return protocol_keyword(
        session.is_esmtp and session.front_protocol != "SMTP",
        session.tls is not None,
        bool(session.login),
        is_utf8,
        session.ports.settings.is_lmtp,
    )


def _welcome(session: Session) -> Reply:
    """The reply to EHLO; clients of a listener differ in few things, so it is made for few."""
    settings, address = session.ports.settings, session.peer_address
    chosen = (
        settings.has_tls and session.tls is None,
        session.mechanisms() if settings.has_auth else (),
        XCLIENT_ATTRIBUTES if settings.xclient and address in settings.xclient else (),
        XFORWARD_ATTRIBUTES if settings.xforward and address in settings.xforward else (),
        session.tls is not None,
    )
    welcomes = session.ports.welcomes
    reply = welcomes.get(chosen)
    if reply is None:
        reply = welcomes[chosen] = r250_ehlo(_offer(settings, *chosen))
    return reply


def _offer(
    settings: SessionSettings,
    has_starttls: bool,
    mechanisms: tuple[str, ...],
    xclient: tuple[str, ...],
    xforward: tuple[str, ...],
    is_tls_requirable: bool,
) -> Offer:
    """What a client is told that it may use; an honest server honours it (RFC 5321 2.2)."""
    return Offer(
        hostname=settings.hostname,
        size_max=settings.message_octets_max,
        has_starttls=has_starttls,
        auth_mechanisms=mechanisms,
        xclient=xclient,
        xforward=xforward,
        is_dsn=True,
        is_utf8=True,
        is_chunking=True,
        is_tls_requirable=is_tls_requirable,
        mail_max=settings.messages_max,
        rcpt_max=settings.recipients_max,
        discarded=settings.discarded,
    )
