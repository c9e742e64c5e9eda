"""AUTH (RFC 4954): base64 on the wire, an `Exchange` behind it."""

from __future__ import annotations

import binascii
import re
from functools import partial
from typing import TYPE_CHECKING

from fastmta.event import Notice, Severity
from fastmta.event.security import LoginRefused
from fastmta.smtp import Reply, Verb, limit
from fastmta.smtp import reply as replies
from fastmta.smtp.sasl import LOCKED, Exchange, SaslStep, Verdict
from fastmta.smtp.use import Use

from .hello import note_protocol
from .score import uncount
from .state import State

if TYPE_CHECKING:
    from .session import Session

_BASE64 = re.compile(rb"(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?")
_REASON = "authentication failure"


def auth(session: Session) -> Reply | None:
    """AUTH mechanism [initial-response]."""
    ports = session.ports
    authenticate = session.authenticate
    if not session.mechanisms() or authenticate is None:
        if ports.settings.has_auth and session.tls is None:
            return replies.R538_NEED_ENCRYPTION
        return replies.R503_AUTH_NOT_ENABLED
    if session.login:
        return replies.R503_ALREADY_AUTHENTICATED
    words = session.framing.argument.split(b" ")
    if not words[0] or len(words) > 2:
        return replies.R501_AUTH_SYNTAX
    if session.framing.buffered():  # RFC 4954 4: AUTH is the last of a group
        return session.last(replies.R554_SYNCHRONIZATION)
    name = words[0].decode("ascii", "replace").upper()
    initial = None
    if len(words) == 2:  # RFC 4954 4: "=" is an initial response of no octets
        initial = b"" if words[1] == b"=" else _decode(words[1])
        if initial is None:
            _not_begun(session, name, "Invalid base64 data in initial response")
            return replies.R501_BAD_RESPONSE
    if not session.spend(Use.AUTH) or not _wager(session):
        return session.refused("AUTH", replies.r450_too_many_auth(session.client))
    exchange = authenticate.begin(name, session.identity.address, session.tls is not None)
    if exchange is None:
        _withdraw(session)
        _not_begun(session, name, "Invalid authentication mechanism")
        return replies.R535_BAD_MECHANISM
    session.exchange = exchange
    session.mechanism = name
    exchange.step(initial, partial(_stepped, session, exchange))
    return None


def _wager(session: Session) -> bool:
    """Count a failure of this client in advance; False: it has had its failures (RFC 4954 9).

    So neither many sessions at once nor one that leaves before it is told make a guess that is not
    counted. Whoever does not fail gets it back. Accounts are `security`'s to look after.
    """
    quota = session.ports.quota
    session.has_wagered = quota is not None and quota.spend(
        Use.AUTH_FAILURE, session.identity.address
    )
    return quota is None or session.has_wagered


def _withdraw(session: Session) -> None:
    """It was no failure."""
    quota = session.ports.quota
    if quota is not None and session.has_wagered:
        quota.spend(Use.AUTH_FAILURE, session.identity.address, "", -1)
    session.has_wagered = False


def _may_finish(session: Session, login: str) -> bool:
    """Whether the account has not failed too often, where a hook has decided about it."""
    quota, hook = session.ports.quota, session.hook
    if quota is None or hook is None or hook.authenticate is None:
        return True
    return not quota.is_locked(login, session.identity.address)


def respond(session: Session) -> Reply | None:
    """The line behind a challenge."""
    exchange = session.exchange
    assert exchange is not None
    line = session.framing.line
    _leave(session)
    if session.framing.buffered():  # the next response cannot be known yet
        cancel(session)
        return session.last(replies.R554_SYNCHRONIZATION)
    if line == b"*":  # RFC 4954 4: the client gives up
        cancel(session)
        text = f"{session.client}: SASL {session.mechanism} authentication aborted"
        session.ports.emit(Notice("smtpd", text, Severity.WARNING))
        return replies.R501_AUTH_ABORTED
    response = _decode(line)
    if response is None:
        cancel(session)
        _not_begun(session, session.mechanism, "Invalid base64 data in continued response")
        return replies.R501_BAD_RESPONSE
    exchange.step(response, partial(_stepped, session, exchange))
    return None


def _stepped(session: Session, exchange: Exchange, step: SaslStep) -> None:
    """What the exchange says to a response."""
    if session.exchange is not exchange:  # given up meanwhile
        return
    if step.verdict is Verdict.CHALLENGE:
        session.state = State.AUTH
        session.framing.set_line_octets_max(limit.AUTH_LINE_OCTETS_MAX)
        session.answer(replies.r334_challenge(step.octets))
        return
    session.exchange = None
    _withdraw(session)
    if step.verdict is Verdict.ACCEPTED and not _may_finish(session, step.login):
        step = SaslStep(Verdict.REFUSED, login=step.login, reason=_REASON, log_reason=LOCKED)
    if step.verdict is Verdict.ACCEPTED:
        session.answer(_accepted(session, step.login))
    elif step.verdict is Verdict.UNAVAILABLE:
        session.ports.emit(_unchecked(session, step))
        session.answer(replies.r454_auth(step.reason))
    else:
        _told(session, step)
        _failed(session, step)


def _accepted(session: Session, login: str) -> Reply:
    session.login = login
    session.auth_failures = 0
    session.judge()
    note_protocol(session, session.identity.helo)
    if session.hook is not None:
        session.hook.logged_in(login, session.mechanism)
    return replies.R235_AUTHENTICATED


def _failed(session: Session, step: SaslStep) -> None:
    """Wrong credentials: counted, and after a few of them the session ends."""
    quota = session.ports.quota
    if quota is not None:
        quota.spend(Use.AUTH_FAILURE, session.identity.address, step.login)
    session.auth_failures += 1
    is_last = session.auth_failures >= session.ports.settings.auth_failures_max
    session.answer(replies.r535(step.reason or _REASON), is_last=is_last)


def _unchecked(session: Session, step: SaslStep) -> Notice:
    """In Postfix's words, for which no log reader bans the client: it is we who are at fault."""
    text = (
        f"{session.client}: SASL {session.mechanism} authentication failed: "
        f"Connection lost to authentication server ({step.reason})"
    )
    return Notice("smtpd", text, Severity.WARNING)


def _told(session: Session, step: SaslStep) -> None:
    reason = step.log_reason or step.reason
    service = session.ports.settings.service
    session.ports.emit(LoginRefused(session.client, session.mechanism, step.login, reason, service))


def _not_begun(session: Session, mechanism: str, reason: str) -> None:
    """What log readers ban clients for as well, though nobody's password was tried."""
    service = session.ports.settings.service
    session.ports.emit(LoginRefused(session.client, mechanism, "", reason, service))


def cancel(session: Session) -> None:
    """Whatever exchange is under way is over."""
    exchange, session.exchange = session.exchange, None
    if not session.is_pending:  # else a response was being judged: it may have been a guess
        _withdraw(session)
    if session.state is State.AUTH:
        _leave(session)
    if exchange is not None:
        exchange.cancel()


def _leave(session: Session) -> None:
    """Lines are commands again."""
    session.state = State.READY
    session.framing.set_line_octets_max(session.ports.settings.command_octets_max)
    uncount(session, Verb.AUTH)  # the challenge was counted as accepted


def _decode(text: bytes) -> bytes | None:
    """Base64 of RFC 4648 4, and nothing else; None for anything else."""
    return binascii.a2b_base64(text) if _BASE64.fullmatch(text) else None
