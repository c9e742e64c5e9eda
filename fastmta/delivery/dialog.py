"""The client's half of an SMTP session, without I/O: octets in, octets and verdicts out.

The table at the end of this file is the protocol: what a state waits for, how long, how a failure
in it is told, and who reads a reply in it. The files that it is made of, each on top of the one
before: `ending`, `handshake`, `exchange`; nobody else changes `state`.

    [TLS ->] GREETING -> EHLO -> [HELO ->] [STARTTLS -> TLS -> EHLO ->] [CREDENTIAL -> AUTH ->] IDLE
    IDLE -> ENVELOPE -> CONTENT or REPORTS -> IDLE ... QUIT -> CLOSED
                |-> EMPTY -> IDLE
                `-> IDLE, a probe: RSET takes the place of DATA

Laws. A reply counts once, in order, and only for a command that has left. Octets beyond the last
reply owed close the session; a verdict that was complete before them stands. A 421 ends the session
wherever it comes. Every transaction that begins ends with an outcome for each recipient.
"""

from __future__ import annotations

from collections.abc import Callable
from operator import attrgetter
from typing import Final, NamedTuple

from fastmta.route.way import DEFAULT_WAY, Way
from fastmta.smtp import Reply

from . import trouble
from .ending import TOO_MUCH
from .exchange import MAIL_PLACE, Exchange
from .memory import grants, plain_acceptance, remember_grant
from .options import DeliveryOptions, TimeLimits
from .secrecy import hide, hide_in
from .state import State, Step
from .trouble import Peer

# Looked at for each message; reading them off their classes every time costs more than that.
_IDLE, _ENVELOPE, _CONTENT, _REPORTS = State.IDLE, State.ENVELOPE, State.CONTENT, State.REPORTS
_WAIT = Step.WAIT


class Dialog(Exchange):
    """One session. Every method answers at once; `output` is then to be written and cleared."""

    __slots__ = ("_limits", "has_read_nothing")

    def __init__(
        self, peer: Peer, options: DeliveryOptions, way: Way = DEFAULT_WAY, is_clear: bool = False
    ) -> None:
        super().__init__(peer, options, way, is_clear)
        self._limits = options.time_limits
        self.has_read_nothing = False  # what came last made no reply whole: no time is won by it

    @property
    def time_limit_s(self) -> float:
        """How long the present state may last."""
        if self.state is _ENVELOPE:
            if self._due <= MAIL_PLACE:
                return self._limits.mail_s
            if self._due < self._data_place:
                return self._limits.rcpt_s
            return self._limits.quit_s if self._is_probe else self._limits.data_s
        if self.state is _CONTENT:  # of nearly every message: without the look-up
            return self._limits.end_of_data_s
        return _TABLE[self.state].time_limit_s(self._limits)

    @property
    def stage(self) -> str:
        """The present state as texts for humans name it: `sending RCPT TO`."""
        if self.state is _ENVELOPE:
            if self._due <= MAIL_PLACE:
                return "sending MAIL FROM"
            if self._due < self._data_place:
                return "sending RCPT TO"
            return "sending RSET" if self._is_probe else "sending DATA command"
        return _TABLE[self.state].stage

    # What the holder says.

    def receive(self, octets: bytes, is_content_unsent: bool = False) -> Step:
        """Take what the server sent. It may come before all of the content has left."""
        if not self._reader.buffered():  # the two reads that nearly every message is made of
            if self.state is _CONTENT and not is_content_unsent:
                text = plain_acceptance(octets)
                if text:
                    if self._secrets:
                        text = hide(text, self._secrets)
                    return self._accept("2.0.0", text)
            elif self.state is _ENVELOPE and self._due == MAIL_PLACE:
                # One that is chunked answers no DATA: what is remembered is not for it.
                transaction = self.transaction
                assert transaction is not None
                if (
                    grants.get(octets) == len(transaction.forward_paths)
                    and self._is_pipelining
                    and not self._is_chunked
                    and not self._is_probe
                ):
                    return self._send_content()
                return self._receive_flight(octets)
            elif self.state is _IDLE:
                return self._receive_unasked()
        return self._receive_replies(octets, is_content_unsent)

    def lose(self, is_content_unsent: bool = False) -> Step:
        """The connection is gone."""
        self.is_stale = self.state is _ENVELOPE and self._due <= MAIL_PLACE
        return self._break(trouble.lost, is_content_unsent)

    def give_up(self, is_content_unsent: bool = False) -> Step:
        """The time limit of the present state has passed."""
        return self._break(trouble.timed_out, is_content_unsent)

    def interrupt(self, is_content_unsent: bool = False) -> Step:
        """We stop, whatever the state."""
        return self._fail(trouble.shut_down(), is_in_doubt=not is_content_unsent)

    def quit(self) -> None:
        """Say goodbye; the answer does not matter."""
        assert self.state is _IDLE
        self.state = State.QUIT
        self.output.append(b"QUIT\r\n")

    # Reading.

    def _receive_flight(self, octets: bytes) -> Step:
        """The first octets after MAIL. If they grant everything, that is remembered."""
        step = self._receive_replies(octets, False)
        if self._is_in_content and not self._is_chunked and not self._reader.buffered():
            transaction = self.transaction
            assert transaction is not None
            if transaction.undecided == len(transaction.forward_paths):
                remember_grant(octets, transaction.undecided)
        return step

    def _receive_replies(self, octets: bytes, is_content_unsent: bool) -> Step:
        step = _WAIT
        is_too_much = False
        replies = self._reader.feed(octets)
        self.has_read_nothing = not replies
        for reply in replies:
            if step is not _WAIT:
                is_too_much = True
                break
            # A challenge is for the mechanism, and no text is made of it.
            if self._secrets and not (self.state is State.AUTH and reply.is_intermediate):
                reply = hide_in(reply, self._secrets)  # as if it had come so
            if self.output or (is_content_unsent and self._is_in_content):
                step = self._receive_early(reply)
            else:
                step = _TABLE[self.state].read(self, reply)
        if self._reader.problem is not None and step is _WAIT:
            garbage = hide(self._reader.garbage, self._secrets)
            detail = f"{self._reader.problem.value}: {garbage}"
            outcome = trouble.broke_protocol(self._peer, self.stage, detail)
            return self._fail(outcome, is_in_doubt=not is_content_unsent)
        if step is _WAIT:
            if self.output and self._reader.buffered():  # the beginning of an early reply
                return self._fail(trouble.broke_protocol(self._peer, self.stage, TOO_MUCH))
            return step
        if is_too_much or self._reader.problem is not None or self._reader.buffered():
            return self._close_after(step)
        return step

    @property
    def _is_in_content(self) -> bool:
        return _CONTENT <= self.state <= _REPORTS

    def _receive_unasked(self) -> Step:
        """Nobody asked: most often 421 before the server closes an idle session."""
        self.state = State.CLOSED
        return Step.CLOSED

    def _receive_early(self, reply: Reply) -> Step:
        """A reply to a command that has not left: only a refusal of the content can be meant."""
        if self._is_in_content and not reply.is_positive:
            self.output.clear()
            return self._close_after(self._read_content(reply))
        return self._fail(
            trouble.broke_protocol(self._peer, self.stage, f"unexpected reply: {reply.text}")
        )

    def _read_too_early(self, reply: Reply) -> Step:
        """It is not the server's turn; most often it closes, because we take too long."""
        return self._fail(trouble.broke_protocol(self._peer, self.stage, reply.text))

    def _read_quit(self, reply: Reply) -> Step:
        self.state = State.CLOSED
        return Step.CLOSED


class _Row(NamedTuple):
    """One state of the table."""

    stage: str  # in texts
    time_limit_s: Callable[[TimeLimits], float]
    read: Callable[[Dialog, Reply], Step]


# IDLE and CLOSED read nothing and last as their holder likes; ENVELOPE's stage and limit are those
# of the reply due.
_TABLE: Final[dict[State, _Row]] = {
    State.GREETING: _Row(
        "receiving the initial server greeting",
        attrgetter("greeting_s"),
        Dialog._read_greeting,
    ),
    State.EHLO: _Row("performing the EHLO handshake", attrgetter("helo_s"), Dialog._read_ehlo),
    State.HELO: _Row("performing the HELO handshake", attrgetter("helo_s"), Dialog._read_helo),
    State.STARTTLS: _Row("sending STARTTLS", attrgetter("helo_s"), Dialog._read_starttls),
    State.TLS: _Row("performing the TLS handshake", attrgetter("tls_s"), Dialog._read_too_early),
    State.CREDENTIAL: _Row("preparing the login", attrgetter("helo_s"), Dialog._read_too_early),
    State.AUTH: _Row("performing SASL authentication", attrgetter("helo_s"), Dialog._read_auth),
    _ENVELOPE: _Row("sending MAIL FROM", attrgetter("mail_s"), Dialog._read_envelope),
    _CONTENT: _Row(
        "sending end of data -- message may be sent more than once",
        attrgetter("end_of_data_s"),
        Dialog._read_content,
    ),
    _REPORTS: _Row(
        "sending end of data -- message may be sent more than once",
        attrgetter("end_of_data_s"),
        Dialog._read_report,
    ),
    State.EMPTY: _Row("sending end of data", attrgetter("end_of_data_s"), Dialog._read_empty),
    State.QUIT: _Row("sending QUIT", attrgetter("quit_s"), Dialog._read_quit),
}
