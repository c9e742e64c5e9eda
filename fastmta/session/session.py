"""One inbound SMTP session without I/O: octets in, octets out, messages to `Accept`."""

from __future__ import annotations

from collections.abc import Callable

from fastmta.event import ClientDisconnected
from fastmta.event.security import TlsStarted
from fastmta.message import ClientIdentity
from fastmta.smtp import Framing, Reply, Verb, frame
from fastmta.smtp import reply as replies
from fastmta.smtp.sasl import Exchange
from fastmta.smtp.tls import TlsFacts
from fastmta.smtp.use import Use
from fastmta.smtp.xclient import XForward

from . import login, reception
from .command import Command, commands_of
from .hello import greeting_of
from .hooked import ask_hook
from .large import LargeContent
from .port import Authenticate, Hook, Ports
from .report import STAGES, end_of_session, refusal_of_command
from .state import State
from .transaction import Transaction

_JUNK = frozenset(
    (Verb.NOOP, Verb.RSET, Verb.VRFY, Verb.EHLO, Verb.HELO, Verb.HELP, Verb.LHLO, Verb.XFORWARD)
)
# Looked at for each command; reading them off their classes every time would cost more than the
# comparison.
_READY = State.READY
_AUTH, _CONTENT, _CLOSED = State.AUTH, State.CONTENT, State.CLOSED
_BDAT = Verb.BDAT
_COMMAND, _NEED_MORE = frame.COMMAND, frame.NEED_MORE
_VERB_COUNT = len(Verb)
_SOFT_ERROR_DELAY_S = 1.0
# A command line that is too long is read to its end, if that comes soon: else for ever.
_UNENDED_OCTETS_MAX = 64 * 1024
_CLOSING = 421  # RFC 5321 3.8
_FIRST_NEGATIVE = 400  # RFC 5321 4.2.1: replies from here on are refusals


class Session:
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
        "_accepted", "_answered", "_asked", "_commands", "_errors", "_held", "_junk", "_out",
        "_output", "_stage", "_totals", "auth_failures", "client", "delay_s", "exchange",
        "forwarded", "framing", "front_helo", "front_port", "front_protocol", "has_quit",
        "has_wagered", "hook", "identity", "is_closing", "is_esmtp", "is_fronted", "is_pardoned",
        "is_pipelining", "is_starting_tls", "is_waiting", "large", "login", "mechanism",
        "messages", "parameters", "path", "peer_address", "peer_name", "peer_port", "ports",
        "quota", "received_prefix", "rights", "room_octets", "skipped_octets", "state", "tls",
        "transaction", "unended_octets",
    )  # fmt: skip

    def __init__(
        self,
        ports: Ports,
        address: str,
        name: str,
        output: Callable[[bytes], None],
        port: int = 0,
    ) -> None:
        settings = ports.settings
        self.ports = ports
        self.framing = Framing(settings.command_octets_max)
        self.transaction = Transaction()
        self.state = State.CONNECTED
        # Who the client is.
        # Of the socket; XCLIENT changes none of it.
        self.peer_address, self.peer_name, self.peer_port = address, name, port
        self.front_port: int | None = None
        self.front_helo: bytes | None = None  # what a front end said by XCLIENT
        self.front_protocol = ""
        self.is_fronted = False  # XCLIENT was said
        self.forwarded: XForward | None = None  # by XFORWARD, for the next message
        self.tls: TlsFacts | None = None
        self.is_esmtp = True
        self.is_pipelining = False  # EHLO has offered it
        self.become(address, name)
        # The content under way.
        self.large: LargeContent | None = None  # it goes to a file of its own
        self.room_octets = 0  # what this content has of the room for all
        # What the command under way was about, for hooks.
        self.path = b""
        self.parameters: tuple[tuple[bytes, bytes], ...] = ()
        self.hook: Hook | None = None if ports.hook is None else ports.hook(self)
        # Replies.
        self._output = output
        self._out: list[bytes] = []
        self._held = b""  # the reply to an error, until its penalty is over
        self._answered: Reply | None = None  # by somebody who was quicker than we
        self._asked = Verb.UNKNOWN  # the command whose reply is pending
        self.is_waiting = False  # for the end of a penalty, or for an answer that we owe
        self.is_closing = False
        self.has_quit = False  # it said QUIT, and nothing behind it
        self.is_starting_tls = False
        self.delay_s = 0.0
        # Counts.
        self._totals = [0] * _VERB_COUNT  # commands seen, by verb
        self._accepted = [0] * _VERB_COUNT  # of these, answered 2xx or 3xx
        self._stage = "CONNECT"
        self.has_wagered = False  # a failure is counted for the login under way
        self._errors = self._junk = self.messages = self.auth_failures = 0
        self.skipped_octets = 0  # of refused chunks since the last message
        self.unended_octets = 0  # of input since a command was complete; below 0: they are expected
        self.is_pardoned = False  # the refusal under way is not an error of the client
        self._choose_commands()

    def become(self, address: str, name: str, login: str = "") -> None:
        """From here on the client is that one (at the start, and by XCLIENT)."""
        self.client = f"{name}[{address}]"
        self.identity = ClientIdentity(address=address, name=name)
        self.received_prefix = b""
        self.login = login
        self.mechanism = ""
        self.exchange: Exchange | None = None
        self.judge()

    def judge(self) -> None:
        """What this client may do, by all that we know of it."""
        ports = self.ports
        address = self.identity.address
        # A front end's certificate says nothing of the client behind it.
        fingerprint = "" if self.tls is None or self.is_fronted else self.tls.fingerprint
        if self.login or fingerprint:
            self.rights = ports.policy.admit(address, self.login, fingerprint)
        else:
            self.rights = ports.policy.admit(address)
        self.quota = ports.quota
        if ports.quota is not None and not self.login and ports.quota.is_exempt(address):
            self.quota = None

    def _choose_commands(self) -> None:
        settings = self.ports.settings
        is_barred = settings.is_tls_required and self.tls is None
        self._commands: dict[State, tuple[Command, ...]] = commands_of(
            settings.is_lmtp, is_barred, settings.discarded
        )

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

    def receive(self, buffer: memoryview | bytes, count: int) -> bytes:
        """Take `count` octets of `buffer` (used only during the call); return replies to write."""
        self.framing.feed(buffer, count)
        self.unended_octets += count
        return self._advance()

    def resume(self) -> bytes:
        """Go on after `delay_s` with the reply that was held back; return replies to write."""
        self.delay_s = 0.0
        self.is_waiting = False
        if self._held:
            self._out.append(self._held)
            self._held = b""
        return self._advance()

    def tls_started(self, facts: TlsFacts) -> None:
        """The handshake is done: all that was said in clear is forgotten (RFC 3207 4.2)."""
        assert not self.framing.buffered(), "octets from before TLS"
        self.reset()
        self.is_starting_tls = self.is_waiting = False
        self.tls = facts
        self.front_helo, self.front_protocol, self.front_port = None, "", None
        self.forwarded, self.is_fronted = None, False
        self.become(self.peer_address, self.peer_name)
        self.state = State.CONNECTED
        self.is_pipelining = False
        self._choose_commands()
        if self.hook is not None:
            self.hook.tls_started(facts)
        self.ports.emit(TlsStarted(self.client, facts))

    def refuse(self, reply: Reply) -> bytes:
        """End the session with `reply` (421 of a time limit or a shutdown) at any point."""
        self.close(reply)
        return self._take_out()

    def ended(self, reason: str) -> ClientDisconnected:
        """The connection is gone: what is to be said about it. An open transaction is dropped."""
        in_content = self.state is State.CONTENT
        octets = self.framing.content_size if in_content else -1
        login.cancel(self)
        if self.hook is not None:
            self.hook.ended()
        if self.state is not State.COMMITTING:  # else it takes its room until it is stored
            self.reset()
        self.state = State.CLOSED
        self.is_closing = True
        counts = list(zip(self._accepted, self._totals, strict=True))
        return end_of_session(self.client, counts, reason, self._stage, octets)

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

    @property
    def peer(self) -> tuple[str, int]:
        """Address and port of the client, as far as we know."""
        port = self.peer_port if self.front_port is None else self.front_port
        return self.identity.address, port

    @property
    def is_trusted(self) -> bool:
        """It may send to anyone."""
        return self.rights.is_trusted

    @property
    def is_known(self) -> bool:
        """It has logged in, or shown a certificate that we know."""
        return bool(self.login) or self.rights.is_known

    @property
    def hostname(self) -> str:
        """Our name."""
        return self.ports.settings.hostname

    @property
    def authenticate(self) -> Authenticate | None:
        """Who says what a login is worth."""
        if self.hook is not None and self.hook.authenticate is not None:
            return self.hook.authenticate
        return self.ports.authenticate

    def mechanisms(self) -> tuple[str, ...]:
        """What this client may log in with."""
        authenticate = self.authenticate
        if authenticate is None or not self.ports.settings.has_auth:
            return ()
        return authenticate.mechanisms(self.tls is not None)

    def _take_out(self) -> bytes:
        out = self._out
        octets = out[0] if len(out) == 1 else b"".join(out)
        out.clear()
        return octets

    def _advance(self) -> bytes:
        framing = self.framing
        while not self.is_waiting:
            state = self.state
            if state is _CONTENT:
                if framing.read_content() == _NEED_MORE:
                    reception.check_growth(self)
                    break
                self.unended_octets = 0
                reception.end(self)
                continue
            if state is _CLOSED:
                break
            status = framing.next_command()
            if status == _COMMAND:
                self.unended_octets = 0
                if state is _AUTH:
                    self._run(Verb.AUTH, login.respond)
                    continue
                verb = framing.verb
                # RFC 2920 3.1: nothing may follow where it was not offered, but a chunk its BDAT.
                if not self.is_pipelining and verb is not _BDAT and framing.buffered():
                    self._totals[verb] += 1
                    self.close(replies.R554_SYNCHRONIZATION)
                    break
                self._totals[verb] += 1
                self._stage = STAGES[verb]
                self._run(verb, self._commands[state][verb])
            elif status == _NEED_MORE:
                if self.unended_octets > _UNENDED_OCTETS_MAX:
                    login.cancel(self)
                    self.close(replies.r500_line_too_long(self.ports.settings.hostname))
                break
            else:
                self.unended_octets = 0
                self._broken_line(status)
        framing.keep_rest()
        return self._take_out()

    # Replies and errors.

    def _run(self, verb: Verb, command: Command) -> None:
        """Let a command answer, now or (None) later."""
        reply = command(self)
        if reply is not None and self.hook is not None and reply.code < _FIRST_NEGATIVE:
            reply = ask_hook(self, self.hook, verb, reply)
        if reply is None:
            reply = self.take_answer()
            if reply is None:
                if self.state is _CONTENT:  # a chunk that is still to be read answers BDAT
                    return
                self._asked = verb
                self.is_waiting = True
                return
        if reply.code < _FIRST_NEGATIVE and verb not in _JUNK:
            self._out.append(reply.octets)
            self._accepted[verb] += 1
        else:
            self._settle(verb, reply)

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
            self._settle(self._asked, reply)
        self._output(self._advance())

    def _settle(self, verb: int, reply: Reply) -> None:
        """Say it and count it."""
        self._out.append(reply.octets)
        if reply.code < _FIRST_NEGATIVE:
            self._accepted[verb] += 1
            if verb in _JUNK:
                self._junk += 1
                if self._junk > self.ports.settings.junk_commands_max:
                    self._count_error()
        elif self.is_pardoned:
            self.is_pardoned = False
        elif not self.is_closing:  # a last reply is neither held back nor followed by another
            self._count_error()

    def _broken_line(self, status: int) -> None:
        self._totals[Verb.UNKNOWN] += 1
        self._stage = "UNKNOWN"
        if status == frame.TOO_LONG:
            reply = replies.r500_line_too_long(self.ports.settings.hostname)
            if self.state is _AUTH:
                login.cancel(self)
                reply = replies.R500_RESPONSE_TOO_LONG
            self._out.append(reply.octets)
            self._count_error()
        else:  # a bare CR, a bare LF or a NUL: whoever sends it is not speaking SMTP
            self.close(replies.R500_BARE_CR_OR_LF)

    def _count_error(self) -> None:
        """The last reply in `_out` tells of an error."""
        self._errors += 1
        settings = self.ports.settings
        if self._errors >= settings.errors_hard:
            self.close(replies.r421_too_many_errors(settings.hostname))
        elif self._errors > settings.errors_soft:
            self.delay_s = _SOFT_ERROR_DELAY_S
            self.is_waiting = True
            self._held = self._out.pop()

    # For the commands.

    def spend(self, use: Use) -> bool:
        """Whether the client may have one more of it."""
        quota = self.quota
        return quota is None or quota.spend(use, self.identity.address, self.login)

    def refused(self, stage: str, reply: Reply, forward_path: bytes | None = None) -> Reply:
        """Report a refusal for policy or limits, and return its reply."""
        self.ports.emit(refusal_of_command(self, stage, reply, forward_path))
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
            ports.room.octets_expected -= expected
            ports.room.give(self.room_octets)
            self.room_octets = 0
        if transaction.chunk_count:
            self.framing.drop_content()
        transaction.reset()
        if self.hook is not None:
            self.hook.forget()

    def last(self, reply: Reply) -> Reply:
        """The session ends with `reply`, whatever was open; whoever asks for it writes it."""
        self.reset()
        if self._held:  # the reply to an error comes first, and its penalty is over
            self._out.append(self._held)
            self._held = b""
        self.delay_s = 0.0
        self.state = State.CLOSED
        self.is_closing = True
        return reply

    def close(self, reply: Reply) -> None:
        """Write `reply` and end."""
        self._out.append(self.last(reply).octets)

    def say(self, reply: Reply, count: int = 1) -> None:
        """A reply to content, `count` times; one that refuses is an error of the client."""
        self._out.append(reply.octets * count)
        if reply.code >= _FIRST_NEGATIVE:
            self._count_error()

    def accepted_chunk(self, reply: Reply) -> None:
        """A chunk of content is in; BDAT is what it answers."""
        self._accepted[Verb.BDAT] += 1
        self._out.append(reply.octets)

    def wait(self, state: State) -> None:
        """The content is whole: nothing is read before it has been answered."""
        self.state = state
        self.is_waiting = True

    def acknowledge(self, octets: bytes) -> None:
        """The answer to a content, durable or not; commands go on."""
        if self.transaction.is_last_chunk:
            self._accepted[Verb.BDAT] += 1
        self.reset()
        self.forwarded = None
        if self.state is _CLOSED:  # the client left meanwhile: it will not see our reply
            return
        self.messages += 1
        self._junk = self.skipped_octets = 0
        self.state = _READY
        self.is_waiting = False
        self._out.append(octets)
        self._output(self._advance() if self.framing.buffered() else self._take_out())

    def refuse_message(self, reply: Reply, count: int) -> None:
        """A hook's no to a whole message, once for each reply that is owed."""
        self.reset()
        if self.state is _CLOSED:
            return
        self.is_waiting = False
        if reply.code == _CLOSING:
            self._out.append(self.last(reply).octets * count)
        else:
            self.state = _READY
            self.say(reply, count)
        self._output(self._advance())

    def take_answer(self) -> Reply | None:
        """What was answered before anybody waited for it."""
        answered, self._answered = self._answered, None
        return answered

    def uncount(self, verb: Verb) -> None:
        """A positive reply to `verb` was not its last."""
        self._accepted[verb] -= 1

    def set_stage(self, stage: str) -> None:
        """Where the session is, for the log line at its end."""
        self._stage = stage

    def wake(self) -> None:
        """Somebody who was behind has caught up: read on."""
        self._output(b"")
