"""DATA and BDAT: from an envelope to octets that are content (RFC 5321 4.1.1.4, RFC 3030 2)."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from msgspec.structs import replace

from fastmta.message.trace import received_field, received_prefix
from fastmta.smtp import Reply, Verb, limit
from fastmta.smtp import reply as replies
from fastmta.smtp.chunk import parse_bdat

from .hello import keyword
from .hooked import ask_before_content
from .room import ContentRoom
from .state import State

if TYPE_CHECKING:
    from .session import Session

_LEAST_OCTETS = ContentRoom.LEAST_OCTETS
_CONTENT = State.CONTENT


def data_without_recipient(session: Session) -> Reply:
    """RFC 2920 3.1: a pipelined DATA after refused recipients is answered 554, not 503."""
    return replies.R554_NO_VALID_RECIPIENTS


def data(session: Session) -> Reply | None:
    if session.framing.argument:
        return replies.R501_DATA_SYNTAX
    if session.hook is not None and Verb.DATA in session.hook.stages:
        begin = partial(_begin_data, session)
        ask_before_content(session, Verb.DATA, begin, partial(_refuse_data, session))
        return None
    return _begin_data(session)


def _refuse_data(session: Session, refusal: Reply) -> Reply:
    """No transaction is open behind a refused DATA."""
    session.reset()
    session.state = State.READY
    return refusal


def _begin_data(session: Session) -> Reply:
    framing = session.framing
    if framing.buffered():  # RFC 2920 3.1: content may not come before our 354
        return session.last(replies.R554_SYNCHRONIZATION)
    if not _take_room(session):
        return _refuse_data(session, session.refused("DATA", replies.R452_STORAGE_FULL))
    settings = session.ports.settings
    transaction = session.transaction
    framing.begin_content(
        _trace(session),
        settings.message_octets_max,
        session.is_normalizing,
        transaction.declared_octets,
    )
    session.state = _CONTENT
    return replies.R354_END_WITH_DOT


def _take_room(session: Session) -> bool:
    """Room in memory for what is declared, or for a first part."""
    ports = session.ports
    settings = ports.settings
    declared = octets = session.transaction.declared_octets
    if octets <= _LEAST_OCTETS:
        octets = _LEAST_OCTETS
    elif octets > settings.spill_octets:
        octets = max(settings.spill_octets, _LEAST_OCTETS)
    if not ports.room.take(octets, declared or settings.message_octets_max):
        return False
    session.room_octets = octets
    return True


def _trace(session: Session) -> bytes:
    """Our Received field; the message has its queue id from here on."""
    ports, transaction = session.ports, session.transaction
    transaction.queue_id = ports.accept.new_id()
    forward_paths = transaction.forward_paths
    only = next(iter(forward_paths)) if len(forward_paths) == 1 else b""
    prefix = _utf8_prefix(session) if transaction.is_utf8 else session.received_prefix
    trace = received_field(prefix, transaction.queue_id, only, ports.clock.date())
    transaction.trace_octets = len(trace)
    return trace


def _utf8_prefix(session: Session) -> bytes:
    """RFC 6531 3.7.3: another keyword in the "with" clause."""
    settings = session.ports.settings
    identity = replace(session.identity, protocol=keyword(session, is_utf8=True))
    return received_prefix(identity, settings.hostname, shows_login=settings.is_naming_login)


def bdat(session: Session) -> Reply | None:
    """One chunk. Its size is judged before a single octet of it is read."""
    parsed = parse_bdat(session.framing.argument)
    if parsed is None:  # how much follows is not known: nothing behind it can be believed
        return session.last(replies.R501_BDAT_SYNTAX)
    size, is_last = parsed
    transaction = session.transaction
    total = size if not transaction.chunk_count else session.framing.content_size + size
    if total > session.ports.settings.message_octets_max:
        return _refuse_chunk(session, size, replies.R552_CHUNK_TOO_BIG)
    count = transaction.chunk_count + 1
    if count > limit.CHUNKS_MAX or (
        count > limit.CHUNKS_FREE and total < count * limit.CHUNK_OCTETS_LEAST
    ):
        return session.last(session.refused("BDAT", replies.R554_TOO_MANY_CHUNKS))
    if transaction.chunk_count:
        _begin_chunk(session, size, is_last)
        return None
    begin = partial(_begin_first_chunk, session, size, is_last)
    if session.hook is not None and Verb.BDAT in session.hook.stages:
        ask_before_content(session, Verb.BDAT, begin, partial(_refuse_chunk, session, size))
        return None
    return begin()


def _begin_first_chunk(session: Session, size: int, is_last: bool) -> Reply | None:
    if not _take_room(session):
        return _refuse_chunk(session, size, replies.R452_STORAGE_FULL)
    _begin_chunks(session)
    _begin_chunk(session, size, is_last)
    return None


def _begin_chunk(session: Session, size: int, is_last: bool) -> None:
    """What answers is `reception`, once the chunk is here."""
    transaction = session.transaction
    transaction.is_unusual = True
    transaction.chunk_count += 1
    transaction.chunk_octets = size
    transaction.is_last_chunk = is_last
    session.framing.begin_chunk(size)
    session.state = _CONTENT


def _begin_chunks(session: Session) -> None:
    settings = session.ports.settings
    session.framing.begin_chunked_content(
        _trace(session),
        settings.message_octets_max,
        session.is_normalizing,
        session.transaction.declared_octets,
    )


def bdat_too_early(session: Session) -> Reply:
    return _refuse_unread(session, replies.R503_NEED_RCPT)


def bdat_without_recipient(session: Session) -> Reply:
    """RFC 3030 2: with this chunk the message has failed, whatever recipients were to come."""
    session.reset()
    session.state = State.BROKEN
    return _refuse_unread(session, replies.R554_NO_VALID_RECIPIENTS)


def bdat_after_failure(session: Session) -> Reply:
    return _refuse_unread(session, replies.R503_BDAT_AFTER_ERROR)


def bdat_before_tls(session: Session) -> Reply:
    return _refuse_unread(session, replies.R530_NEED_STARTTLS)


def bdat_not_offered(session: Session) -> Reply:
    return _refuse_unread(session, replies.R502_NOT_IMPLEMENTED)


def _refuse_unread(session: Session, reply: Reply) -> Reply:
    """The octets of the chunk follow all the same, and are no commands."""
    parsed = parse_bdat(session.framing.argument)
    if parsed is None:
        return session.last(replies.R501_BDAT_SYNTAX)
    return _skip(session, parsed[0], reply)


def _refuse_chunk(session: Session, size: int, reply: Reply) -> Reply:
    """The message has failed (RFC 3030 2)."""
    session.refused("BDAT", reply)
    session.reset()
    session.state = State.BROKEN
    return _skip(session, size, reply)


def _skip(session: Session, size: int, reply: Reply) -> Reply:
    """Read over a refused chunk; whoever goes on sending them is not read for ever."""
    session.skipped_octets += size
    if session.skipped_octets > session.ports.settings.message_octets_max:
        return session.last(reply)
    session.framing.skip(size)
    session.unended_octets = -size
    return reply
