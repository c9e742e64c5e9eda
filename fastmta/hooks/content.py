"""The content of a message, put to a handler before it is stored, or instead of it."""

from __future__ import annotations

from typing import Any

import msgspec

from fastmta.message import Message
from fastmta.smtp import Reply
from fastmta.smtp.reply import R250_OK, R451_LOCAL_ERROR, R503_NEED_RCPT

from .dialog import Dialog
from .envelope import Left, address_of, examine, trace_octets
from .invocation import Answer, invoke
from .loader import told
from .port import Done
from .thread import Call

_REFUSALS_BEGIN = 300


class ContentRules(msgspec.Struct, frozen=True):
    """What holds for every content."""

    is_sink: bool  # the handler is the destination: nothing is stored
    is_decoding: bool  # envelope.content is str
    octets_max: int  # of a content that a handler made


def put_content(dialog: Dialog, rules: ContentRules, message: Message, done: Done) -> None:
    """Ask handle_DATA about `message`; what it left is in `message` when `done` is called.

    `done` gets None if the message is to be stored, else the reply of a message that is not. A
    handler may empty rcpt_tos in handle_DATA to discard the message, but not before: the session
    asks about that at DATA, and this is the last that can be said about it.
    """
    _complete(dialog, message)
    if not dialog.has_recipients:
        done(R503_NEED_RCPT)
        return
    handler = dialog.shared.handler
    if "DATA" in handler.hooks or handler.process_message is not None:
        question = _Question(dialog, rules, message)
        dialog.run(question.ask, "DATA", lambda answer: _settle(message, question, answer, done))
    elif rules.is_sink:
        done(R250_OK)
    elif "MAIL" in handler.hooks or "RCPT" in handler.hooks:
        question = _Question(dialog, rules, message)
        answer = question.examine(R250_OK)
        dialog.note(answer)
        _settle(message, question, answer, done)
    else:
        done(None)


def _complete(dialog: Dialog, message: Message) -> None:
    """What the session knows better than its questions told."""
    envelope, ours = dialog.envelope, message.envelope
    if dialog.given.reverse is None:
        address = address_of(b"", ours.reverse_path)
        envelope.mail_from = envelope.mail_from or address
        dialog.given.reverse = (address, ours.reverse_path)


def _settle(message: Message, question: _Question, answer: Answer, done: Done) -> None:
    left = answer.left
    if left is None:
        done(answer.reply)
        return
    if left.content is not None:
        message.content = question.trace + left.content
        message.size_octets = len(message.content)
        message.message_id_field = left.message_id_field
    if left.envelope is not None:
        message.envelope = left.envelope
        message.pending = len(left.envelope.forward_paths)
    done(None if message.envelope.forward_paths else answer.reply or R250_OK)


class _Question:
    """One message and the objects of its transaction, as they are when it is put."""

    def __init__(self, dialog: Dialog, rules: ContentRules, message: Message) -> None:
        self.trace = b""
        self._shared = dialog.shared
        self._server = dialog.server
        self._session = dialog.session
        self._theirs = dialog.envelope
        self._given = dialog.given
        self._rules = rules
        self._message = message
        self._ours = message.envelope
        self._handed: bytes | str | None = None

    async def ask(self, call: Call) -> Answer:
        """On a thread of the hooks."""
        rules, handler = self._rules, self._shared.handler
        octets = self._message.content
        if octets is None:
            raise RuntimeError("the content is not in memory")
        size = trace_octets(octets)
        self.trace, octets = octets[:size], octets[size:]
        theirs, server, session = self._theirs, self._server, self._session
        self._handed = octets.decode("utf-8", "surrogateescape") if rules.is_decoding else octets
        theirs.content, theirs.original_content = self._handed, octets
        server.begin(session, theirs)
        if handler.process_message is None:
            hook, read = handler.hooks["DATA"], None
            arguments: tuple[Any, ...] = (server, session, theirs)
        else:
            hook, read = handler.process_message, self._read_legacy
            arguments = (session.peer, theirs.mail_from, theirs.rcpt_tos, theirs.content)
        answer = await invoke(self._shared, server, call, hook, arguments, read)
        if rules.is_sink:
            return Answer(R250_OK) if answer.reply is None else answer
        reply = answer.reply or R250_OK
        if reply.code >= _REFUSALS_BEGIN:
            return answer
        if answer.is_failure:  # its handle_exception says 2xx, but nobody has the message
            return Answer(R451_LOCAL_ERROR, True, answer.notes)
        return self.examine(reply)

    def _read_legacy(self, pushed: list[object], returned: Any) -> Reply | None:
        """process_message returns None for "accepted"."""
        return R250_OK if returned is None else self._shared.answers.read(pushed, returned)

    def examine(self, reply: Reply) -> Answer:
        """What is to be stored, after a hook has accepted it with `reply`."""
        theirs, rules = self._theirs, self._rules
        try:
            left: Left | str = examine(
                theirs, self._given, self._ours, self._handed, rules.octets_max
            )
        except (UnicodeError, AttributeError, TypeError) as error:  # it may be anything by now
            left = told(error)
        if isinstance(left, str):
            note = f"what the handler left cannot be stored: {left}"
            return Answer(R451_LOCAL_ERROR, True, (note,))
        if left.envelope is not None and not left.envelope.forward_paths:
            return Answer(reply, False, ("the handler left no recipient: discarded",), left)
        return Answer(reply, False, (), left)
