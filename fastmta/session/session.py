"""One inbound SMTP session without I/O: octets in, octets out, messages to `Accept`."""

from __future__ import annotations

from collections.abc import Callable

from fastmta.event import ClientDisconnected
from fastmta.event.security import TlsStarted
from fastmta.smtp import Framing, Reply, Verb, frame
from fastmta.smtp import reply as replies
from fastmta.smtp.tls import TlsFacts

from . import login, reception
from .command import Command, commands_of
from .hello import greeting_of
from .hooked import ask_hook
from .identity import IdentifiedSession
from .large import LargeContent
from .port import Ports
from .report import STAGES, end_of_session, refusal_of_command
from .score import FIRST_NEGATIVE, count_accepted, count_error, count_junk, say, settle, uncount
from .state import IS_JUNK, State
from .transaction import Transaction

# Looked at for each command; reading them off their classes every time would cost more than the
# comparison.
_READY = State.READY
_AUTH, _CONTENT, _CLOSED = State.AUTH, State.CONTENT, State.CLOSED
_CONNECTED, _COMMITTING = State.CONNECTED, State.COMMITTING
_UNKNOWN = Verb.UNKNOWN
_BDAT = Verb.BDAT
_COMMAND, _NEED_MORE = frame.COMMAND, frame.NEED_MORE
_VERB_COUNT = len(Verb)
# A command line that is too long is read to its end, if that comes soon: else for ever.
_UNENDED_OCTETS_MAX = 64 * 1024
_CLOSING = 421  # RFC 5321 3.8


def _note_commands(ports: Ports, is_tls: bool) -> tuple[tuple[Command, ...], ...]:
    settings = ports.settings
    is_barred = settings.is_tls_required and not is_tls
    commands = commands_of(settings.is_lmtp, is_barred, settings.discarded)
    ports.commands[is_tls] = commands
    return commands


class Session(IdentifiedSession):
    """The protocol of one client, from greeting to QUIT.

    `receive` takes octets and returns the replies to write. When an answer comes later, `output` is
    called with the reply and whatever followed it. After each call the owner looks at `is_closing`
    (write, then close), `is_starting_tls` (write, then begin a handshake and call `tls_started`),
    `delay_s` (write, wait that long, then call `resume`), `is_pending` (we are the ones who are
    late) and, in CONTENT, `is_behind` (read no more until `output` is called).

    What has no underscore and is not said here is for the other files of this room, one a group of
    commands.
    """

    __slots__ = (
        "_answered", "_asked", "_commands", "_output", "accepted", "auth_failures", "broken_octets",
        "delay_s", "errors", "framing", "has_quit", "has_wagered", "held", "is_closing", "is_esmtp",
        "is_pardoned", "is_pipelining", "is_starting_tls", "is_waiting", "junk", "large",
        "messages", "others", "out", "parameters", "path", "room_octets", "skipped_octets", "stage",
        "state", "transaction", "unended_octets",
    )  # fmt: skip

    def __init__(
        self,
        ports: Ports,
        address: str,
        name: str,
        output: Callable[[bytes], None],
        port: int = 0,
    ) -> None:
        IdentifiedSession.__init__(self, ports, address, name, port)  # `super()` takes longer
        self.framing = Framing(ports.settings.command_octets_max)
        self.transaction = Transaction()
        self.state = _CONNECTED
        self.is_esmtp = True
        self.is_pipelining = False  # EHLO has offered it
        # The content under way.
        self.large: LargeContent | None = None  # it goes to a file of its own
        self.room_octets = 0  # what this content has of the room for all
        # What the command under way was about, for hooks.
        self.path = b""
        self.parameters: tuple[tuple[bytes, bytes], ...] = ()
        # Replies.
        self._output = output
        self.out: list[bytes] = []
        self.held = b""  # the reply to an error, until its penalty is over
        self._answered: Reply | None = None  # by somebody who was quicker than we
        self._asked = _UNKNOWN  # the command whose reply is pending
        self.is_waiting = False  # for the end of a penalty, or for an answer that we owe
        self.is_closing = False
        self.has_quit = False  # it said QUIT, and nothing behind it
        self.is_starting_tls = False
        self.delay_s = 0.0
        # Counts.
        self.accepted = [0] * _VERB_COUNT  # commands answered 2xx or 3xx, by verb
        self.others = [0] * _VERB_COUNT  # commands that were not, or not yet
        self.stage = "CONNECT"  # where it is, for the log line at its end
        self.has_wagered = False  # a failure is counted for the login under way
        self.errors = self.junk = self.messages = self.auth_failures = 0
        self.skipped_octets = 0  # of refused chunks since the last message
        self.broken_octets = -1  # of a content within which we ended the session
        self.unended_octets = 0  # of input since a command was complete; below 0: they are expected
        self.is_pardoned = False  # the refusal under way is not an error of the client
        self._commands = ports.commands.get(False) or _note_commands(ports, False)

    # Octets in, octets out.

    def greeting(self) -> bytes:
        """The banner (RFC 5321 4.3.1)."""
        return greeting_of(self.ports.settings).octets

    def proxied(self, header: bytes, done: Callable[[Reply | None], None]) -> None:
        """The client came through a proxy. `done` is called once: greet it, or refuse it so."""
        if self.hook is None or not header:
            done(None)
        else:
            self.hook.proxied(header, done)

    def receive(self, buffer: memoryview | bytes = b"", count: int = 0) -> bytes:
        """Take `count` octets of `buffer` (used only during the call); return replies to write.

        Without: go on with what is here.
        """
        framing = self.framing
        if count:
            framing.feed(buffer, count)
        while not self.is_waiting:
            state = self.state
            row = self._commands[state]
            if not row and state is not _AUTH:
                if state is not _CONTENT:
                    break
                if framing.read_content() == _NEED_MORE:
                    reception.check_growth(self)
                    break
                self.unended_octets = count = 0
                reception.end(self)
                continue
            status = framing.next_command()
            if status == _COMMAND:
                self.unended_octets = count = 0
                if not row:
                    self._reply(Verb.AUTH, login.respond(self))
                    continue
                verb = framing.verb
                has_rest = framing.buffered() > 0
                # RFC 2920 3.1: nothing may follow where it was not offered, but a chunk its BDAT.
                if has_rest and not self.is_pipelining and verb is not _BDAT:
                    self.others[verb] += 1
                    self.close(replies.R554_SYNCHRONIZATION)
                    break
                self.stage = STAGES[verb]
                reply = row[verb](self)
                if reply is not None and self.hook is None and reply.code < FIRST_NEGATIVE:
                    self.accepted[verb] += 1
                    if IS_JUNK[verb]:
                        self.out.append(reply.octets)
                        count_junk(self)
                    elif has_rest or self.out:
                        self.out.append(reply.octets)
                    else:  # so it is with nearly every command
                        framing.keep_rest()
                        return reply.octets
                else:
                    self.others[verb] += 1
                    self._reply(verb, reply)
            elif status == _NEED_MORE:
                if self.unended_octets + count > _UNENDED_OCTETS_MAX:
                    login.cancel(self)
                    self.close(replies.r500_line_too_long(self.ports.settings.hostname))
                break
            else:
                self.unended_octets = count = 0
                self._broken_line(status)
        self.unended_octets += count
        framing.keep_rest()
        return self._take_out() if self.out else b""

    def resume(self) -> bytes:
        """Go on after `delay_s` with the reply that was held back; return replies to write."""
        self.delay_s = 0.0
        self.is_waiting = False
        if self.held:
            self.out.append(self.held)
            self.held = b""
        return self.receive()

    def tls_started(self, facts: TlsFacts) -> None:
        """The handshake is done: all that was said in clear is forgotten (RFC 3207 4.2)."""
        assert not self.framing.buffered(), "octets from before TLS"
        self.reset()
        self.is_starting_tls = self.is_waiting = False
        self.become_secure(facts)
        self.state = _CONNECTED
        self.is_pipelining = False
        self._commands = self.ports.commands.get(True) or _note_commands(self.ports, True)
        if self.hook is not None:
            self.hook.tls_started(facts)
        self.ports.emit(TlsStarted(self.client, facts, self.ports.settings.service))

    def refuse(self, reply: Reply) -> bytes:
        """End the session with `reply` (421 of a time limit or a shutdown) at any point."""
        self.close(reply)
        return self._take_out()

    def ended(self, reason: str) -> ClientDisconnected:
        """The connection is gone: what is to be said about it. An open transaction is dropped."""
        octets = self.framing.content_size if self.state is _CONTENT else self.broken_octets
        if octets >= 0 and self.stage == "DATA":
            uncount(self, Verb.DATA)  # its 354 was not the last word
        if self.exchange is not None or self.has_wagered or self.state is _AUTH:
            login.cancel(self)
        if self.hook is not None:
            self.hook.ended()
        if _READY < self.state < _COMMITTING:  # else it takes its room until it is stored
            self.reset()
        self.state = _CLOSED
        self.is_closing = True
        if not reason and self.errors >= self.ports.settings.errors_hard:
            reason = "too many errors"
        return end_of_session(self, reason, octets)

    @property
    def is_idle(self) -> bool:
        """No transaction open and nothing pending: a shutdown may close it without loss."""
        return self.state <= _READY

    @property
    def is_behind(self) -> bool:
        """The disk is slower than this client's content."""
        return self.large is not None and self.large.is_behind

    @property
    def is_pending(self) -> bool:
        """We owe the client an answer."""
        return self.is_waiting and not self.delay_s and not self.is_starting_tls

    @property
    def buffered_octets(self) -> int:
        """Input that waits for the reply under way."""
        return self.framing.buffered()

    def _take_out(self) -> bytes:
        out = self.out
        octets = out[0] if len(out) == 1 else b"".join(out)
        out.clear()
        return octets

    def _reply(self, verb: Verb, reply: Reply | None) -> None:
        """What a command answers, or (None) will answer later."""
        if reply is not None and self.hook is not None and reply.code < FIRST_NEGATIVE:
            reply = ask_hook(self, self.hook, verb, reply)
        if reply is None:
            reply = self.take_answer()
            if reply is None:
                if self.state is _CONTENT:  # a chunk that is still to be read answers BDAT
                    return
                self._asked = verb
                self.is_waiting = True
                return
        settle(self, verb, reply)

    def _broken_line(self, status: int) -> None:
        self.others[_UNKNOWN] += 1
        self.stage = "UNKNOWN"
        if status == frame.TOO_LONG:
            reply = replies.r500_line_too_long(self.ports.settings.hostname)
            if self.state is _AUTH:
                login.cancel(self)
                reply = replies.R500_RESPONSE_TOO_LONG
            self.out.append(reply.octets)
            count_error(self)
        else:  # a bare CR, a bare LF or a NUL: whoever sends it is not speaking SMTP
            self.close(replies.R500_BARE_CR_OR_LF)

    # Answers that come later.

    def answer(self, reply: Reply | None, *, is_last: bool = False) -> None:
        """The reply to the command under way, whose function returned None or is about to.

        `is_last`: the session ends with it. None: it goes on, and content that follows answers.
        """
        if self.is_waiting and self.state is _CLOSED:  # it ended meanwhile
            return
        if is_last and reply is not None:
            self.last(reply)
        if not self.is_waiting:
            self._answered = reply
            return
        self.is_waiting = False
        if reply is not None:
            settle(self, self._asked, reply)
        self._output(self.receive())

    def take_answer(self) -> Reply | None:
        """What was answered before anybody waited for it."""
        answered, self._answered = self._answered, None
        return answered

    def wait(self, state: State) -> None:
        """The content is whole: nothing is read before it has been answered."""
        self.state = state
        self.is_waiting = True

    def acknowledge(self, octets: bytes) -> None:
        """The answer to a content, durable or not; commands go on."""
        if self.transaction.is_last_chunk:
            count_accepted(self, Verb.BDAT)
        self.reset()
        self.forwarded = None
        if self.state is _CLOSED:  # the client left meanwhile: it will not see our reply
            return
        self.messages += 1
        self.junk = self.skipped_octets = 0
        self.state = _READY
        self.is_waiting = False
        if self.out or self.framing.buffered():
            self.out.append(octets)
            octets = self.receive()
        self._output(octets)

    def refuse_message(self, reply: Reply, count: int) -> None:
        """A hook's no to a whole message, once for each reply that is owed."""
        self.reset()
        if self.state is _CLOSED:
            return
        self.is_waiting = False
        if reply.code == _CLOSING:
            self.out.append(self.last(reply).octets * count)
        else:
            self.state = _READY
            say(self, reply, count)
        self._output(self.receive())

    def wake(self) -> None:
        """Somebody who was behind has caught up: read on."""
        self._output(b"")

    # For the commands.

    def refused(
        self,
        stage: str,
        reply: Reply,
        forward_path: bytes | None = None,
        reverse_path: bytes | None = None,
    ) -> Reply:
        """Report a refusal for policy or limits, and return its reply.

        `reverse_path` of a MAIL that was refused: there is no transaction that has it.
        """
        event = refusal_of_command(self, stage, reply, (reverse_path, forward_path))
        self.ports.emit(event)
        return reply

    def reset(self) -> None:
        """The only way back to "no transaction": forget it, and give its room back."""
        transaction = self.transaction
        if self.large is not None:
            self.large.abandon()
            self.large = None
        if self.room_octets:
            ports = self.ports
            expected = transaction.declared_octets or ports.settings.message_octets_max
            ports.room.give(self.room_octets, expected)
            self.room_octets = 0
        if transaction.chunk_count:
            self.framing.drop_content()
        transaction.reset()
        if self.hook is not None:
            self.hook.forget()

    def last(self, reply: Reply) -> Reply:
        """The session ends with `reply`, whatever was open; whoever asks for it writes it."""
        if self.state is _CONTENT:
            self.broken_octets = self.framing.content_size
        if self.state > _READY or self.hook is not None:
            self.reset()
        if self.held:  # the reply to an error comes first, and its penalty is over
            self.out.append(self.held)
            self.held = b""
        self.delay_s = 0.0
        self.state = _CLOSED
        self.is_closing = True
        return reply

    def close(self, reply: Reply) -> None:
        """Write `reply` and end."""
        self.out.append(self.last(reply).octets)
