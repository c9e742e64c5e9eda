"""The courier: takes a job to its site and brings back one outcome per recipient.

An idle session of the site is used if there is one. Otherwise, and for recipients that a server
deferred, the site's targets are tried in their order: a failure that is not final goes on to the
next target, up to five addresses and two sessions that reached a transaction. What the last one
said is what the recipients get. A reused session that turns out to be dead before it answered MAIL
is replaced by a fresh one without anybody hearing of it, once per attempt.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from time import monotonic

from fastmta.event import Event, Notice, Severity
from fastmta.message import ContentFile, Job, Outcome, Scope
from fastmta.route import Site, Target
from fastmta.route.hop import parse_next_hop
from fastmta.route.way import DEFAULT_WAY, TlsLevel, Way
from fastmta.smtp import stuff
from fastmta.smtp.content import LineEndError

from . import trouble
from .attempt import Attempt, Done
from .connection import Connection
from .content import Contents, HeaderLook, Source
from .opener import alarms, hosts_in_clear, open_connection
from .options import DeliveryOptions
from .pool import Pool
from .ports import NO_PORTS, CourierPorts, TlsSession
from .secure import Scratch
from .state import State
from .transaction import Transaction

# Looked at for each message; reading them off their classes every time costs more than that.
_IDLE = State.IDLE


class Courier:
    """Delivers over SMTP. `start` promises exactly one call of `done`, never from within itself."""

    __slots__ = (
        "_alarms",
        "_contents",
        "_drained",
        "_emit",
        "_in_clear",
        "_is_closing",
        "_loop",
        "_opening",
        "_options",
        "_pool",
        "_ports",
        "_scratch",
        "_tasks",
        "running_count",
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
        self._scratch = Scratch() if ports.contexts is not None else None
        self._in_clear = hosts_in_clear()
        self._alarms = alarms()
        self._contents = contents
        self._opening: set[Attempt] = set()  # their content is being checked
        self._emit = emit
        self._loop = loop
        self._pool = Pool(options, loop)
        self._tasks: set[asyncio.Task[None]] = set()  # each opens one connection
        self._is_closing = False
        self._drained: asyncio.Future[None] | None = None
        self.running_count = 0  # attempts whose `done` is still owed

    @property
    def connection_count(self) -> int:
        """Open connections, idle ones included."""
        return len(self._pool)

    @property
    def idle_count(self) -> int:
        """Sessions that wait for a message."""
        return self._pool.idle_count

    def start(self, job: Job, site: Site, done: Done) -> None:
        """Begin one attempt; `done(job, result)` is called once, later. Never raises."""
        attempt = Attempt(job, site, done, monotonic())
        self.running_count += 1
        try:
            self._start(attempt)
        except Exception as error:
            self._break(attempt, error)
        attempt.is_starting = False

    async def close(self, deadline_s: float) -> None:
        """QUIT idle sessions, wait `deadline_s` seconds for running ones, then break them off."""
        self._is_closing = True
        self._pool.quit_idle()
        await self._drain(deadline_s)
        for attempt in list(self._opening):
            self._opening.discard(attempt)
            self._interrupt(attempt)
        for task in list(self._tasks):
            task.cancel()
        for connection in self._pool.open_connections():
            connection.interrupt()
        await self._drain(1.0)
        self._pool.stop_clock()

    # One attempt.

    def _start(self, attempt: Attempt) -> None:
        if self._is_closing:
            self._interrupt(attempt)
            return
        message = attempt.job.message
        content = message.content
        if message.file is not None:
            self._open_content(attempt, message.file)
            return
        if content is None:
            raise ValueError("a job without its content")
        try:
            attempt.content = stuff(content, self._options.line_octets_max)
        except LineEndError as error:
            text = f"content cannot be sent: {error}"
            self._emit(Notice("smtp", text, Severity.ERROR, message.id))
            self._settle(attempt, trouble.unsendable(str(error)))
            return
        self._use_a_session(attempt)

    def _use_a_session(self, attempt: Attempt) -> None:
        """An idle one of the site, or a new one."""
        connection = self._pool.take(attempt.key)
        if connection is None:
            self._connect(attempt)
            return
        attempt.is_reusing = True
        attempt.used_target = connection.target
        self._begin(connection, attempt)

    def _open_content(self, attempt: Attempt, file: ContentFile) -> None:
        """A large content is checked before anything is said to anybody."""
        if self._contents is None:
            raise ValueError("there is no way to a large content")
        self._opening.add(attempt)
        self._contents.open(file, partial(self._opened, attempt))

    def _opened(self, attempt: Attempt, source: Source | None, error: Exception | None) -> None:
        if attempt not in self._opening:  # `close` did not wait for it
            if source is not None:
                source.close()
            return
        self._opening.discard(attempt)
        attempt.source = source
        try:
            if source is None:
                self._report_content(attempt, error)
                self._settle(attempt, trouble.unreadable())
            elif self._is_closing:
                self._interrupt(attempt)
            elif attempt.job.message.envelope.is_utf8 and attempt.has_ascii_header is None:
                HeaderLook(source.stream(), partial(self._looked, attempt))
                self._opening.add(attempt)
            else:
                self._use_a_session(attempt)
        except Exception as problem:
            self._break(attempt, problem)
        self._check_drained()

    def _looked(self, attempt: Attempt, is_ascii: bool, error: Exception | None) -> None:
        """Whether a large content can do without SMTPUTF8 is known, or it cannot be read."""
        attempt.has_ascii_header = is_ascii
        source, attempt.source = attempt.source, None
        if error is not None and source is not None:
            source.close()
            source = None
        self._opened(attempt, source, error)

    def _report_content(self, attempt: Attempt, error: Exception | None) -> None:
        text = f"content cannot be read: {error}"
        self._emit(Notice("smtp", text, Severity.ERROR, attempt.job.message.id))

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

    def _settle(self, attempt: Attempt, outcome: Outcome) -> None:
        attempt.take_for_all(outcome)
        self._finish(attempt)

    def _interrupt(self, attempt: Attempt) -> None:
        """Broken off by `close`. EGRESS scope: neither site nor message is to blame."""
        outcome = trouble.shut_down()
        attempt.break_off(outcome)
        attempt.trouble = outcome
        self._finish(attempt)

    def _finish(self, attempt: Attempt) -> None:
        """Report, once, and not from within `start`."""
        if attempt.is_starting:
            self._loop.call_soon(self._finish, attempt)
            return
        done, attempt.done = attempt.done, None
        assert done is not None, "an attempt finished twice"
        self.running_count -= 1
        if attempt.source is not None:
            attempt.source.close()
            attempt.source = None
        try:
            result = attempt.result(monotonic())
        except AssertionError as error:  # or the job would be waited for until the next start
            self._report(attempt, error)
            attempt.break_off(trouble.internal(type(error).__name__))
            result = attempt.result(monotonic())
        try:
            done(attempt.job, result)
        except Exception as error:  # not ours: the session goes on, the daemon decides about it
            text = "a callback of the courier raised"
            self._loop.call_exception_handler({"message": text, "exception": error})

    def _break(self, attempt: Attempt, error: Exception) -> None:
        """Our own failure: the mail waits, and an operator hears of it."""
        self._report(attempt, error)
        if attempt.done is not None:
            attempt.break_off(trouble.internal(type(error).__name__))
            self._finish(attempt)

    def _report(self, attempt: Attempt | None, error: Exception) -> None:
        text = f"internal error in delivery: {error!r}"
        queue_id = b"" if attempt is None else attempt.job.message.id
        self._emit(Notice("smtp", text, Severity.ERROR, queue_id))

    def _go_on(self, attempt: Attempt, is_deferred: bool) -> None:
        """To the next target if recipients are left for it, else the attempt is over."""
        if is_deferred and attempt.session_count < self._options.sessions_per_attempt_max:
            target = self._next_target(attempt)
            if target is not None:
                assert attempt.outcomes is not None
                assert attempt.places
                skipped = attempt.outcomes[attempt.places[0]]
                assert skipped is not None
                self._emit(Notice("smtp", skipped.text, Severity.INFO, attempt.job.message.id))
                self._open_soon(attempt, target)
                return
        self._finish(attempt)

    def _next_target(self, attempt: Attempt) -> Target | None:
        if self._is_closing:
            return None
        return attempt.next_target(self._options.addresses_per_attempt_max)

    # Opening connections: one task each.

    def _connect(self, attempt: Attempt) -> None:
        """The first target of the site."""
        target = self._next_target(attempt)
        if target is None:
            self._interrupt(attempt)
        else:
            self._open_soon(attempt, target)

    def _open_soon(self, attempt: Attempt, target: Target) -> None:
        way = attempt.way_to(target)
        is_clear = _may_be_in_clear(way, attempt) and self._in_clear.has(
            monotonic(), attempt.site.key, target.host
        )
        connection = Connection(
            target,
            self._options,
            self,
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

    async def _open(self, attempt: Attempt, connection: Connection) -> None:
        try:
            outcome = await open_connection(connection, self._options, self._ports, self._loop)
        except asyncio.CancelledError:
            if _detach(connection):
                self._interrupt(attempt)
            raise
        except Exception as error:
            if _detach(connection):
                self._break(attempt, error)
            return
        if outcome is not None and _detach(connection):
            self._leave(attempt, outcome)

    def _leave(self, attempt: Attempt, outcome: Outcome) -> None:
        """No transaction came about at the present target."""
        attempt.trouble = outcome
        attempt.begun_s = monotonic()  # all the time until now was that of connecting
        attempt.connect_s = attempt.begun_s - attempt.started_s
        try:
            self._go_on(attempt, attempt.take_for_all(outcome))
        except Exception as error:
            self._break(attempt, error)

    # What connections tell.

    def connection_made(self, connection: Connection) -> None:
        self._pool.add(connection)

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
            self._break(attempt, error)

    def _take_transaction(self, connection: Connection, attempt: Attempt) -> None:
        dialog = connection.dialog
        transaction, dialog.transaction = dialog.transaction, None
        assert transaction is not None
        if dialog.state is _IDLE:
            if attempt.rest is None:
                self._keep(attempt.key, connection)
        elif dialog.is_stale and attempt.is_reusing and not self._is_closing:
            attempt.is_reusing = False
            attempt.used_target = None
            attempt.session_count -= 1
            attempt.rejoin()
            self._connect(attempt)
            return
        attempt.use_count = connection.use_count
        if transaction.trouble is None:
            attempt.has_completed = True
        else:
            attempt.trouble = transaction.trouble
        is_plain = transaction.extras is None
        outcomes = transaction.outcomes if is_plain else transaction.all_outcomes()
        is_open = attempt.take(outcomes)
        if transaction.ends_attempt:
            attempt.spent_way = connection.way
        if attempt.rest is not None:
            self._go_on_with_rest(connection, attempt, transaction)
        else:
            self._go_on(attempt, attempt.take_back() if attempt.passed else is_open)

    def _go_on_with_rest(
        self, connection: Connection, attempt: Attempt, transaction: Transaction
    ) -> None:
        """The server takes so many recipients at a time (RFC 9422 4.2): now the next ones."""
        is_alive = connection.dialog.state is _IDLE
        attempt.is_reusing = False
        if transaction.trouble is not None or self._is_closing:
            outcome = transaction.trouble or trouble.shut_down()
            if is_alive:
                connection.quit()
            self._go_on(attempt, attempt.give_up_rest(outcome))
            return
        attempt.take_up_rest()
        attempt.session_count -= 1  # they are one transaction that comes in parts
        if is_alive and self._pool.may_go_on(connection):
            self._begin(connection, attempt)
            return
        if is_alive:
            connection.quit()
        self._open_soon(attempt, connection.target)

    def session_over(self, connection: Connection) -> None:
        self._pool.drop(connection)
        attempt, connection.attempt = connection.attempt, None
        if attempt is None:
            return
        try:
            outcome = connection.dialog.trouble
            assert outcome is not None
            is_tls_trouble = connection.dialog.is_tls_trouble and not self._is_closing
            if is_tls_trouble and _may_be_in_clear(connection.way, attempt):
                self._in_clear.add(monotonic(), attempt.site.key, connection.target.host)
                text = f"{outcome.text}; trying without TLS"
                self._emit(Notice("smtp", text, Severity.INFO, attempt.job.message.id))
                self._open_soon(attempt, connection.target)
                return
            if connection.dialog.is_alarming:
                self._alarm(connection, attempt, outcome)
            self._leave(attempt, outcome)
        except Exception as error:
            self._break(attempt, error)

    def _alarm(self, connection: Connection, attempt: Attempt, outcome: Outcome) -> None:
        """Mail waits for an operator: say so, but not for each message."""
        if connection.dialog.is_login_refused and self._ports.credentials is not None:
            self._ports.credentials.refuse(connection.way.credentials, connection.token)
        if outcome.scope >= Scope.SITE:
            attempt.spent_way = connection.way
        way = connection.way
        key = (way.name or connection.peer.relay, way.credentials)
        if not self._alarms.has(monotonic(), *key):
            self._alarms.add(monotonic(), *key)
            name = f"relay {way.name}: " if way.name else ""
            _, _, login = way.credentials.partition("/")
            if login:
                name += f"login of {login}: "
            text = f"{name}{outcome.text}; mail for it waits"
            self._emit(Notice("smtp", text, Severity.ERROR, attempt.job.message.id))

    def session_broke(self, connection: Connection, error: Exception) -> None:
        self._pool.drop(connection)
        attempt, connection.attempt = connection.attempt, None
        connection.dialog.state = State.CLOSED
        connection.abort()
        if attempt is not None:
            self._break(attempt, error)
        else:
            self._report(None, error)

    def content_broke(self, connection: Connection, error: Exception) -> None:
        assert connection.attempt is not None
        self._report_content(connection.attempt, error)

    def connection_gone(self, connection: Connection) -> None:
        self._pool.forget(connection)
        self._check_drained()

    # Ends.

    def _keep(self, site_key: bytes, connection: Connection) -> None:
        if self._is_closing or connection.target.way is not None:  # a fallback is not the site
            connection.quit()
        else:
            self._pool.put(site_key, connection, monotonic())

    def _forget_task(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._check_drained()

    def _check_drained(self) -> None:
        drained = self._drained
        if drained is None or drained.done() or self._tasks or self._opening or len(self._pool):
            return
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


def _may_be_in_clear(way: Way, attempt: Attempt) -> bool:
    """Whether TLS is only a wish there. A login or REQUIRETLS (RFC 8689) makes it more."""
    return (
        way.tls.level is TlsLevel.MAY
        and not way.tls.is_implicit
        and not way.credentials
        and not attempt.job.message.envelope.is_tls_required
    )


def _detach(connection: Connection) -> bool:
    """Give up on opening it; False when its session has already ended the attempt's stay."""
    is_waiting = connection.attempt is not None
    connection.attempt = None
    connection.abort()
    return is_waiting
