"""The courier: takes a job to its site and brings back one outcome per recipient.

An idle session of the site is used if there is one. Otherwise, and for recipients that a server
deferred, the site's targets are tried in their order (`tour`). What the last one said is what the
recipients get, but a host's trouble does not undo what another said of them. A reused session that
turns out to be dead before it answered MAIL is replaced by a fresh one without anybody hearing of
it, once per attempt.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from time import monotonic

from fastmta.event import Event, Notice, Severity
from fastmta.message import Job, Message, Scope
from fastmta.route import Site
from fastmta.route.way import DEFAULT_WAY
from fastmta.smtp import stuff
from fastmta.smtp.content import LineEndError

from . import trouble
from .account import Account
from .alarm import Alarm
from .attempt import Attempt, Done
from .classify import Rules
from .connection import Connection
from .content import Contents
from .large import LargeContents
from .options import DeliveryOptions
from .pool import Pool
from .ports import NO_PORTS, CourierPorts, TlsSession
from .state import State
from .tour import Tour
from .transaction import Transaction

# Looked at for each message; reading them off their classes every time costs more than that.
_IDLE = State.IDLE


class Courier:
    """Delivers over SMTP. `start` promises exactly one call of `done`, never from within itself."""

    __slots__ = (
        "_account",
        "_alarm",
        "_drained",
        "_emit",
        "_is_closing",
        "_large",
        "_loop",
        "_options",
        "_pool",
        "_ports",
        "_tour",
    )

    def __init__(
        self,
        options: DeliveryOptions,
        emit: Callable[[Event], None],
        loop: asyncio.AbstractEventLoop,
        contents: Contents | None = None,
        ports: CourierPorts = NO_PORTS,
    ) -> None:
        """`contents` opens large contents; without it such a message is deferred."""
        self._options = options
        self._ports = ports
        self._emit = emit
        self._loop = loop
        self._pool = Pool(options, loop)
        self._account = Account(emit, loop)
        self._alarm = Alarm(emit)
        left = self._check_drained
        self._large = LargeContents(contents, self._account, self._use_a_session, left)
        self._tour = Tour(options, ports, self, self._account, emit, loop, left)
        self._is_closing = False
        self._drained: asyncio.Future[None] | None = None

    @property
    def connection_count(self) -> int:
        """Open connections, idle ones included."""
        return len(self._pool)

    @property
    def idle_count(self) -> int:
        """Sessions that wait for a message."""
        return self._pool.idle_count

    @property
    def running_count(self) -> int:
        """Attempts whose `done` is still owed."""
        return self._account.owed_count

    @property
    def rules(self) -> Rules | None:
        """What refusals mean to it; None: what their codes say."""
        return self._ports.rules

    def renew(self, options: DeliveryOptions, ports: CourierPorts) -> None:
        """Open sessions by these from now on; those that are open end when they idle."""
        self._options = options
        self._ports = ports
        self._tour.renew(options, ports)
        self._pool.renew(options, monotonic())

    def start(self, job: Job, site: Site, done: Done) -> None:
        """Begin one attempt; `done(job, result)` is called once, later. Never raises."""
        attempt = Attempt(job, site, done, monotonic())
        self._account.owed_count += 1
        try:
            if self._is_closing:
                self._account.interrupt(attempt)
            elif job.message.envelope.is_probe:  # whose content is for nobody
                self._use_a_session(attempt)
            elif job.message.file is not None:
                self._large.open(attempt, job.message.file)
            else:
                self._stuff(attempt, job.message)
        except Exception as error:
            self._account.break_off(attempt, error)
        attempt.is_starting = False

    def close_idle(self, site: Site, done: Callable[[], None]) -> None:
        """QUIT the idle sessions of `site`; `done` comes when they are closed, on a later turn."""
        self._pool.close_idle(site.key, done)

    async def close(self, deadline_s: float) -> None:
        """QUIT idle sessions, wait `deadline_s` seconds for running ones, then break them off."""
        self._is_closing = self._tour.is_closing = self._large.is_closing = True
        self._pool.quit_idle()
        await self._drain(deadline_s)
        self._large.interrupt()
        self._tour.interrupt()
        for connection in self._pool.open_connections():
            connection.interrupt()
        await self._drain(1.0)
        self._pool.stop_clock()

    # One attempt.

    def _stuff(self, attempt: Attempt, message: Message) -> None:
        """A content in memory, as it is sent."""
        if message.content is None:
            raise ValueError("a job without its content")
        try:
            attempt.content = stuff(message.content, self._options.line_octets_max)
        except LineEndError as error:
            text = f"content cannot be sent: {error}"
            self._emit(Notice("smtp", text, Severity.ERROR, message.id))
            self._account.settle(attempt, trouble.unsendable(str(error)))
            return
        self._use_a_session(attempt)

    def _use_a_session(self, attempt: Attempt) -> None:
        """An idle one of the site, or a new one."""
        site_key = attempt.site.key
        connection = self._pool.take(site_key, attempt.key)
        if connection is None:
            if self._pool.may_open(site_key) and not self._pool.make_room(site_key):
                self._tour.set_out(attempt)
            else:
                self._pool.wait(site_key, partial(self._try, attempt, self._use_a_session))
            return
        attempt.is_reusing = True
        attempt.used_target = connection.target
        self._begin(connection, attempt)

    def _try(self, attempt: Attempt, step: Callable[[Attempt], None]) -> None:
        """The next step of an attempt that had to wait."""
        try:
            step(attempt)
        except Exception as error:
            self._account.break_off(attempt, error)

    def _begin(self, connection: Connection, attempt: Attempt) -> None:
        connection.attempt = attempt
        attempt.session_count += 1
        attempt.begun_s = monotonic()
        try:
            transaction = attempt.next_transaction(connection.dialog.recipients_max)
            if connection.way is not DEFAULT_WAY and not transaction.reverse_path:
                transaction.reverse_path = connection.way.bounce_from
            connection.begin(transaction)
        except Exception as error:
            self.session_broke(connection, error)

    # What connections tell.

    def connection_made(self, connection: Connection) -> None:
        self._pool.add(connection)
        if connection.attempt is not None:
            connection.attempt.job.is_connected = True

    def session_secured(self, connection: Connection, tls: TlsSession) -> None:
        if self._options.is_tls_told:
            text = f"{tls.trust.value} TLS connection established to {connection.peer.relay}"
            self._emit(Notice("smtp", f"{text}: {tls.facts.text}"))

    def session_ready(self, connection: Connection) -> None:
        attempt = connection.attempt
        assert attempt is not None
        attempt.connect_s = monotonic() - attempt.started_s
        self._begin(connection, attempt)

    def transaction_done(self, connection: Connection) -> None:
        attempt, connection.attempt = connection.attempt, None
        assert attempt is not None
        try:
            self._take_transaction(connection, attempt)
        except Exception as error:
            self._account.break_off(attempt, error)

    def _take_transaction(self, connection: Connection, attempt: Attempt) -> None:
        dialog = connection.dialog
        transaction, dialog.transaction = dialog.transaction, None
        assert transaction is not None
        is_alive = dialog.state is _IDLE
        if not is_alive and dialog.is_stale and attempt.is_reusing and not self._is_closing:
            attempt.is_reusing = False
            attempt.used_target = None
            attempt.session_count -= 1
            attempt.rejoin()
            self._tour.set_out(attempt)
            return
        attempt.use_count = connection.use_count
        if transaction.trouble is None:
            attempt.has_completed = True
        else:
            attempt.trouble = transaction.trouble
        is_plain = transaction.extras is None
        outcomes = transaction.outcomes if is_plain else transaction.all_outcomes()
        is_open = attempt.take(outcomes)
        if is_alive and not (is_open or attempt.rest or attempt.passed):  # so it ends mostly
            self._keep(attempt, connection)
            self._account.finish(attempt)
            return
        count = attempt.set_aside(outcomes) if is_alive and is_open else 0
        if count:
            dialog.recipients_max = count  # of every transaction over this session
        if transaction.ends_attempt:
            attempt.spent_way = connection.way
        if attempt.rest is not None:
            self._go_on_with_rest(connection, attempt, transaction)
            return
        if attempt.passed:
            is_open = attempt.take_back()
        if is_alive and is_open and self._tour.has_more(attempt):
            self._leave_for(connection, attempt, partial(self._tour.go_on, is_deferred=True))
            return
        if is_alive:
            self._keep(attempt, connection)
        self._tour.go_on(attempt, is_open)

    def _leave_for(
        self, connection: Connection, attempt: Attempt, step: Callable[[Attempt], None]
    ) -> None:
        """Close a session before `step` opens another one, which would be one more than allowed."""
        self._pool.leave(attempt.site.key, connection)
        self._pool.wait(attempt.site.key, partial(self._try, attempt, step))

    def _go_on_with_rest(
        self, connection: Connection, attempt: Attempt, transaction: Transaction
    ) -> None:
        """The server takes so many recipients at a time (RFC 9422 4.2): now the next ones."""
        is_alive = connection.dialog.state is _IDLE
        attempt.is_reusing = False
        if transaction.trouble is not None or self._is_closing:
            outcome = transaction.trouble or trouble.shut_down()
            if is_alive:
                self._pool.leave(attempt.site.key, connection)
            self._tour.go_on(attempt, attempt.give_up_rest(outcome))
            return
        attempt.take_up_rest()
        attempt.session_count -= 1  # they are one transaction that comes in parts
        if is_alive and self._pool.may_go_on(connection):
            self._begin(connection, attempt)
            return
        target = connection.target
        if not is_alive:
            self._tour.go_to(attempt, target)
            return
        self._leave_for(connection, attempt, partial(self._tour.go_to, target=target))

    def session_over(self, connection: Connection) -> None:
        self._pool.drop(connection)
        attempt, connection.attempt = connection.attempt, None
        if attempt is None:
            return
        dialog = connection.dialog
        try:
            outcome = dialog.trouble
            assert outcome is not None
            if dialog.is_tls_trouble and self._tour.again_in_clear(connection, attempt, outcome):
                return
            if dialog.is_alarming:
                if dialog.is_login_refused and self._ports.credentials is not None:
                    self._ports.credentials.refuse(connection.way.credentials, connection.token)
                if outcome.scope >= Scope.SITE:
                    attempt.spent_way = connection.way
                self._alarm.tell(connection, attempt, outcome)
            self._tour.leave(attempt, outcome)
        except Exception as error:
            self._account.break_off(attempt, error)

    def session_broke(self, connection: Connection, error: Exception) -> None:
        self._pool.drop(connection)
        attempt, connection.attempt = connection.attempt, None
        connection.dialog.state = State.CLOSED
        connection.abort()
        if attempt is not None:
            self._account.break_off(attempt, error)
        else:
            self._account.report(None, error)

    def content_broke(self, connection: Connection, error: Exception) -> None:
        assert connection.attempt is not None
        self._account.report_content(connection.attempt, error)

    def connection_gone(self, connection: Connection) -> None:
        self._pool.forget(connection)
        self._check_drained()

    # Ends.

    def _keep(self, attempt: Attempt, connection: Connection) -> None:
        site_key = attempt.site.key
        if self._is_closing or connection.target.way is not None:  # a fallback is not the site
            self._pool.leave(site_key, connection)
        else:
            self._pool.put(site_key, attempt.key, connection, monotonic())

    def _check_drained(self) -> None:
        drained = self._drained
        if drained is None or drained.done():
            return
        if not (len(self._tour) or len(self._large) or len(self._pool)):
            drained.set_result(None)

    async def _drain(self, limit_s: float) -> None:
        """Wait until no connection and no task is left, at most `limit_s`."""
        self._drained = self._loop.create_future()
        self._check_drained()
        try:
            async with asyncio.timeout(limit_s):
                await self._drained
        except TimeoutError:
            return
