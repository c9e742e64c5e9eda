"""Commands that change little: RSET, NOOP, VRFY, HELP, QUIT (RFC 5321 4.1.1), and what is none."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastmta.smtp import Reply
from fastmta.smtp import reply as replies

from .state import State

if TYPE_CHECKING:
    from .session import Session


def rset(session: Session) -> Reply:
    if session.framing.argument:
        return replies.R501_RSET_SYNTAX
    session.reset()
    if session.state > State.READY:
        session.state = State.READY
    return replies.R250_OK


def noop(session: Session) -> Reply:
    return replies.R250_OK


def vrfy(session: Session) -> Reply:
    argument = session.framing.argument
    return replies.r252_verified(argument) if argument else replies.R501_VRFY_SYNTAX


def help(session: Session) -> Reply:
    return replies.R214_HELP


def quit(session: Session) -> Reply:
    if session.framing.argument:
        return replies.R501_QUIT_SYNTAX
    session.has_quit = not session.framing.buffered()
    return session.last(replies.R221_BYE)


def unknown(session: Session) -> Reply:
    return replies.R500_NOT_RECOGNIZED
