"""A hook's say in a command that our own checks let pass."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from fastmta.smtp import Reply, Verb
from fastmta.smtp import reply as replies

from .port import Hook, HookArgument
from .state import State

if TYPE_CHECKING:
    from .session import Session

_CLOSING = 421  # RFC 5321 3.8
_ASKED_BEFORE = frozenset((Verb.DATA, Verb.BDAT))  # by `ask_before_content`


def ask_hook(session: Session, hook: Hook, verb: Verb, reply: Reply) -> Reply | None:
    """`reply`, or the hook's; None: that comes later, by `Session.answer`."""
    if verb not in hook.stages or verb in _ASKED_BEFORE:
        return reply
    is_about_path = verb is Verb.MAIL or verb is Verb.RCPT
    argument = HookArgument(
        session.framing.argument,
        session.path if is_about_path else b"",
        session.parameters if is_about_path else (),
        reply,
    )
    hook.ask(verb, argument, partial(_decided, session, verb, reply))
    if session.is_closing:  # QUIT: a hook that has to think about it is not waited for
        return session.take_answer() or reply
    return None


def ask_before_content(
    session: Session,
    verb: Verb,
    go_on: Callable[[], Reply | None],
    refuse: Callable[[Reply], Reply],
) -> None:
    """Ask about DATA, or the first BDAT, before any content is expected.

    `go_on` begins the content and returns our reply, None if that comes later; `refuse` turns the
    hook's refusal into the reply to give.
    """
    assert session.hook is not None
    argument = HookArgument(session.framing.argument, b"", (), replies.R354_END_WITH_DOT)

    def decided(theirs: Reply | None) -> None:
        if session.state is State.CLOSED:  # it ended meanwhile: nothing may begin any more
            return
        if verb is Verb.DATA and session.framing.buffered():
            # RFC 2920 3.1: it did not wait for the 354, and after a refusal this is no command.
            session.answer(replies.R554_SYNCHRONIZATION, is_last=True)
        elif theirs is None or theirs.is_positive:
            session.answer(go_on())
        else:
            session.refused(verb.name, theirs)
            session.answer(refuse(theirs), is_last=theirs.code == _CLOSING)

    session.hook.ask(verb, argument, decided)


def _decided(session: Session, verb: Verb, ours: Reply, theirs: Reply | None) -> None:
    if session.state is State.CLOSED and verb is not Verb.QUIT:  # it ended meanwhile
        return
    if theirs is not None and not theirs.is_positive:
        session.refused(verb.name, theirs)
        undo = _UNDO.get(verb)
        if undo is not None:
            undo(session)
    reply = ours if theirs is None else theirs
    session.answer(reply, is_last=reply.code == _CLOSING)


def _undo_hello(session: Session) -> None:
    session.state = State.CONNECTED


def _undo_mail(session: Session) -> None:
    session.reset()
    session.state = State.READY


def _undo_rcpt(session: Session) -> None:
    session.transaction.remove_last()
    if not session.transaction.forward_paths:
        session.state = State.MAIL


_UNDO: dict[Verb, Callable[[Session], None]] = {
    Verb.EHLO: _undo_hello,
    Verb.HELO: _undo_hello,
    Verb.LHLO: _undo_hello,
    Verb.MAIL: _undo_mail,
    Verb.RCPT: _undo_rcpt,
}
