"""One inbound SMTP session without I/O: octets in, octets out, messages to `Accept`."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from fastmta.event import ClientDisconnected, CommandRefused, MessageReceived
from fastmta.message import ClientIdentity, Envelope, Message
from fastmta.message.trace import received_field, received_prefix
from fastmta.smtp import Framing, Problem, Reply, Verb, frame, parse_mail, parse_rcpt
from fastmta.smtp import reply as replies
from fastmta.smtp.extension import r250_ehlo

from .content import examine_header, refusal_of
from .large import LargeContent, failure_reply
from .parameter import apply_mail_parameters
from .port import Ports
from .refusal import MAIL_PROBLEMS, RCPT_PROBLEMS
from .room import ContentRoom
from .state import State, build_table
from .transaction import Transaction

_JUNK = frozenset((Verb.NOOP, Verb.RSET, Verb.VRFY, Verb.EHLO, Verb.HELO, Verb.HELP))
_TABLE = build_table()
# Looked at for each command; reading them off their classes every time would cost more than the
# comparison.
_READY, _MAIL, _RCPT = State.READY, State.MAIL, State.RCPT
_CONTENT, _COMMITTING, _CLOSED = State.CONTENT, State.COMMITTING, State.CLOSED
_COMMAND, _NEED_MORE = frame.COMMAND, frame.NEED_MORE
_VERB_COUNT = len(Verb)
_SOFT_ERROR_DELAY_S = 1.0
_HELO_OCTETS_MAX = 255  # RFC 5321 4.5.3.1.2
_FIRST_NEGATIVE = 400  # RFC 5321 4.2.1: replies from here on are refusals
_DISCARD_FACTOR = 2  # over-size content is read on to this many times the limit, then we close


class Session:
    """The protocol of one client, from greeting to QUIT.

    `receive` takes octets and returns the replies to write. When `Accept` answers later, `output`
    is called with the reply and whatever followed it. After each call the owner looks at
    `is_closing` (write, then close), `delay_s` (write, wait that long, then call `resume`) and, in
    CONTENT, `is_behind` (read no more until `output` is called).
    """

    __slots__ = (
        "_accepted", "_errors", "_framing", "_held", "_identity", "_is_waiting", "_junk", "_large",
        "_messages", "_out", "_output", "_ports", "_received_prefix", "_rights",
        "_room_octets", "_stage", "_totals", "_transaction", "client", "delay_s", "is_closing",
        "state",
    )  # fmt: skip

    def __init__(
        self, ports: Ports, address: str, name: str, output: Callable[[bytes], None]
    ) -> None:
        self._ports = ports
        self._output = output
        self._framing = Framing(ports.settings.command_octets_max)
        self._identity = ClientIdentity(address=address, name=name)
        self._rights = ports.policy.admit(address)
        self._transaction = Transaction()
        self._received_prefix = b""
        self._large: LargeContent | None = None  # it goes to a file of its own
        self._room_octets = 0  # what this content has of the room for all
        self._out: list[bytes] = []
        self._held = b""  # the reply to an error, until its penalty is over
        self._totals = [0] * _VERB_COUNT  # commands seen, by verb
        self._accepted = [0] * _VERB_COUNT  # of these, answered 2xx or 3xx
        self._stage = "CONNECT"
        self._errors = self._junk = self._messages = 0
        self._is_waiting = False
        self.client = f"{name}[{address}]"
        self.state = State.CONNECTED
        self.is_closing = False
        self.delay_s = 0.0

    # Octets in, octets out.

    def greeting(self) -> bytes:
        """The banner (RFC 5321 4.3.1)."""
        return replies.r220_greeting(self._ports.settings.hostname).octets

    def receive(self, buffer: memoryview | bytes, count: int) -> bytes:
        """Take `count` octets of `buffer` (used only during the call); return replies to write."""
        self._framing.feed(buffer, count)
        return self._advance()

    def resume(self) -> bytes:
        """Go on after `delay_s` with the reply that was held back; return replies to write."""
        self.delay_s = 0.0
        self._is_waiting = False
        if self._held:
            self._out.append(self._held)
            self._held = b""
        return self._advance()

    def refuse(self, reply: Reply) -> bytes:
        """End the session with `reply` (421 of a time limit or a shutdown) at any point."""
        self._close(reply)
        return self._take_out()

    def ended(self, reason: str) -> ClientDisconnected:
        """The connection is gone: what is to be said about it. An open transaction is dropped."""
        in_content = self.state is State.CONTENT
        octets = self._framing.content_size if in_content else -1
        if self.state is not _COMMITTING:  # else it still takes its room
            self._reset()
        self.state = State.CLOSED
        self.is_closing = True
        verbs = {
            _VERB_NAMES[verb]: (self._accepted[verb], total)
            for verb, total in enumerate(self._totals)
            if total
        }
        return ClientDisconnected(self.client, verbs, reason, self._stage, octets)

    @property
    def is_idle(self) -> bool:
        """No transaction open and nothing pending: a shutdown may close it without loss."""
        return self.state <= _READY

    @property
    def is_behind(self) -> bool:
        """The disk is slower than this client's content."""
        return self._large is not None and self._large.is_behind

    @property
    def buffered_octets(self) -> int:
        """Input that waits for the reply under way."""
        return self._framing.buffered()

    def _take_out(self) -> bytes:
        out = self._out
        octets = out[0] if len(out) == 1 else b"".join(out)
        out.clear()
        return octets

    def _advance(self) -> bytes:
        framing = self._framing
        while not self._is_waiting:
            state = self.state
            if state is _CONTENT:
                if framing.read_content() == _NEED_MORE:
                    self._check_growth()
                    break
                self._end_of_data()
                continue
            if state is _CLOSED:
                break
            status = framing.next_command()
            if status == _COMMAND:
                self._command(framing.verb, state)
            elif status == _NEED_MORE:
                break
            else:
                self._broken_line(status)
        framing.keep_rest()
        return self._take_out()

    # Replies and errors.

    def _command(self, verb: int, state: State) -> None:
        """Look the verb up, let its method answer, count."""
        self._totals[verb] += 1
        self._stage = _STAGES[verb]
        reply = _HANDLERS[state][verb](self)
        self._out.append(reply.octets)
        if reply.code < _FIRST_NEGATIVE:
            self._accepted[verb] += 1
            if verb in _JUNK:
                self._junk += 1
                if self._junk > self._ports.settings.junk_commands_max:
                    self._count_error()
        elif not self.is_closing:  # a last reply is neither held back nor followed by another
            self._count_error()

    def _broken_line(self, status: int) -> None:
        self._totals[Verb.UNKNOWN] += 1
        self._stage = "UNKNOWN"
        if status == frame.TOO_LONG:
            self._out.append(replies.r500_line_too_long(self._ports.settings.hostname).octets)
            self._count_error()
        else:  # a bare CR, a bare LF or a NUL: whoever sends it is not speaking SMTP
            self._close(replies.R500_BARE_CR_OR_LF)

    def _count_error(self) -> None:
        """The last reply in `_out` tells of an error."""
        self._errors += 1
        settings = self._ports.settings
        if self._errors >= settings.errors_hard:
            self._close(replies.r421_too_many_errors(settings.hostname))
        elif self._errors > settings.errors_soft:
            self.delay_s = _SOFT_ERROR_DELAY_S
            self._is_waiting = True
            self._held = self._out.pop()

    def _refused(self, stage: str, reply: Reply, forward_path: bytes | None = None) -> Reply:
        """Report a refusal for policy or limits, and return its reply."""
        transaction = self._transaction
        self._ports.emit(
            CommandRefused(
                client=self.client,
                stage=stage,
                reply=reply.text,
                queue_id=transaction.queue_id,
                reverse_path=None if self.state < State.MAIL else transaction.reverse_path,
                forward_path=forward_path,
                protocol=self._identity.protocol,
                helo=self._identity.helo,
            )
        )
        return reply

    def _reset(self) -> None:
        """The only way back to "no transaction": forget it, and give its room back."""
        transaction = self._transaction
        if self._large is not None:
            self._large.abandon()
            self._large = None
        if self._room_octets:
            ports = self._ports
            expected = transaction.declared_octets or ports.settings.message_octets_max
            ports.room.octets_expected -= expected
            ports.room.give(self._room_octets)
            self._room_octets = 0
        transaction.reset()

    def _last(self, reply: Reply) -> Reply:
        """The session ends with `reply`, whatever was open; whoever asks for it writes it."""
        self._reset()
        self.state = State.CLOSED
        self.is_closing = True
        return reply

    def _close(self, reply: Reply) -> None:
        """Write `reply` and end."""
        self._out.append(self._last(reply).octets)

    # Verbs, in the order of RFC 5321 4.1.1. Each returns its reply.

    def _hello(self, protocol: str) -> Reply | None:
        argument = self._framing.argument
        if not argument:
            return replies.R501_HELO_SYNTAX if protocol == "SMTP" else replies.R501_EHLO_SYNTAX
        if self._framing.buffered():  # RFC 2920 3.1: EHLO is the last of a group
            return self._last(replies.R554_SYNCHRONIZATION)
        settings = self._ports.settings
        self._identity = ClientIdentity(
            self._identity.address, self._identity.name, argument[:_HELO_OCTETS_MAX], protocol
        )
        self._received_prefix = received_prefix(self._identity, settings.hostname)
        self._reset()
        self.state = State.READY
        return None

    def helo(self) -> Reply:
        return self._hello("SMTP") or replies.r250_hello(self._ports.settings.hostname)

    def ehlo(self) -> Reply:
        settings = self._ports.settings
        return self._hello("ESMTP") or r250_ehlo(settings.hostname, settings.message_octets_max)

    def mail(self) -> Reply:
        ports = self._ports
        problem, path, parameters = parse_mail(self._framing.argument)
        if problem and not (problem == Problem.SOURCE_ROUTE and self._rights.is_trusted):
            return MAIL_PROBLEMS[problem]
        if self._messages >= ports.settings.messages_max:
            return self._last(replies.r421_too_much_work(ports.settings.hostname))
        allowed = self._rights.reverse_path(path)
        if isinstance(allowed, Reply):
            return self._refused("MAIL", allowed)
        transaction = self._transaction
        if parameters:
            refusal = apply_mail_parameters(
                transaction, parameters, ports.settings.message_octets_max
            )
            if refusal:
                self._reset()
                return self._refused("MAIL", refusal)
        if refusal := ports.accept.refusal(transaction.declared_octets):
            self._reset()
            return self._refused("MAIL", refusal)
        transaction.reverse_path = allowed
        self.state = _MAIL
        return replies.R250_SENDER_OK

    def rcpt(self) -> Reply:
        problem, path, parameters = parse_rcpt(self._framing.argument)
        if problem and not (problem == Problem.SOURCE_ROUTE and self._rights.is_trusted):
            return RCPT_PROBLEMS[problem]
        if parameters:
            return replies.r555_unsupported_option(b"=".join(parameters[0]).rstrip(b"="))
        allowed = self._rights.forward_path(path)
        if isinstance(allowed, Reply):
            return self._refused("RCPT", allowed, path)
        transaction = self._transaction
        if transaction.rcpt_count >= self._ports.settings.recipients_max:
            return self._refused("RCPT", replies.R452_TOO_MANY_RECIPIENTS, path)
        transaction.rcpt_count += 1
        transaction.forward_paths[allowed] = None
        self.state = _RCPT
        return replies.R250_RECIPIENT_OK

    def data_without_recipient(self) -> Reply:
        """RFC 2920 3.1: a pipelined DATA after refused recipients is answered 554, not 503."""
        return replies.R554_NO_VALID_RECIPIENTS

    def data(self) -> Reply:
        if self._framing.argument:
            return replies.R501_DATA_SYNTAX
        if self._framing.buffered():  # RFC 2920 3.1: content may not come before our 354
            return self._last(replies.R554_SYNCHRONIZATION)
        ports = self._ports
        transaction = self._transaction
        octets = min(transaction.declared_octets, ports.settings.inline_octets_max)
        octets = max(octets, ContentRoom.LEAST_OCTETS)
        if not ports.room.take(octets):
            refusal = self._refused("DATA", replies.R452_STORAGE_FULL)
            self._reset()
            self.state = State.READY
            return refusal
        self._room_octets = octets
        expected = transaction.declared_octets or ports.settings.message_octets_max
        ports.room.octets_expected += expected
        transaction.queue_id = ports.accept.new_id()
        forward_paths = transaction.forward_paths
        only = next(iter(forward_paths)) if len(forward_paths) == 1 else b""
        trace = received_field(
            self._received_prefix, transaction.queue_id, only, ports.clock.date()
        )
        transaction.trace_octets = len(trace)
        self._framing.begin_content(
            trace,
            ports.settings.message_octets_max,
            ports.settings.is_normalizing(self._rights.is_trusted),
            transaction.declared_octets,
        )
        self.state = _CONTENT
        return replies.R354_END_WITH_DOT

    def rset(self) -> Reply:
        self._reset()
        if self.state > State.READY:
            self.state = State.READY
        return replies.R250_OK

    def noop(self) -> Reply:
        return replies.R250_OK

    def vrfy(self) -> Reply:
        argument = self._framing.argument
        return replies.r252_verified(argument) if argument else replies.R501_VRFY_SYNTAX

    def help(self) -> Reply:
        return replies.R214_HELP

    def quit(self) -> Reply:
        return self._last(replies.R221_BYE)

    def unknown(self) -> Reply:
        return replies.R500_NOT_RECOGNIZED

    # Content.

    def _check_growth(self) -> None:
        """Content that outgrows its limit is read on for a while; our room is for all clients."""
        framing, ports = self._framing, self._ports
        octets = framing.content_size
        if octets > _DISCARD_FACTOR * ports.settings.message_octets_max:
            self._close(self._refused("DATA", replies.R552_CONTENT_TOO_BIG))
        elif framing.violations & frame.REFUSING:
            if self._large is not None:
                self._large.abandon()
        elif octets > ports.settings.inline_octets_max:
            self._spill(framing)
        elif octets > self._room_octets:
            more = octets - self._room_octets + ContentRoom.LEAST_OCTETS
            if ports.room.take(more):
                self._room_octets += more
            else:
                busy = replies.r421_busy(ports.settings.hostname)
                self._close(self._refused("DATA", busy))

    def _spill(self, framing: Framing) -> None:
        """Hand on what is here of a large content; nothing of it stays with us."""
        large = self._large
        if large is None:
            large = self._begin_large(framing.take_piece())
            if large.refusal is not None:
                framing.discard_content()
        elif large.refusal is None:
            large.write(framing.take_piece())

    def _begin_large(self, first: bytes) -> LargeContent:
        ports = self._ports
        self._room_octets = ports.room.shrink(self._room_octets)
        caught_up = partial(self._output, b"")
        self._large = large = LargeContent(ports, self._transaction, first, caught_up)
        return large

    def _end_of_data(self) -> None:
        framing = self._framing
        self._stage = "END-OF-MESSAGE"
        if framing.violations and (refusal := refusal_of(framing.violations)):
            self._refuse_content(*refusal)
            return
        try:
            if framing.content_size > self._ports.settings.inline_octets_max:
                self._end_large(framing)
                return
            content = framing.take_content()
            trace_octets = self._transaction.trace_octets
            examined = examine_header(content, trace_octets, self._ports.settings)
            if isinstance(examined, Reply):
                self._refuse_content(examined, False)
                return
            message = self._message(*examined)
        except MemoryError:  # all of this content has been read: the session can go on
            self._refuse_content(replies.R451_LOCAL_ERROR, False)
            return
        self.state = _COMMITTING
        self._is_waiting = True
        self._ports.accept.accept(message, self._stored)

    def _message(self, content: bytes, message_id_field: bytes) -> Message:
        """The open transaction as a message."""
        transaction = self._transaction
        envelope = Envelope(
            transaction.reverse_path,
            tuple(transaction.forward_paths),
            self._identity,
            transaction.is_8bit,
        )
        message = Message(transaction.queue_id, envelope, content, self._ports.clock.wall_ns())
        message.message_id_field = message_id_field
        return message

    def _end_large(self, framing: Framing) -> None:
        """The end of a large content: it is made durable before its message is handed over."""
        large = self._large
        if large is None:  # it came in one piece
            large = self._begin_large(framing.take_content())
        elif large.refusal is None:
            large.write(framing.take_content())
        if large.refusal is not None:
            self._refuse_content(large.refusal, False)
            return
        message = self._message(b"", large.message_id_field)
        self._large = None  # from here on it is not ours to abandon
        self.state = _COMMITTING
        self._is_waiting = True
        large.store(message, self._stored)

    def _refuse_content(self, reply: Reply, is_closing: bool) -> None:
        self._refused("END-OF-MESSAGE", reply)
        self._reset()
        self.state = State.READY
        if is_closing:
            self._close(reply)
        else:
            self._out.append(reply.octets)
            self._count_error()

    def _stored(self, message: Message, error: Exception | None) -> None:
        """The spool's answer: only here is a message acknowledged."""
        if error is None:
            self._ports.emit(MessageReceived(message.id, self.client, message.message_id_field))
        self._reset()
        if self.state is _CLOSED:  # the client left meanwhile: it will not see our 250
            return
        self._messages += 1
        self._junk = 0
        self.state = State.READY
        self._is_waiting = False
        if error is None:
            self._out.append(replies.r250_queued_octets(message.id))
        else:
            self._out.append(failure_reply(error).octets)
        self._output(self._advance() if self._framing.buffered() else self._take_out())


_STAGES = tuple(verb.name for verb in sorted(Verb, key=int))
_VERB_NAMES = tuple(stage.lower() for stage in _STAGES)


def _handler(entry: str | Reply) -> Callable[[Session], Reply]:
    """What a table entry does: the method of that name, or giving that refusal."""
    if isinstance(entry, str):
        method: Callable[[Session], Reply] = getattr(Session, entry)
        return method
    return lambda session: entry


_HANDLERS = {state: tuple(_handler(entry) for entry in row) for state, row in _TABLE.items()}
