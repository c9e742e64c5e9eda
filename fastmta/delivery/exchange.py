"""One transaction on the wire: MAIL, RCPT, DATA, the content, and what is answered.

With CHUNKING, where that is wanted, BDAT and the content follow the last reply to RCPT instead of
DATA (RFC 3030 2). LMTP answers a content once for each recipient that it had accepted (RFC 2033
4.2): those are read in REPORTS, which otherwise is CONTENT.

In ENVELOPE replies are counted: RSET (only if the last transaction was left open), MAIL, each RCPT,
DATA. With PIPELINING all of them leave in one flight (RFC 2920 3.1), without it each follows the
reply before it. EMPTY is the lone dot that RFC 2920 3.1 asks for when DATA was granted though no
recipient was.

The transaction of a probe has RSET in the place of DATA: what RCPT is answered is the outcome.
"""

from __future__ import annotations

from typing import Final

import msgspec

from fastmta.message import Outcome, OutcomeKind, Scope
from fastmta.route.way import DEFAULT_WAY, Way
from fastmta.smtp import Reply

from . import trouble
from .command import DATA, RSET, encode_chunk, encode_flight, encode_mail, encode_rcpt
from .handshake import Handshake
from .options import DeliveryOptions
from .state import State, Step
from .transaction import Transaction
from .trouble import CLOSING, Peer

DELIVERED: Final = OutcomeKind.DELIVERED

# Places in the order of replies within ENVELOPE: RSET, MAIL, then RCPT from 1 on, then DATA.
RSET_PLACE: Final = -1
MAIL_PLACE: Final = 0
# Looked at for each message; reading them off their classes every time costs more than that.
_IDLE, _ENVELOPE = State.IDLE, State.ENVELOPE
_WAIT, _DONE = Step.WAIT, Step.DONE
_RECIPIENT = Scope.RECIPIENT


class Exchange(Handshake):
    """From MAIL to the reply after end of data."""

    __slots__ = ("_content_state", "_due", "is_feeding")

    def __init__(
        self, peer: Peer, options: DeliveryOptions, way: Way = DEFAULT_WAY, is_clear: bool = False
    ) -> None:
        super().__init__(peer, options, way, is_clear)
        self._content_state = State.REPORTS if way.transport == "lmtp" else State.CONTENT
        self.is_feeding = False  # content is still to come, by `feed` and then `fed`
        self._due = MAIL_PLACE  # the reply that ENVELOPE waits for

    def begin(self, transaction: Transaction) -> Step:
        """Start `transaction`. DONE at once when EHLO's reply already decides about all of it."""
        assert self.state is _IDLE
        assert not self.output
        self.transaction = transaction
        extensions = self._extensions
        size_max = extensions.size
        if size_max and transaction.size_octets > size_max:
            transaction.decide_rest(trouble.too_big(self._peer, transaction.size_octets, size_max))
            return Step.DONE
        if transaction.extras is not None and self._withhold(transaction):
            return Step.DONE
        self.state = _ENVELOPE
        self._due = RSET_PLACE if self._is_open_transaction else MAIL_PLACE
        if self._is_pipelining:
            flight = encode_flight(transaction, extensions)
            if self._is_chunked and self._is_chunk:
                flight = flight.removesuffix(DATA)
            if self._is_open_transaction:
                self.output.append(RSET)
            self.output.append(flight)
        else:
            self._send_due()
        return _WAIT

    def fed(self) -> Step:
        """All of a large content has been written: this ends it."""
        assert self.is_feeding
        self.is_feeding = False
        self.output.append(b".\r\n")
        return _WAIT

    def break_feed(self) -> Step:
        """The rest of a large content cannot be sent; without its end the peer forgets it."""
        assert self.transaction is not None
        step = self._fail(trouble.unreadable())
        self.transaction.trouble = None  # the host is not to blame
        return step

    @property
    def _data_place(self) -> int:
        assert self.transaction is not None
        return len(self.transaction.forward_paths) + 1

    @property
    def _is_probe(self) -> bool:
        return self.transaction is not None and self.transaction.is_probe

    @property
    def _command(self) -> str:
        if self._due <= MAIL_PLACE:
            return "MAIL FROM command"
        if self._due < self._data_place:
            return "RCPT TO command"
        return "RSET command" if self._is_probe else "DATA command"

    @property
    def _is_chunk(self) -> bool:
        """Whether the present content goes by BDAT."""
        transaction = self.transaction
        assert transaction is not None
        return self._is_chunked and transaction.source is None and not transaction.is_probe

    @property
    def _content_command(self) -> str:
        return "BDAT command" if self._is_chunk else "end of DATA command"

    def _read_envelope(self, reply: Reply) -> Step:
        transaction = self.transaction
        assert transaction is not None
        due = self._due
        code = reply.code
        if transaction.is_probe and due == self._data_place:
            return self._read_reset(reply)
        if code == CLOSING:
            self.is_stale = due <= MAIL_PLACE
            return self._fail(self._said(reply, self._command))
        if due == len(transaction.forward_paths) + 1:
            return self._read_data(transaction, reply)
        if 200 <= code < 300:
            if due == MAIL_PLACE:
                self._is_open_transaction = True
            elif transaction.is_probe and due > MAIL_PLACE and not transaction.outcomes[due - 1]:
                transaction.decide(due - 1, trouble.would_take(self._peer, reply))
        elif due > MAIL_PLACE:
            if transaction.outcomes[due - 1] is None:
                transaction.decide(due - 1, self._said(reply, "RCPT TO command", _RECIPIENT))
        elif due == MAIL_PLACE:
            transaction.decide_rest(self._said(reply, "MAIL FROM command"))
        else:  # a server that cannot reset cannot be trusted with another message
            self.is_stale = True
            return self._fail(trouble.broke_protocol(self._peer, "sending RSET", reply.text))
        self._due = due + 1
        if self._due == self._data_place and self._is_chunked and self._is_chunk:
            return self._send_chunk(transaction) if transaction.undecided else self._finish()
        if self._is_pipelining:
            return _WAIT
        # Behind a probe whose MAIL was accepted comes RSET, whatever RCPT was answered.
        if not (transaction.undecided or (transaction.is_probe and due > MAIL_PLACE)):
            return self._finish()
        self._send_due()
        return _WAIT

    def _said(self, reply: Reply, command: str, scope: Scope = Scope.TRANSACTION) -> Outcome:
        """What `reply` means. A signal (a throttle) is the path's trouble, not the mail's."""
        transaction = self.transaction
        assert transaction is not None
        outcome, ends_attempt = trouble.said(self._peer, reply, command, scope)
        if outcome.scope >= Scope.HOST and outcome.kind is OutcomeKind.DEFERRED:
            transaction.trouble = outcome
            transaction.ends_attempt = transaction.ends_attempt or ends_attempt
        return outcome

    def _read_reset(self, reply: Reply) -> Step:
        """The end of a probe; its outcomes stand, whatever this says."""
        step = self._finish()
        if not 200 <= reply.code < 300:  # it cannot be trusted with another message
            return self._close_after(step)
        self._is_open_transaction = False
        return step

    def _read_data(self, transaction: Transaction, reply: Reply) -> Step:
        if not reply.is_intermediate:
            if transaction.undecided:
                transaction.decide_rest(self._said(reply, "DATA command"))
            step = self._finish()
            # 2xx to DATA: nobody knows what this server takes the next octets for.
            return self._close_after(step) if reply.is_positive else step
        if transaction.undecided:
            return self._send_content()
        if self._content_state is State.REPORTS:  # nobody is accepted, so no reply would follow
            return self._close_after(self._finish())
        self.state = State.EMPTY
        self.output.append(b".\r\n")
        return _WAIT

    def _read_content(self, reply: Reply) -> Step:
        transaction = self.transaction
        assert transaction is not None
        if 200 <= reply.code < 300:
            return self._accept(reply.enhanced_status or "2.0.0", reply.text)
        outcome = self._said(reply, self._content_command)
        if reply.code == CLOSING:
            return self._fail(outcome)
        transaction.decide_rest(outcome)
        # After a refused chunk only RSET says where the server is (RFC 3030 2).
        self._is_open_transaction = self._is_chunk
        step = self._finish()
        return self._close_after(step) if reply.is_positive else step

    def _accept(self, status: str, text: str) -> Step:
        """The content is the server's."""
        transaction = self.transaction
        assert transaction is not None
        outcome = Outcome(DELIVERED, status, text, _RECIPIENT, self._peer.relay, text)
        if transaction.extras is not None:
            self._note_relayed(transaction, outcome)
        transaction.decide_rest(outcome)
        self._is_open_transaction = False
        self.state = _IDLE
        return _DONE

    def _read_report(self, reply: Reply) -> Step:
        """LMTP: what became of the first recipient that waits for its reply."""
        transaction = self.transaction
        assert transaction is not None
        place = transaction.outcomes.index(None)
        if 200 <= reply.code < 300:
            text = reply.text
            status = reply.enhanced_status or "2.0.0"
            outcome = Outcome(DELIVERED, status, text, _RECIPIENT, self._peer.relay, text)
            if self._is_relayed(transaction, place):
                outcome = msgspec.structs.replace(outcome, is_relayed=True)
        else:
            outcome = self._said(reply, self._content_command, _RECIPIENT)
            if reply.code == CLOSING:
                return self._fail(outcome)
        transaction.decide(place, outcome)
        if reply.is_intermediate:
            return self._fail(trouble.broke_protocol(self._peer, self.stage, reply.text), True)
        if transaction.undecided:
            return _WAIT
        is_taken = all(one is not None and one.kind is DELIVERED for one in transaction.outcomes)
        self._is_open_transaction = self._is_chunk and not is_taken  # as in `_read_content`
        return self._finish()

    def _is_relayed(self, transaction: Transaction, place: int) -> bool:
        """Whether a report of success was asked for that this server will not send."""
        extras = transaction.extras
        if extras is None or extras.dsn is None or self._extensions.dsn:
            return False
        return "SUCCESS" in extras.dsn.notify_of(extras.indices[place]).split(",")

    def _note_relayed(self, transaction: Transaction, outcome: Outcome) -> None:
        relayed = msgspec.structs.replace(outcome, is_relayed=True)
        for place, decided in enumerate(transaction.outcomes):
            if decided is None and self._is_relayed(transaction, place):
                transaction.decide(place, relayed)

    def _read_empty(self, reply: Reply) -> Step:
        """Whatever it says to a message without recipients, the transaction is over."""
        if reply.code == CLOSING:
            self.state = State.CLOSED
            return Step.DONE
        self._is_open_transaction = False
        return self._finish()

    def _withhold(self, transaction: Transaction) -> bool:
        """Decide what needs REQUIRETLS or SMTPUTF8 at a server without; True when nothing is left.

        A message that turns out to be plain ASCII is sent without (RFC 6531 3.2).
        """
        extras = transaction.extras
        assert extras is not None
        if extras.is_tls_required and not (self.is_trusted and self._extensions.requiretls):
            transaction.decide_rest(trouble.needs_requiretls(self._peer))
            return True
        if not extras.is_utf8 or self._extensions.smtputf8:
            return False
        if not (transaction.reverse_path.isascii() and transaction.has_ascii_header):
            transaction.decide_rest(trouble.needs_utf8(self._peer, Scope.TRANSACTION))
            return True
        paths = transaction.forward_paths
        places = [place for place, path in enumerate(paths) if not path.isascii()]
        if places:
            outcome = trouble.needs_utf8(self._peer, _RECIPIENT)
            if len(places) == len(paths):
                transaction.decide_rest(outcome)
                return True
            transaction.withhold(places, outcome)
        return False

    def _send_content(self) -> Step:
        """DATA was granted."""
        transaction = self.transaction
        assert transaction is not None
        assert not transaction.is_probe
        self._is_open_transaction = True
        self.state = self._content_state
        if transaction.source is None:
            self.output += (transaction.content, b".\r\n")
        else:
            self.is_feeding = True
        return _WAIT

    def _send_chunk(self, transaction: Transaction) -> Step:
        """A recipient was accepted, and the server takes BDAT."""
        assert not transaction.is_probe
        self.state = self._content_state
        self.output += encode_chunk(transaction.content)
        return _WAIT

    def _send_due(self) -> None:
        """Without PIPELINING: the one command whose reply is due next."""
        transaction = self.transaction
        assert transaction is not None
        due = self._due
        if due == RSET_PLACE:
            self.output.append(RSET)
        elif due == MAIL_PLACE:
            self.output.append(encode_mail(transaction, self._extensions))
        elif due < self._data_place:
            self.output.append(encode_rcpt(transaction, due - 1, self._extensions))
        else:
            self.output.append(RSET if transaction.is_probe else DATA)
