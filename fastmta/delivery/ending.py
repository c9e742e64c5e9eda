"""How a transaction and a session end, whatever they were at; the ground of the dialog."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from fastmta.message import Outcome
from fastmta.smtp import ReplyReader
from fastmta.smtp.extension import NO_EXTENSIONS

from . import trouble
from .memory import known
from .options import DeliveryOptions
from .state import State, Step
from .transaction import Transaction
from .trouble import Peer

TOO_MUCH: Final = "octets beyond the last reply"
# Looked at for each message; reading them off their classes every time costs more than that.
_IDLE = State.IDLE
_DONE = Step.DONE


class Ending:
    """What a session holds, and how it ends."""

    __slots__ = (
        "_extensions",
        "_is_open_transaction",
        "_peer",
        "_reader",
        "is_stale",
        "is_tls_trouble",
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
        self.is_stale = False  # it ended before it answered MAIL: a fresh one may do better
        self.is_tls_trouble = False  # it ended for want of TLS: without, it may do better
        self._peer = peer
        self._extensions = NO_EXTENSIONS
        self._reader = ReplyReader(known)
        self._is_open_transaction = False  # MAIL was accepted and nothing has ended it

    @property
    def stage(self) -> str:
        """The present state as texts for humans name it: `sending RCPT TO`."""
        raise NotImplementedError

    def _finish(self) -> Step:
        """The transaction is over and the session lives."""
        assert self.transaction is not None
        assert self.transaction.undecided == 0
        self.state = _IDLE
        return _DONE

    def _close_after(self, step: Step) -> Step:
        """`step` stands, but the session ends with it. READY does not: nothing can follow.

        Neither does TLS: what came in clear must not be read as if it had been protected.
        """
        if step is Step.TLS:
            return self._fail(trouble.tls_injected(self._peer))
        if step in (Step.READY, Step.CREDENTIAL, Step.COMPUTE):
            return self._fail(
                trouble.broke_protocol(self._peer, "performing the EHLO handshake", TOO_MUCH)
            )
        self.state = State.CLOSED
        self.output.clear()
        return step

    def _break(self, told: Callable[[Peer, str], Outcome], is_content_unsent: bool) -> Step:
        self.is_tls_trouble = State.STARTTLS <= self.state <= State.TLS
        if self.state >= State.QUIT or self.state is _IDLE:
            self.state = State.CLOSED
            return Step.CLOSED
        is_in_content = is_content_unsent and State.CONTENT <= self.state <= State.REPORTS
        stage = "sending message body" if is_in_content else self.stage
        return self._fail(told(self._peer, stage), is_in_doubt=not is_content_unsent)

    def _fail(self, outcome: Outcome, is_in_doubt: bool = False) -> Step:
        """The session is over; who has no outcome yet gets this one.

        `is_in_doubt`: if content was sent, the peer has all of it and perhaps keeps it.
        """
        transaction = self.transaction if State.ENVELOPE <= self.state <= State.EMPTY else None
        is_in_doubt = is_in_doubt and State.CONTENT <= self.state <= State.REPORTS
        self.state = State.CLOSED
        self.output.clear()
        self.trouble = outcome
        if transaction is None:
            return Step.CLOSED
        if transaction.undecided:
            transaction.decide_rest(trouble.in_doubt(outcome) if is_in_doubt else outcome)
            transaction.trouble = outcome
        return _DONE
