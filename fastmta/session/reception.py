"""Content as it comes in: its growth, its end, the verdict on it, and the reply to it."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from fastmta.event import MessageReceived, Notice
from fastmta.message import Envelope, Message
from fastmta.smtp import Framing, Reply, Verb, frame
from fastmta.smtp import reply as replies

from .completion import complete
from .content import examine_header, refusal_of
from .front import origin_of
from .large import LargeContent, failure_reply, spill_whole
from .room import ContentRoom
from .score import accept_chunk, say, uncount
from .state import State

if TYPE_CHECKING:
    from .session import Session

_DISCARD_FACTOR = 2  # over-size content is read on to this many times the limit, then we close
_COMMITTING = State.COMMITTING


def check_growth(session: Session) -> None:
    """Content that outgrows its limit is read on for a while; our room is for all clients."""
    framing, ports = session.framing, session.ports
    octets = framing.content_size
    if octets > _DISCARD_FACTOR * ports.settings.message_octets_max:
        session.close(session.refused("DATA", replies.R552_CONTENT_TOO_BIG))
    elif framing.violations & frame.REFUSING:
        if session.large is not None:
            session.large.abandon()
    elif octets > ports.settings.inline_octets_max:
        _spill(session, framing)
    elif octets > session.room_octets:
        more = octets - session.room_octets + ContentRoom.LEAST_OCTETS
        if ports.room.take(more):
            session.room_octets += more
        else:
            busy = replies.r421_busy(ports.settings.hostname)
            session.close(session.refused("DATA", busy))


def _spill(session: Session, framing: Framing) -> None:
    """Hand on what is here of a large content; nothing of it stays with us."""
    large = session.large
    if large is None:
        large = _begin_large(session, framing.take_piece())
        if large.refusal is not None:
            framing.discard_content()
    elif large.refusal is None:
        large.write(framing.take_piece())


def _begin_large(session: Session, first: bytes) -> LargeContent:
    ports = session.ports
    session.room_octets = ports.room.shrink(session.room_octets)
    completed = partial(complete, session)
    large = LargeContent(ports, session.transaction, first, completed, session.wake)
    session.large = large
    return large


def end(session: Session) -> None:
    """The end of data, or of a chunk."""
    transaction = session.transaction
    if transaction.chunk_count and not _end_chunk(session):
        return
    framing, settings = session.framing, session.ports.settings
    session.stage = "END-OF-MESSAGE"
    if framing.violations and (refusal := refusal_of(framing.violations)):
        _refuse(session, *refusal)
        return
    try:
        if framing.content_size > settings.inline_octets_max:
            _end_large(session, framing)
            return
        content = framing.take_content()
        examined = examine_header(content, transaction.trace_octets, settings)
        if isinstance(examined, Reply):
            _refuse(session, examined, False)
            return
        if settings.is_adding_fields:
            examined = complete(session, *examined)
        message = _message(session, *examined)
    except MemoryError:  # all of this content has been read: the session can go on
        _refuse(session, replies.R451_LOCAL_ERROR, False)
        return
    if session.hook is None:
        session.state = _COMMITTING
        session.is_waiting = True
        session.ports.accept.accept(message, partial(_stored, session))
    else:
        session.wait(State.JUDGING)
        session.hook.content(message, partial(_decided, session, message))


def _end_chunk(session: Session) -> bool:
    """Whether that was the last one, and its message is whole."""
    framing, transaction = session.framing, session.transaction
    if transaction.is_last_chunk:
        framing.end_chunks()
        return True
    check_growth(session)
    if session.state is State.CLOSED:
        return False
    if refusal := refusal_of(framing.violations):  # RFC 3030 2: the message has failed
        _refuse(session, *refusal)
        return False
    session.state = State.CHUNKS
    accept_chunk(session, replies.r250_chunk(transaction.chunk_octets))
    return False


def _message(session: Session, content: bytes, message_id_field: bytes) -> Message:
    """The open transaction as a message."""
    transaction = session.transaction
    envelope = Envelope(
        transaction.reverse_path,
        tuple(transaction.forward_paths),
        session.identity,
        transaction.is_8bit,
        session.login,
        transaction.is_utf8,
        transaction.dsn_request() if transaction.is_unusual else None,
        transaction.is_tls_required,
    )
    wall_ns = session.ports.clock.wall_ns()
    return Message(transaction.queue_id, envelope, content, wall_ns, message_id_field)


def _end_large(session: Session, framing: Framing) -> None:
    """The end of a large content: it is made durable before its message is handed over."""
    large = session.large
    if large is None:  # it came in one piece
        large = _begin_large(session, framing.take_content())
    elif large.refusal is None:
        large.write(framing.take_content())
    if large.refusal is not None:
        _refuse(session, large.refusal, False)
        return
    message = _message(session, b"", large.message_id_field)
    session.large = None  # from here on it is not ours to abandon
    session.wait(_COMMITTING)
    large.store(message, partial(_stored, session))


def _refuse(session: Session, reply: Reply, is_closing: bool) -> None:
    """The verdict on a content is no."""
    transaction = session.transaction
    session.refused("END-OF-MESSAGE", reply)
    _uncount_data(session)
    count = _reply_count(session)
    is_failed_chunk = transaction.chunk_count > 0 and not transaction.is_last_chunk
    session.reset()
    session.state = State.BROKEN if is_failed_chunk else State.READY
    if is_closing:
        session.close(reply)
    else:
        say(session, reply, count)


def _uncount_data(session: Session) -> None:
    """What DATA began has failed; a chunk is not counted before its reply."""
    if not session.transaction.chunk_count:
        uncount(session, Verb.DATA)


def _reply_count(session: Session) -> int:
    """RFC 2033 4.2: an LMTP server answers a content once for each recipient."""
    transaction = session.transaction
    if not session.ports.settings.is_lmtp:
        return 1
    if transaction.chunk_count and not transaction.is_last_chunk:
        return 1
    return transaction.rcpt_count


def _decided(session: Session, message: Message, reply: Reply | None) -> None:
    """What a hook says to a whole message."""
    if session.state is not State.JUDGING:  # the client is gone, and its room given back
        return
    if reply is None:
        session.wait(_COMMITTING)
        accept, content = session.ports.accept, message.content
        if content is not None and len(content) > session.ports.settings.spill_octets:
            spill_whole(accept, message, content, partial(_stored, session))
        else:
            accept.accept(message, partial(_stored, session))
        return
    count = _reply_count(session)
    if reply.is_positive:
        session.ports.emit(_taken(session, message, reply))
        session.acknowledge(reply.octets * count)
        return
    session.refused("END-OF-MESSAGE", reply)
    _uncount_data(session)
    session.refuse_message(reply, count)


def _received(session: Session, message: Message) -> MessageReceived:
    ports, envelope = session.ports, message.envelope
    mechanism = origin = ""
    if session.login or session.forwarded is not None:
        mechanism = session.mechanism if session.login else ""
        origin = origin_of(session.forwarded)
    return MessageReceived(
        message.id,
        session.client,
        message.message_id_field,
        session.login,
        mechanism,
        origin,
        ports.settings.listener,
        "" if ports.tenant_of is None else ports.tenant_of(envelope),
        message.size_octets,
        len(envelope.forward_paths),
        (ports.clock.wall_ns() - message.arrived_at_ns) * 1e-9,
        ports.settings.service,
    )


def _taken(session: Session, message: Message, reply: Reply) -> Notice:
    """A hook has taken the message, and nobody else will speak of it."""
    reverse_path = message.envelope.reverse_path.decode("latin-1")
    text = (
        f"client={session.client}, from=<{reverse_path}>, size={message.size_octets}, "
        f"nrcpt={session.transaction.rcpt_count}, taken by the handler ({reply.text})"
    )
    return Notice("smtpd", text, queue_id=message.id)


def _stored(session: Session, message: Message, error: Exception | None) -> None:
    """The spool's answer: only here is a message acknowledged."""
    if error is not None:
        _uncount_data(session)
        session.acknowledge(failure_reply(error).octets * _reply_count(session))
        return
    session.ports.emit(_received(session, message))
    transaction = session.transaction
    if transaction.chunk_count:
        octets = replies.r250_bdat_queued(session.framing.content_size, message.id).octets
    else:
        octets = replies.r250_queued_octets(message.id)
    if session.ports.settings.is_lmtp:
        octets *= transaction.rcpt_count
    session.acknowledge(octets)
