"""The client's half of an SMTP session, without I/O: octets in, octets and verdicts out.

The table at the end of this file is the protocol: what a state waits for, how long, how a failure
in it is told, and who reads a reply in it. Only this file changes `state`.

    GREETING -> EHLO -> [HELO ->] IDLE -> ENVELOPE -> CONTENT -> IDLE ... QUIT -> CLOSED
                                              `-> EMPTY -> IDLE

In ENVELOPE replies are counted: RSET (only if the last transaction was left open), MAIL, each RCPT,
DATA. With PIPELINING all of them leave in one flight (RFC 2920 3.1), without it each follows the
reply before it. EMPTY is the lone dot that RFC 2920 3.1 asks for when DATA was granted though no
recipient was.

Laws. A reply counts once, in order, and only for a command that has left. Octets beyond the last
reply owed close the session; a verdict that was complete before them stands. A 421 ends the session
wherever it comes. Every transaction that begins ends with an outcome for each recipient.
"""

from __future__ import annotations

from collections.abc import Callable
from operator import attrgetter
from typing import Final, NamedTuple

from fastmta.message import Outcome, OutcomeKind, Scope
from fastmta.smtp import Reply, ReplyReader
from fastmta.smtp.extension import NO_EXTENSIONS, parse_extensions

from . import trouble
from .command import DATA, RSET, encode_flight, encode_mail, encode_rcpt
from .memory import grants, plain_acceptance, remember_grant
from .options import DeliveryOptions, TimeLimits
from .state import State, Step
from .transaction import Transaction
from .trouble import CLOSING, Peer

DELIVERED: Final = OutcomeKind.DELIVERED

_known: dict[bytes, Reply] = {}  # bounded by the readers that share it


# Places in the order of replies within ENVELOPE: RSET, MAIL, then RCPT from 1 on, then DATA.
_RSET: Final = -1
_MAIL: Final = 0

_TOO_MUCH: Final = "octets beyond the last reply"


class Dialog:
    """One session. Every method answers at once; `output` is then to be written and cleared."""

    __slots__ = (
        "_due",
        "_extensions",
        "_hostname",
        "_is_open_transaction",
        "_limits",
        "_peer",
        "_reader",
        "is_feeding",
        "is_stale",
        "output",
        "state",
        "transaction",
        "trouble",
    )

    def __init__(self, peer: Peer, options: DeliveryOptions) -> None:
        self.state = State.GREETING
        self.output: list[bytes] = []
        self.transaction: Transaction | None = None
        self.trouble: Outcome | None = None
        self.is_feeding = False  # content is still to come, by `feed` and then `fed`
        self.is_stale = False  # it ended before it answered MAIL: a fresh one may do better
        self._peer = peer
        self._hostname = options.hostname.encode("ascii")
        self._limits = options.time_limits
        self._extensions = NO_EXTENSIONS
        self._reader = ReplyReader(_known)
        self._due = _MAIL  # the reply that ENVELOPE waits for
        self._is_open_transaction = False  # MAIL was accepted and nothing has ended it

    @property
    def time_limit_s(self) -> float:
        """How long the present state may last."""
        if self.state is State.ENVELOPE:
            if self._due <= _MAIL:
                return self._limits.mail_s
            return self._limits.rcpt_s if self._due < self._data_place else self._limits.data_s
        return _TABLE[self.state].time_limit_s(self._limits)

    @property
    def stage(self) -> str:
        """The present state as texts for humans name it: `sending RCPT TO`."""
        if self.state is State.ENVELOPE:
            if self._due <= _MAIL:
                return "sending MAIL FROM"
            return "sending RCPT TO" if self._due < self._data_place else "sending DATA command"
        return _TABLE[self.state].stage

    @property
    def _data_place(self) -> int:
        assert self.transaction is not None
        return len(self.transaction.forward_paths) + 1

    # What the holder says.

    def begin(self, transaction: Transaction) -> Step:
        """Start `transaction`. DONE at once when EHLO's reply already decides about all of it."""
        assert self.state is State.IDLE
        assert not self.output
        self.transaction = transaction
        size_max = self._extensions.size
        if size_max and transaction.size_octets > size_max:
            transaction.decide_rest(trouble.too_big(self._peer, transaction.size_octets, size_max))
            return Step.DONE
        if transaction.extras is not None and self._withhold(transaction):
            return Step.DONE
        self.state = State.ENVELOPE
        self._due = _RSET if self._is_open_transaction else _MAIL
        if self._extensions.pipelining:
            flight = encode_flight(transaction, self._extensions)
            self.output += (RSET, flight) if self._is_open_transaction else (flight,)
        else:
            self._send_due()
        return Step.WAIT

    def receive(self, octets: bytes, is_content_unsent: bool = False) -> Step:
        """Take what the server sent. It may come before all of the content has left."""
        if not self._reader.buffered():  # the two reads that nearly every message is made of
            if self.state is State.CONTENT and not is_content_unsent:
                text = plain_acceptance(octets)
                if text:
                    return self._accept("2.0.0", text)
            elif self.state is State.ENVELOPE and self._due == _MAIL:
                if grants.get(octets) == self._data_place - 1 and self._extensions.pipelining:
                    return self._send_content()
                return self._receive_flight(octets)
            elif self.state is State.IDLE:
                return self._receive_unasked()
        return self._receive_replies(octets, is_content_unsent)

    def lose(self, is_content_unsent: bool = False) -> Step:
        """The connection is gone."""
        self.is_stale = self.state is State.ENVELOPE and self._due <= _MAIL
        return self._break(trouble.lost, is_content_unsent)

    def give_up(self, is_content_unsent: bool = False) -> Step:
        """The time limit of the present state has passed."""
        return self._break(trouble.timed_out, is_content_unsent)

    def interrupt(self) -> Step:
        """We stop, whatever the state."""
        return self._fail(trouble.shut_down())

    def quit(self) -> None:
        """Say goodbye; the answer does not matter."""
        assert self.state is State.IDLE
        self.state = State.QUIT
        self.output.append(b"QUIT\r\n")

    def fed(self) -> Step:
        """All of a large content has been written: this ends it."""
        assert self.is_feeding
        self.is_feeding = False
        self.output.append(b".\r\n")
        return Step.WAIT

    def break_feed(self) -> Step:
        """The rest of a large content cannot be sent; without its end the peer forgets it."""
        assert self.transaction is not None
        step = self._fail(trouble.unreadable())
        self.transaction.trouble = None  # the host is not to blame
        return step

    # Reading.

    def _receive_flight(self, octets: bytes) -> Step:
        """The first octets after MAIL. If they grant everything, that is remembered."""
        step = self._receive_replies(octets, False)
        if self.state is State.CONTENT and not self._reader.buffered():
            transaction = self.transaction
            assert transaction is not None
            if transaction.undecided == len(transaction.forward_paths):
                remember_grant(octets, transaction.undecided)
        return step

    def _receive_replies(self, octets: bytes, is_content_unsent: bool) -> Step:
        step = Step.WAIT
        is_too_much = False
        for reply in self._reader.feed(octets):
            if step is not Step.WAIT:
                is_too_much = True
                break
            if self.output or (is_content_unsent and self.state is State.CONTENT):
                step = self._receive_early(reply)
            else:
                step = _TABLE[self.state].read(self, reply)
        if self._reader.problem is not None and step is Step.WAIT:
            detail = f"{self._reader.problem.value}: {self._reader.garbage}"
            outcome = trouble.broke_protocol(self._peer, self.stage, detail)
            return self._fail(outcome, is_in_doubt=not is_content_unsent)
        if step is Step.WAIT:
            if self.output and self._reader.buffered():  # the beginning of an early reply
                return self._fail(trouble.broke_protocol(self._peer, self.stage, _TOO_MUCH))
            return step
        if is_too_much or self._reader.problem is not None or self._reader.buffered():
            return self._close_after(step)
        return step

    def _receive_unasked(self) -> Step:
        """Nobody asked: most often 421 before the server closes an idle session."""
        self.state = State.CLOSED
        return Step.CLOSED

    def _receive_early(self, reply: Reply) -> Step:
        """A reply to a command that has not left: only a refusal of the content can be meant."""
        if self.state is State.CONTENT and not reply.is_positive:
            self.output.clear()
            return self._close_after(self._read_content(reply))
        return self._fail(
            trouble.broke_protocol(self._peer, self.stage, f"unexpected reply: {reply.text}")
        )

    def _read_greeting(self, reply: Reply) -> Step:
        if reply.code // 100 != 2:
            return self._fail(trouble.refused_greeting(self._peer, reply))
        self.state = State.EHLO
        self.output.append(b"EHLO %b\r\n" % self._hostname)
        return Step.WAIT

    def _read_ehlo(self, reply: Reply) -> Step:
        if reply.code == CLOSING:
            return self._fail(trouble.refused_helo(self._peer, reply))
        if reply.code // 100 != 2:
            self.state = State.HELO
            self.output.append(b"HELO %b\r\n" % self._hostname)
            return Step.WAIT
        self._extensions = parse_extensions(reply)
        self.state = State.IDLE
        return Step.READY

    def _read_helo(self, reply: Reply) -> Step:
        if reply.code // 100 != 2:
            return self._fail(trouble.refused_helo(self._peer, reply))
        self.state = State.IDLE
        return Step.READY

    def _read_envelope(self, reply: Reply) -> Step:
        transaction = self.transaction
        assert transaction is not None
        due = self._due
        code = reply.code
        if code == CLOSING:
            self.is_stale = due <= _MAIL
            return self._fail(trouble.said(self._peer, reply, self._command))
        if due == len(transaction.forward_paths) + 1:
            return self._read_data(transaction, reply)
        if 200 <= code < 300:
            if due == _MAIL:
                self._is_open_transaction = True
        elif due > _MAIL:
            if transaction.outcomes[due - 1] is None:
                transaction.decide(due - 1, trouble.said(self._peer, reply, "RCPT TO command"))
        elif due == _MAIL:
            transaction.decide_rest(trouble.said(self._peer, reply, "MAIL FROM command"))
        else:  # a server that cannot reset cannot be trusted with another message
            self.is_stale = True
            return self._fail(trouble.broke_protocol(self._peer, "sending RSET", reply.text))
        self._due = due + 1
        if self._extensions.pipelining:
            return Step.WAIT
        if not transaction.undecided:
            return self._finish()
        self._send_due()
        return Step.WAIT

    def _read_data(self, transaction: Transaction, reply: Reply) -> Step:
        if not reply.is_intermediate:
            if transaction.undecided:
                transaction.decide_rest(trouble.said(self._peer, reply, "DATA command"))
            step = self._finish()
            # 2xx to DATA: nobody knows what this server takes the next octets for.
            return self._close_after(step) if reply.is_positive else step
        if transaction.undecided:
            return self._send_content()
        self.state = State.EMPTY
        self.output.append(b".\r\n")
        return Step.WAIT

    def _read_content(self, reply: Reply) -> Step:
        transaction = self.transaction
        assert transaction is not None
        if 200 <= reply.code < 300:
            return self._accept(reply.enhanced_status or "2.0.0", reply.text)
        outcome = trouble.said(self._peer, reply, "end of DATA command")
        if reply.code == CLOSING:
            return self._fail(outcome)
        transaction.decide_rest(outcome)
        self._is_open_transaction = False
        step = self._finish()
        return self._close_after(step) if reply.is_positive else step

    def _accept(self, status: str, text: str) -> Step:
        """The content is the server's."""
        transaction = self.transaction
        assert transaction is not None
        transaction.decide_rest(
            Outcome(DELIVERED, status, text, Scope.RECIPIENT, self._peer.relay, text)
        )
        self._is_open_transaction = False
        return self._finish()

    def _read_empty(self, reply: Reply) -> Step:
        """Whatever it says to a message without recipients, the transaction is over."""
        if reply.code == CLOSING:
            self.state = State.CLOSED
            return Step.DONE
        self._is_open_transaction = False
        return self._finish()

    def _read_quit(self, reply: Reply) -> Step:
        self.state = State.CLOSED
        return Step.CLOSED

    # Sending.

    def _withhold(self, transaction: Transaction) -> bool:
        """Decide what needs SMTPUTF8 at a server without it; True when that leaves nothing to send.

        A message that turns out to be plain ASCII is sent without (RFC 6531 3.2).
        """
        extras = transaction.extras
        assert extras is not None
        if not extras.is_utf8 or self._extensions.smtputf8:
            return False
        if not (transaction.reverse_path.isascii() and transaction.has_ascii_header):
            transaction.decide_rest(trouble.needs_utf8(self._peer, Scope.TRANSACTION))
            return True
        paths = transaction.forward_paths
        places = [place for place, path in enumerate(paths) if not path.isascii()]
        if places:
            outcome = trouble.needs_utf8(self._peer, Scope.RECIPIENT)
            if len(places) == len(paths):
                transaction.decide_rest(outcome)
                return True
            transaction.withhold(places, outcome)
        return False

    def _send_content(self) -> Step:
        """DATA was granted."""
        transaction = self.transaction
        assert transaction is not None
        self._is_open_transaction = True
        self.state = State.CONTENT
        if transaction.source is None:
            self.output += (transaction.content, b".\r\n")
        else:
            self.is_feeding = True
        return Step.WAIT

    def _send_due(self) -> None:
        """Without PIPELINING: the one command whose reply is due next."""
        transaction = self.transaction
        assert transaction is not None
        due = self._due
        if due == _RSET:
            self.output.append(RSET)
        elif due == _MAIL:
            self.output.append(encode_mail(transaction, self._extensions))
        elif due < self._data_place:
            self.output.append(encode_rcpt(transaction, due - 1, self._extensions))
        else:
            self.output.append(DATA)

    # Ending.

    @property
    def _command(self) -> str:
        if self._due <= _MAIL:
            return "MAIL FROM command"
        return "RCPT TO command" if self._due < self._data_place else "DATA command"

    def _finish(self) -> Step:
        """The transaction is over and the session lives."""
        assert self.transaction is not None
        assert self.transaction.undecided == 0
        self.state = State.IDLE
        return Step.DONE

    def _close_after(self, step: Step) -> Step:
        """`step` stands, but the session ends with it. READY does not: nothing can follow."""
        if step is Step.READY:
            return self._fail(
                trouble.broke_protocol(self._peer, "performing the EHLO handshake", _TOO_MUCH)
            )
        self.state = State.CLOSED
        self.output.clear()
        return step

    def _break(self, told: Callable[[Peer, str], Outcome], is_content_unsent: bool) -> Step:
        if self.state >= State.QUIT or self.state is State.IDLE:
            self.state = State.CLOSED
            return Step.CLOSED
        is_in_content = is_content_unsent and self.state is State.CONTENT
        stage = "sending message body" if is_in_content else self.stage
        return self._fail(told(self._peer, stage), is_in_doubt=not is_content_unsent)

    def _fail(self, outcome: Outcome, is_in_doubt: bool = False) -> Step:
        """The session is over; who has no outcome yet gets this one.

        `is_in_doubt`: if content was sent, the peer has all of it and perhaps keeps it.
        """
        transaction = self.transaction if State.ENVELOPE <= self.state <= State.EMPTY else None
        is_in_doubt = is_in_doubt and self.state is State.CONTENT
        self.state = State.CLOSED
        self.output.clear()
        self.trouble = outcome
        if transaction is None:
            return Step.CLOSED
        if transaction.undecided:
            transaction.decide_rest(trouble.in_doubt(outcome) if is_in_doubt else outcome)
            transaction.trouble = outcome
        return Step.DONE


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
    State.ENVELOPE: _Row("sending MAIL FROM", attrgetter("mail_s"), Dialog._read_envelope),
    State.CONTENT: _Row(
        "sending end of data -- message may be sent more than once",
        attrgetter("end_of_data_s"),
        Dialog._read_content,
    ),
    State.EMPTY: _Row("sending end of data", attrgetter("end_of_data_s"), Dialog._read_empty),
    State.QUIT: _Row("sending QUIT", attrgetter("quit_s"), Dialog._read_quit),
}
