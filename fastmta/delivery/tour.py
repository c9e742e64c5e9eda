"""The tour of an attempt: from one target of its site to the next, a connection to each.

A failure that is not final goes on to the next target, up to five addresses and two sessions that
reached a transaction.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import monotonic

from fastmta.event import Event, Notice, Severity
from fastmta.message import Outcome
from fastmta.route import Target
from fastmta.route.hop import parse_next_hop
from fastmta.route.way import TlsLevel, Way

from . import trouble
from .account import Account
from .attempt import Attempt
from .connection import Connection, Owner
from .opener import hosts_in_clear, open_connection
from .options import DeliveryOptions
from .ports import CourierPorts
from .secure import Scratch

NOWHERE = "none"  # `Outcome.remote` of a connection that did not come about


class Tour:
    """Opens connections for attempts, one task each; `owner` hears of what becomes of them."""

    __slots__ = (
        "_account",
        "_emit",
        "_in_clear",
        "_left",
        "_loop",
        "_options",
        "_owner",
        "_ports",
        "_scratch",
        "_tasks",
        "is_closing",
    )

    def __init__(
        self,
        options: DeliveryOptions,
        ports: CourierPorts,
        owner: Owner,
        account: Account,
        emit: Callable[[Event], None],
        loop: asyncio.AbstractEventLoop,
        left: Callable[[], None],
    ) -> None:
        """`left`: one connection less is being opened."""
        self._options = options
        self._ports = ports
        self._owner = owner
        self._account = account
        self._emit = emit
        self._loop = loop
        self._left = left
        self._scratch = Scratch() if ports.contexts is not None else None
        self._in_clear = hosts_in_clear()
        self._tasks: set[asyncio.Task[None]] = set()  # each opens one connection
        self.is_closing = False

    def __len__(self) -> int:
        return len(self._tasks)

    def renew(self, options: DeliveryOptions, ports: CourierPorts) -> None:
        """Open connections by these from now on."""
        self._options = options
        self._ports = ports
        if self._scratch is None and ports.contexts is not None:
            self._scratch = Scratch()

    def set_out(self, attempt: Attempt) -> None:
        """To the first target of the site."""
        target = self._next_target(attempt)
        if target is None:
            self._account.interrupt(attempt)
        else:
            self.go_to(attempt, target)

    def go_on(self, attempt: Attempt, is_deferred: bool, why: Outcome | None = None) -> None:
        """To the next target if recipients are left for it, else the attempt is over.

        `why` the present one is left; None: for what it said of the first that is open.
        """
        if is_deferred and attempt.session_count < self._options.sessions_per_attempt_max:
            target = self._next_target(attempt)
            if target is not None:
                assert attempt.outcomes is not None
                assert attempt.places
                why = why or attempt.outcomes[attempt.places[0]]
                assert why is not None
                if not _is_unreached(why):  # that has its line
                    self._emit(Notice("smtp", why.text, Severity.INFO, attempt.job.message.id))
                self.go_to(attempt, target)
                return
        self._account.finish(attempt)

    def has_more(self, attempt: Attempt) -> bool:
        """Whether `go_on` would open another session."""
        if self.is_closing or attempt.session_count >= self._options.sessions_per_attempt_max:
            return False
        return attempt.has_target(self._options.addresses_per_attempt_max)

    def leave(self, attempt: Attempt, outcome: Outcome) -> None:
        """No transaction came about at the present target."""
        attempt.trouble = outcome
        if _is_unreached(outcome):
            self._emit(Notice("smtp", outcome.text))
        attempt.begun_s = monotonic()  # all the time until now was that of connecting
        attempt.connect_s = attempt.begun_s - attempt.started_s
        try:
            self.go_on(attempt, attempt.take_for_all(outcome), outcome)
        except Exception as error:
            self._account.break_off(attempt, error)

    def go_to(self, attempt: Attempt, target: Target) -> None:
        """Begin to open a connection."""
        way = attempt.way_to(target)
        is_clear = _may_be_in_clear(way, attempt) and self._in_clear.has(
            monotonic(), attempt.site.key, target.host
        )
        connection = Connection(
            target,
            self._options,
            self._owner,
            way,
            self._ports,
            scratch=self._scratch,
            is_clear=is_clear,
        )
        connection.names = tuple([one.host for one in parse_next_hop(attempt.job.next_hop)])
        connection.attempt = attempt
        task = self._loop.create_task(self._open(attempt, connection))
        self._tasks.add(task)
        task.add_done_callback(self._forget_task)

    def again_in_clear(self, connection: Connection, attempt: Attempt, outcome: Outcome) -> bool:
        """TLS failed: if it was only wished for, go to the same target without, for a while."""
        if self.is_closing or not _may_be_in_clear(connection.way, attempt):
            return False
        self._in_clear.add(monotonic(), attempt.site.key, connection.target.host)
        text = f"{outcome.text}; trying without TLS"
        self._emit(Notice("smtp", text, Severity.INFO, attempt.job.message.id))
        self.go_to(attempt, connection.target)
        return True

    def interrupt(self) -> None:
        """Break off every connection that is being opened."""
        for task in list(self._tasks):
            task.cancel()

    def _next_target(self, attempt: Attempt) -> Target | None:
        if self.is_closing:
            return None
        return attempt.next_target(self._options.addresses_per_attempt_max)

    async def _open(self, attempt: Attempt, connection: Connection) -> None:
        try:
            outcome = await open_connection(connection, self._options, self._ports, self._loop)
        except asyncio.CancelledError:
            if _detach(connection):
                self._account.interrupt(attempt)
            raise
        except Exception as error:
            if _detach(connection):
                self._account.break_off(attempt, error)
            return
        if outcome is not None and _detach(connection):
            self.leave(attempt, outcome)

    def _forget_task(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._left()


def _may_be_in_clear(way: Way, attempt: Attempt) -> bool:
    """Whether TLS is only a wish there. A login or REQUIRETLS (RFC 8689) makes it more."""
    return (
        way.tls.level is TlsLevel.MAY
        and not way.tls.is_implicit
        and not way.credentials
        and not attempt.job.message.envelope.is_tls_required
    )


def _is_unreached(outcome: Outcome) -> bool:
    """Whether there was nobody to talk to: Postfix logs that by itself, of no message."""
    return outcome.status == trouble.UNREACHED and outcome.remote == NOWHERE


def _detach(connection: Connection) -> bool:
    """Give up on opening it; False when its session has already ended the attempt's stay."""
    is_waiting = connection.attempt is not None
    connection.attempt = None
    connection.abort()
    return is_waiting
