"""The opening of a session: greeting, EHLO (LHLO), TLS, login.

What a server said before TLS is forgotten with it (RFC 3207 4.2). Where TLS is required nothing
follows EHLO in clear but STARTTLS and QUIT, whatever the server says; `_open` is the only door to
transactions and looks at that once more.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from typing import Final

from fastmta.message import Outcome
from fastmta.route.way import DEFAULT_WAY, TlsLevel, Way
from fastmta.security.client_sasl import ClientExchange, SaslFailure, Work
from fastmta.smtp import Reply
from fastmta.smtp.extension import NO_EXTENSIONS, parse_extensions

from . import trouble
from .command import STARTTLS, encode_auth
from .ending import Ending
from .options import DeliveryOptions
from .ports import TlsSession
from .secrecy import fit
from .state import State, Step
from .trouble import CLOSING, Peer

_CHALLENGES_MAX: Final = 8  # of one login; no mechanism has more than three


class Handshake(Ending):
    """From the first octet to the first transaction."""

    __slots__ = (
        "_challenge",
        "_challenges_left",
        "_exchange",
        "_held_initial",
        "_hello",
        "_hostname",
        "_is_chunked",
        "_is_clear",
        "_is_logged_in",
        "_is_pipelining",
        "_is_willing_to_chunk",
        "_secrets",
        "_tls",
        "_way",
        "hint",
        "is_alarming",
        "is_login_refused",
        "is_secure",
        "messages_max",
        "recipients_max",
        "work",
    )

    def __init__(
        self, peer: Peer, options: DeliveryOptions, way: Way = DEFAULT_WAY, is_clear: bool = False
    ) -> None:
        """`is_clear`: with a `way` that only prefers TLS, do without."""
        super().__init__(peer, options)
        self._way = way
        self._hostname = (way.hostname or options.hostname).encode("ascii")
        self._hello = b"LHLO" if way.transport == "lmtp" else b"EHLO"  # RFC 2033 4.1
        self._is_clear = way.tls.level is TlsLevel.NONE or (is_clear and not self._must_have_tls)
        self._exchange: ClientExchange | None = None
        self._held_initial: bytes | None = None  # waits for an empty challenge
        self._challenge = b""  # that waits for `work`
        self.work: Work | None = None
        self._challenges_left = _CHALLENGES_MAX
        self._is_logged_in = False
        self._secrets: tuple[str, ...] = ()  # that no text may have in it from now on
        self._tls: TlsSession | None = None  # once its handshake is done
        self._is_willing_to_chunk = options.is_chunking
        self._is_chunked = False  # BDAT, not DATA
        self._is_pipelining = False
        self.is_secure = False  # within TLS
        self.is_alarming = False  # it ended for what an operator must set right
        self.hint = ""  # to that operator, beside the outcome's text: strangers read that one
        self.is_login_refused = False  # by the server, for good
        self.recipients_max = 0  # of a transaction, RFC 9422 4.2; 0: no limit
        self.messages_max = 0  # of the session, RFC 9422 4.1
        if way.tls.is_implicit:
            self.state = State.TLS

    @property
    def _must_have_tls(self) -> bool:
        return self._way.tls.is_implicit or self._way.tls.level >= TlsLevel.ENCRYPT

    @property
    def is_trusted(self) -> bool:
        """Whether this is TLS with the peer that the way wants. Asked only if it matters: judging
        a certificate that need not be good takes as long as half a handshake."""
        return self._tls is not None and self._tls.is_trusted

    @property
    def offered_mechanisms(self) -> tuple[str, ...]:
        """What the server says it knows for AUTH."""
        return self._extensions.auth

    # What the holder says after its part of the work.

    def secured(self, tls: TlsSession) -> Step:
        """The TLS handshake is done."""
        assert self.state is State.TLS
        assert not self._reader.buffered()
        if self._way.tls.level >= TlsLevel.FINGERPRINT and not tls.is_trusted:
            return self._fail(trouble.tls_untrusted(self._peer))
        self.is_secure = True
        self._tls = tls
        if self._way.tls.is_implicit:
            self.state = State.GREETING
        else:
            self._extensions = NO_EXTENSIONS
            self._say_hello()
        return Step.WAIT

    def tls_failed(self, detail: str) -> Step:
        """The handshake broke off."""
        assert self.state is State.TLS
        self.is_tls_trouble = True
        return self._fail(trouble.tls_failed(self._peer, detail))

    def tls_unavailable(self, hint: str) -> Step:
        """It cannot even begin, and that is our fault: no reason to do without."""
        self.is_alarming = True
        self.hint = hint
        return self._fail(trouble.tls_unavailable(self._peer))

    def log_in(self, exchange: ClientExchange | None, secrets: tuple[str, ...] = ()) -> Step:
        """Begin to; None: nothing that the server offers serves.

        `secrets` are not told whatever the server says, nor is anything that we say to log in.
        """
        assert self.state is State.CREDENTIAL
        assert self._may_log_in
        if exchange is None:
            return self.cannot_log_in("no mechanism available")
        self._exchange = exchange
        self._secrets = fit(secrets)
        try:
            initial = exchange.initial()
            command, self._held_initial = encode_auth(exchange.name, initial)
        except SaslFailure as failure:
            return self.cannot_log_in(str(failure))
        self.state = State.AUTH
        self.output.append(command)
        if initial is not None:
            self._hide(b64encode(initial))
        return Step.WAIT

    def computed(self) -> Step:
        """`work` is done."""
        assert self.state is State.CREDENTIAL
        assert self._exchange is not None
        self.work = None
        self.state = State.AUTH
        try:
            self._answer(self._exchange.respond(self._challenge))
        except SaslFailure as failure:
            return self.cannot_log_in(str(failure))
        return Step.WAIT

    def cannot_log_in(self, reason: str, hint: str = "") -> Step:
        """There is no login, or none that is fit to be used here; `hint` is for an operator."""
        self.hint = hint
        return self._refuse_login(trouble.login_failed(self._peer, reason))

    def refuse_address(self, kind: str) -> Step:
        """We are connected to where we must not be."""
        return self._fail(trouble.forbidden(self._peer, kind))

    # Reading.

    def _read_greeting(self, reply: Reply) -> Step:
        if reply.code // 100 != 2:
            return self._fail(trouble.refused_greeting(self._peer, reply))
        self._say_hello()
        return Step.WAIT

    def _say_hello(self) -> None:
        self.state = State.EHLO
        self.output.append(b"%b %b\r\n" % (self._hello, self._hostname))

    def _read_ehlo(self, reply: Reply) -> Step:
        if reply.code // 100 == 2:
            self._extensions = parse_extensions(reply)
            return self._proceed()
        if reply.code == CLOSING or self._way.transport == "lmtp":
            return self._fail(trouble.refused_helo(self._peer, reply))
        self.state = State.HELO
        self.output.append(b"HELO %b\r\n" % self._hostname)
        return Step.WAIT

    def _read_helo(self, reply: Reply) -> Step:
        if reply.code // 100 != 2:
            return self._fail(trouble.refused_helo(self._peer, reply))
        return self._proceed()

    def _proceed(self) -> Step:
        """The server named what it can do: TLS first, then the login, if they are wanted."""
        if not self.is_secure:
            if self._extensions.starttls and not self._is_clear:
                self.state = State.STARTTLS
                self.output.append(STARTTLS)
                return Step.WAIT
            if self._must_have_tls:
                return self._fail(trouble.tls_not_offered(self._peer))
        if self._way.credentials and not self._is_logged_in:
            return self._want_login()
        return self._open()

    def _open(self) -> Step:
        """Transactions may begin."""
        assert not self.output
        if self._must_have_tls and not self.is_secure:
            raise AssertionError("a session in clear where TLS is required")
        extensions = self._extensions
        self._is_pipelining = extensions.pipelining
        self._is_chunked = self._is_willing_to_chunk and extensions.chunking
        self.recipients_max = extensions.rcpt_max
        self.messages_max = extensions.mail_max
        self.state = State.IDLE
        return Step.READY

    def _read_starttls(self, reply: Reply) -> Step:
        if reply.code // 100 == 2:
            self.state = State.TLS
            return Step.TLS
        self.is_tls_trouble = True
        return self._fail(trouble.tls_refused(self._peer, reply, self._must_have_tls))

    # The login.

    @property
    def _may_log_in(self) -> bool:
        """Not before a listener, and not to a stranger, unless the operator says so."""
        return self._way.is_auth_forced or self.is_trusted

    def _want_login(self) -> Step:
        if not self._may_log_in:
            what = "its certificate is not trusted" if self.is_secure else "there is no TLS"
            return self.cannot_log_in(what)
        if not self._extensions.auth:
            return self.cannot_log_in("it does not announce SASL authentication support")
        self.state = State.CREDENTIAL
        return Step.CREDENTIAL

    def _read_auth(self, reply: Reply) -> Step:
        exchange = self._exchange
        assert exchange is not None
        try:
            if reply.is_intermediate:
                return self._take_challenge(exchange, reply)
            if reply.code // 100 == 2:
                exchange.finish(b"")
                self._exchange = None
                self._is_logged_in = True
                return self._proceed()
        except SaslFailure as failure:
            return self.cannot_log_in(str(failure))
        self.is_login_refused = reply.is_permanent
        outcome = trouble.login_refused(self._peer, reply, exchange.notice)
        return self._fail(outcome) if reply.code == CLOSING else self._refuse_login(outcome)

    def _take_challenge(self, exchange: ClientExchange, reply: Reply) -> Step:
        """Answer it, now or when what that takes is computed. Raises SaslFailure."""
        self._challenges_left -= 1
        if self._challenges_left < 0:
            raise SaslFailure("too many challenges")
        if len(reply.lines) != 1:
            raise SaslFailure("malformed challenge")
        try:
            challenge = b64decode(reply.lines[0], validate=True)
        except ValueError as error:
            raise SaslFailure("malformed challenge") from error
        initial, self._held_initial = self._held_initial, None
        if initial is not None:
            if challenge:
                raise SaslFailure("a challenge where none is due")
            self._answer(initial)
            return Step.WAIT
        self.work = exchange.prepare(challenge)
        if self.work is not None:
            self._challenge = challenge
            self.state = State.CREDENTIAL
            return Step.COMPUTE
        self._answer(exchange.respond(challenge))
        return Step.WAIT

    def _answer(self, response: bytes) -> None:
        encoded = b64encode(response)
        self.output.append(encoded + b"\r\n")
        self._hide(encoded)

    def _hide(self, encoded: bytes) -> None:
        self._secrets += fit((encoded.decode("ascii"),))

    def _refuse_login(self, outcome: Outcome) -> Step:
        self.is_alarming = True
        return self._fail(outcome)
