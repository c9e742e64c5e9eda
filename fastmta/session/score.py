"""Replies that count: how many commands were accepted, and what errors and junk cost a client."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastmta.smtp import Reply, Verb
from fastmta.smtp import reply as replies

from .state import IS_JUNK

if TYPE_CHECKING:
    from .session import Session

FIRST_NEGATIVE = 400  # RFC 5321 4.2.1: replies from here on are refusals
_SOFT_ERROR_DELAY_S = 1.0


def settle(session: Session, verb: int, reply: Reply) -> None:
    """Say what answers a command, and count it."""
    session.out.append(reply.octets)
    if reply.code < FIRST_NEGATIVE:
        count_accepted(session, verb)
        if IS_JUNK[verb]:
            count_junk(session)
    elif session.is_pardoned:
        session.is_pardoned = False
    elif not session.is_closing:  # a last reply is neither held back nor followed by another
        count_error(session)


def say(session: Session, reply: Reply, count: int = 1) -> None:
    """A reply to content, `count` times; one that refuses is an error of the client."""
    session.out.append(reply.octets * count)
    if reply.code >= FIRST_NEGATIVE:
        count_error(session)


def accept_chunk(session: Session, reply: Reply) -> None:
    """A chunk of content is in; BDAT is what it answers."""
    count_accepted(session, Verb.BDAT)
    session.out.append(reply.octets)


def count_accepted(session: Session, verb: int) -> None:
    """A command that was not accepted so far is now."""
    session.accepted[verb] += 1
    session.others[verb] -= 1


def uncount(session: Session, verb: int) -> None:
    """A positive reply to `verb` was not its last."""
    session.accepted[verb] -= 1
    session.others[verb] += 1


def count_junk(session: Session) -> None:
    """A command that does not help a message on; the last reply in `out` is its."""
    session.junk += 1
    if session.junk > session.ports.settings.junk_commands_max:
        count_error(session)


def count_error(session: Session) -> None:
    """The last reply in `out` tells of an error."""
    session.errors += 1
    settings = session.ports.settings
    if session.errors >= settings.errors_hard:
        session.close(replies.r421_too_many_errors(settings.hostname))
    elif session.errors > settings.errors_soft:
        session.delay_s = _SOFT_ERROR_DELAY_S
        session.is_waiting = True
        session.held = session.out.pop()
