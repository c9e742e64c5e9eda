"""MAIL and RCPT: the envelope (RFC 5321 4.1.1.2, 4.1.1.3)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from fastmta.smtp import Problem, Reply, parse_mail, parse_rcpt
from fastmta.smtp import reply as replies
from fastmta.smtp.use import Use

from .parameter import apply_mail_parameters, read_rcpt_parameters
from .refusal import MAIL_PROBLEMS, RCPT_PROBLEMS
from .report import bad_address
from .state import State

if TYPE_CHECKING:
    from .session import Session

_MAIL, _RCPT = State.MAIL, State.RCPT
_MESSAGE, _RECIPIENT = Use.MESSAGE, Use.RECIPIENT
_MALFORMED = frozenset((501, 555))  # RFC 5321 4.2.3, 4.1.1.11
_OVERSHOOT = 1000  # recipients over the limit that are put up with (Postfix's overshoot limit)


def mail(session: Session) -> Reply:
    ports = session.ports
    problem, path, parameters = parse_mail(session.framing.argument, True)
    if problem and not (problem == Problem.SOURCE_ROUTE and session.rights.is_trusted):
        return _malformed(session, "MAIL", problem, MAIL_PROBLEMS)
    if session.messages >= ports.settings.messages_max:
        return session.last(replies.r421_too_much_work(ports.settings.hostname))
    if ports.settings.is_login_required and not session.is_known:
        return _refused(session, replies.R530_AUTH_REQUIRED, path)
    if session.quota is not None and not session.spend(_MESSAGE):
        return _refused(session, replies.r450_too_much_mail(session.client), path)
    allowed = session.rights.reverse_path(path)
    if isinstance(allowed, Reply):
        return _refused(session, allowed, path)
    if session.login and (refusal := _sender_refusal(session, allowed)):
        return _refused(session, refusal, path)
    transaction = session.transaction
    if parameters:
        is_tls = session.tls is not None
        refusal = apply_mail_parameters(transaction, parameters, ports.settings, is_tls)
        if refusal:
            session.reset()
            return _refused(session, refusal, path)
    if refusal := ports.accept.refusal(transaction.declared_octets):
        session.reset()
        return _refused(session, refusal, path)
    transaction.reverse_path = allowed
    if session.hook is not None:
        session.path, session.parameters = allowed, parameters
    session.state = _MAIL
    return replies.R250_SENDER_OK


def _refused(session: Session, reply: Reply, reverse_path: bytes) -> Reply:
    """Report a refusal, but of what is no policy and no limit: a parameter that is malformed."""
    if reply.code in _MALFORMED:
        return reply
    return session.refused("MAIL", reply, None, reverse_path)


def _malformed(session: Session, stage: str, problem: int, problems: Mapping[int, Reply]) -> Reply:
    if problem == Problem.BAD_ADDRESS:
        session.ports.emit(bad_address(session, stage))
    return problems[problem]


def _sender_refusal(session: Session, reverse_path: bytes) -> Reply | None:
    authenticate = session.authenticate
    if authenticate is None or authenticate.may_send_as(session.login, reverse_path):
        return None
    return replies.r553_not_owned(reverse_path, session.login)


def mail_after_failure(session: Session) -> Reply:
    """RFC 3030 2: after a refused BDAT the client may begin anew."""
    session.reset()
    session.state = State.READY
    return mail(session)


def rcpt(session: Session) -> Reply:
    transaction = session.transaction
    problem, path, parameters = (
        parse_rcpt(session.framing.argument, True)
        if transaction.is_utf8
        else parse_rcpt(session.framing.argument)
    )
    if problem and not (problem == Problem.SOURCE_ROUTE and session.rights.is_trusted):
        return _malformed(session, "RCPT", problem, RCPT_PROBLEMS)
    notify, original = "", b""
    if parameters:
        read = read_rcpt_parameters(
            parameters, transaction.is_utf8, session.ports.settings.discarded
        )
        if isinstance(read, Reply):
            return read
        notify, original = read
    if session.quota is not None and not session.spend(_RECIPIENT):
        refusal = replies.r450_too_many_recipients(session.client)
        return session.refused("RCPT", refusal, path)
    allowed = session.rights.forward_path(path)
    if isinstance(allowed, Reply):
        return session.refused("RCPT", allowed, path)
    settings = session.ports.settings
    if transaction.rcpt_count >= settings.recipients_max:
        session.refused("RCPT", replies.R452_TOO_MANY_RECIPIENTS, path)
        transaction.is_unusual = True
        transaction.overshoot += 1
        if transaction.overshoot <= _OVERSHOOT:
            session.is_pardoned = True  # RFC 5321 4.5.3.1.10: a large list is no error
        return replies.R452_TOO_MANY_RECIPIENTS
    transaction.add(allowed, notify, original)
    if session.hook is not None:
        session.path, session.parameters = allowed, parameters
    session.state = _RCPT
    return replies.R250_RECIPIENT_OK
