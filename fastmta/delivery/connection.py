"""One TCP connection that carries a dialog: octets between transport and dialog, and time limits.

There is no timer here: `deadline_s` is looked at by the pool's clock, for all connections at once.
With TLS a SecureLink takes the transport's place, and nothing else changes.
"""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import Protocol, cast

from fastmta.route import Target
from fastmta.route.way import DEFAULT_WAY, Way
from fastmta.security import Credential

from .attempt import Attempt
from .content import Feeder
from .dialog import Dialog
from .options import DeliveryOptions
from .ports import NO_PORTS, CourierPorts, TlsSession
from .secure import Scratch, SecureLink
from .state import State, Step
from .transaction import Transaction
from .trouble import Peer

# Looked at for each message; reading them off their classes every time costs more than that.
_IDLE, _CLOSED = State.IDLE, State.CLOSED
_WAIT, _DONE = Step.WAIT, Step.DONE


class Owner(Protocol):
    """Whoever opened a connection hears of each of these; none of them may raise."""

    def connection_made(self, connection: Connection) -> None:
        """The transport is there: the very first call."""

    def session_secured(self, connection: Connection, tls: TlsSession) -> None:
        """The TLS handshake is done."""

    def session_ready(self, connection: Connection) -> None:
        """Greeting and EHLO are done: a transaction may begin."""

    def transaction_done(self, connection: Connection) -> None:
        """Every recipient of the transaction has its outcome. The session may be over too."""

    def session_over(self, connection: Connection) -> None:
        """The session ended outside a transaction; `dialog.trouble` says why, if it matters."""

    def session_broke(self, connection: Connection, error: Exception) -> None:
        """We failed ourselves while this connection was served."""

    def content_broke(self, connection: Connection, error: Exception) -> None:
        """A large content cannot be read to its end; `transaction_done` follows."""

    def connection_gone(self, connection: Connection) -> None:
        """The transport is closed: the very last call."""


class Connection(asyncio.Protocol):
    """A session with one target; at most one attempt at a time uses it."""

    __slots__ = (
        "_feeder",
        "_limits",
        "_line_max",
        "_owner",
        "_ports",
        "_scratch",
        "_transport",
        "_unsent_octets",
        "attempt",
        "deadline_s",
        "dialog",
        "is_idle",
        "is_paused",
        "names",
        "opened_s",
        "peer",
        "session_key",
        "site_key",
        "target",
        "token",
        "use_count",
        "way",
    )

    def __init__(
        self,
        target: Target,
        options: DeliveryOptions,
        owner: Owner,
        way: Way = DEFAULT_WAY,
        ports: CourierPorts = NO_PORTS,
        *,
        scratch: Scratch | None = None,
        is_clear: bool = False,
    ) -> None:
        """`is_clear`: do without TLS if `way` allows that."""
        self.target = target
        self.way = way
        self.token = ""  # that it logged in with, or tried to
        self.names: tuple[str, ...] = ()  # of the next hop, that a certificate may be in
        self.peer = Peer(target, ports.rules, way.provider or way.name)
        self.dialog = Dialog(self.peer, options, way, is_clear or ports.contexts is None)
        self.attempt: Attempt | None = None
        self.deadline_s = 0.0  # monotonic: `look` acts after it
        self.opened_s = monotonic()
        self.use_count = 0  # transactions begun
        self.is_idle = False  # it is in the pool
        self.site_key = b""  # there
        self.session_key = b""  # there: who may share it
        self.is_paused = False  # the transport holds content that the peer has not taken
        self._unsent_octets = 0  # of that, when it was last looked at
        self._feeder: Feeder | None = None  # while a large content is sent
        self._limits = options.time_limits
        self._line_max = options.line_octets_max
        self._owner = owner
        self._ports = ports
        self._scratch = scratch
        self._transport: asyncio.WriteTransport | SecureLink | None = None

    # Called by the owner and the pool.

    def begin(self, transaction: Transaction) -> None:
        """Start a transaction; its end is told to the owner, at the earliest from within here."""
        self.use_count += 1
        self._follow(self.dialog.begin(transaction))

    def quit(self) -> None:
        """Say QUIT and wait for the answer a little."""
        self.dialog.quit()
        self._follow(_WAIT)

    def interrupt(self) -> None:
        """End it now."""
        self._follow(self.dialog.interrupt(self._is_unsent))
        self.abort()

    def abort(self) -> None:
        """Drop the connection without a word; `connection_gone` follows."""
        if self._transport is not None:
            self._transport.abort()

    def look(self, now_s: float) -> None:
        """The clock ticked: act if a time limit has passed."""
        if now_s < self.deadline_s:
            return
        if self.is_paused and self._transport is not None:
            unsent = self._transport.get_write_buffer_size()
            if unsent < self._unsent_octets:  # slow, not stuck (RFC 5321 4.5.3.2.5)
                self._unsent_octets = unsent
                self.deadline_s = now_s + self._limits.block_s
                return
        try:
            if self.dialog.state is _CLOSED:
                self.abort()
            elif self.dialog.state is _IDLE:
                self.quit()
            else:
                if self.dialog.state is State.TLS:
                    self._count_tls()
                self._follow(self.dialog.give_up(self._is_unsent))
                self.abort()
        except Exception as error:
            self._owner.session_broke(self, error)

    # Called by the event loop. Nothing may escape into it.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # A cast, because uvloop's transports do not derive from it.
        self._transport = cast(asyncio.WriteTransport, transport)
        self.deadline_s = monotonic() + self.dialog.time_limit_s
        self._owner.connection_made(self)
        try:
            self._look_at_peer(transport)
        except Exception as error:
            self._owner.session_broke(self, error)

    def data_received(self, data: bytes) -> None:
        try:
            transport = self._transport
            unsent = 0 if transport is None else transport.get_write_buffer_size()
            step = self.dialog.receive(data, unsent > 0 or self._feeder is not None)
            if step is _WAIT and self.dialog.has_read_nothing:
                return  # the limit is that of a whole reply, however its octets come
            self._follow(step)
        except Exception as error:
            self._owner.session_broke(self, error)

    # Called by the link that does TLS.

    def secured(self, tls: TlsSession) -> None:
        """The handshake is done."""
        step = self.dialog.secured(tls)
        self._count_tls(tls.facts.protocol, "ok" if self.dialog.is_secure else "failed")
        self._owner.session_secured(self, tls)
        self._follow(step)

    def tls_failed(self, detail: str) -> None:
        """It cannot be done."""
        if self.dialog.state is State.TLS:
            self._count_tls()
            self._follow(self.dialog.tls_failed(detail))

    def broke(self, error: Exception) -> None:
        """The link failed in a way that is our fault."""
        self._owner.session_broke(self, error)

    # Called by the event loop and the link.

    def pause_writing(self) -> None:
        self.is_paused = True

    def resume_writing(self) -> None:
        self.is_paused = False
        if self.dialog.state is not _CLOSED:
            self.deadline_s = monotonic() + self.dialog.time_limit_s
            if self._feeder is not None:
                self.deadline_s = monotonic() + self._limits.block_s
                self._feeder.go_on()

    def eof_received(self) -> None:
        if self.is_idle:  # out of the pool before somebody takes it
            self._follow(self.dialog.lose())

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        try:
            if self.dialog.state is not _CLOSED:
                if self.dialog.state is State.TLS:
                    self._count_tls()
                self._follow(self.dialog.lose(self._is_unsent))
        except Exception as error:
            self._owner.session_broke(self, error)
        self._owner.connection_gone(self)

    # Inside.

    def _look_at_peer(self, transport: asyncio.BaseTransport) -> None:
        """Connected: is it a place to be? Then TLS, where that comes first."""
        why_not = self._ports.why_not
        if why_not is not None and not self.way.is_unfiltered:
            name = transport.get_extra_info("peername")
            kind = why_not(name[0]) if isinstance(name, tuple) else ""
            if kind:
                self._follow(self.dialog.refuse_address(kind))
                return
        if self.way.tls.is_implicit:
            self._secure()

    def _secure(self) -> None:
        """Shake hands; `secured` or `tls_failed` follows."""
        contexts, transport = self._ports.contexts, self._transport
        if transport is None:  # gone, as `connection_lost` has told
            return
        assert not isinstance(transport, SecureLink)
        self.deadline_s = monotonic() + self.dialog.time_limit_s
        if contexts is None:
            self._follow(self.dialog.tls_unavailable("there is none"))
            return
        try:
            tls = contexts.begin(self.way.tls, self.target.host, self.names, self.target.port)
        except ValueError as problem:
            self._follow(self.dialog.tls_unavailable(str(problem)))
            return
        scratch = Scratch() if self._scratch is None else self._scratch
        link = SecureLink(self, cast(asyncio.Transport, transport), tls, scratch)
        self._transport = link
        link.start()

    def _count_tls(self, version: str = "none", result: str = "failed") -> None:
        if self._ports.count_tls is not None:
            self._ports.count_tls(self.way.tls.level.name.lower(), version, result)

    def _find_login(self) -> None:
        credentials = self._ports.credentials
        self.deadline_s = monotonic() + self.dialog.time_limit_s
        if credentials is None:
            self._follow(self.dialog.cannot_log_in("there is no login"))
        else:
            credentials.get(self.way.credentials, self._log_in)

    def _log_in(self, credential: Credential | None, problem: str) -> None:
        dialog, choose = self.dialog, self._ports.choose
        if dialog.state is not State.CREDENTIAL:  # the session did not last so long
            return
        try:
            if credential is None or choose is None:
                self._follow(dialog.cannot_log_in("our login is not available", problem))
            else:
                # The dialog wants a login only where nobody listens, or the operator does not mind.
                offered = dialog.offered_mechanisms
                exchange = choose(offered, credential, is_confidential=True)
                self.token = credential.token
                secrets = (credential.password, credential.token)
                self._follow(dialog.log_in(exchange, secrets))
        except Exception as error:
            self._owner.session_broke(self, error)

    def _compute(self) -> None:
        """A part of the login that takes long: not on this thread."""
        self.deadline_s = monotonic() + self.dialog.time_limit_s
        work = self.dialog.work
        assert work is not None
        loop = asyncio.get_running_loop()
        loop.run_in_executor(None, work).add_done_callback(self._computed)

    def _computed(self, done: asyncio.Future[None]) -> None:
        if done.cancelled() or self.dialog.state is not State.CREDENTIAL:
            return
        try:
            done.result()
            self._follow(self.dialog.computed())
        except Exception as error:
            self._owner.session_broke(self, error)

    @property
    def _is_unsent(self) -> bool:
        """Whether the peer has surely not got all of a content."""
        return self.is_paused or self._feeder is not None

    def _feed(self) -> None:
        """DATA was granted for a large content: send it as the peer takes it."""
        transaction = self.dialog.transaction
        assert transaction is not None
        assert transaction.source is not None
        self._feeder = Feeder(transaction.source.stream(), self._feed_on, self._fed, self._line_max)
        self._feeder.go_on()

    def _feed_on(self, octets: bytes) -> None:
        """The next piece was read."""
        self.deadline_s = monotonic() + self._limits.block_s  # RFC 5321 4.5.3.2.5
        if self._transport is not None:
            self._transport.write(octets)
            self._unsent_octets = self._transport.get_write_buffer_size()
        if not self.is_paused and self._feeder is not None:
            self._feeder.go_on()

    def _fed(self, error: Exception | None) -> None:
        """All of it was written, or the rest cannot be."""
        self._feeder = None
        try:
            if error is None:
                self._follow(self.dialog.fed())
            else:
                self._owner.content_broke(self, error)
                self._follow(self.dialog.break_feed())
        except Exception as problem:
            self._owner.session_broke(self, problem)

    def _follow(self, step: Step) -> None:
        """Write what the dialog has to say, then do what it says is next."""
        dialog = self.dialog
        transport = self._transport
        output = dialog.output
        if output:
            if transport is not None:
                transport.writelines(output)
            output.clear()
        if step is _WAIT:
            if dialog.is_feeding:
                self.deadline_s = monotonic() + self._limits.block_s
                if self._feeder is None:
                    self._feed()
                return
            limit_s = dialog.time_limit_s
            if self.is_paused and transport is not None:
                self._unsent_octets = transport.get_write_buffer_size()
                limit_s = self._limits.block_s
            self.deadline_s = monotonic() + limit_s
            return
        if step is _DONE and dialog.state is _IDLE and self._feeder is None:
            self._owner.transaction_done(self)
            return
        is_unsent = self._feeder is not None or dialog.is_feeding
        if self._feeder is not None:
            self._feeder.stop()
            self._feeder = None
        if dialog.state is _CLOSED and transport is not None:
            self.deadline_s = monotonic() + self._limits.quit_s
            if is_unsent or transport.get_write_buffer_size():
                transport.abort()  # what is unsent must not follow the verdict
            else:
                transport.close()
        if step is _DONE:
            self._owner.transaction_done(self)
        elif step is Step.READY:
            self._owner.session_ready(self)
        elif step is Step.CLOSED:
            self._owner.session_over(self)
        elif step is Step.TLS:
            self._secure()
        elif step is Step.CREDENTIAL:
            self._find_login()
        else:
            self._compute()
