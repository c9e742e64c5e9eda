"""The `Authenticate` port of a session: mechanisms, exchanges, and who may send as whom."""

from __future__ import annotations

import asyncio
import re
import secrets
from collections.abc import Callable
from typing import Final

import msgspec

from fastmta.smtp.sasl import Exchange

from .bearer import BearerExchange
from .dial import BadPlace, Dialler
from .dovecot import Dovecot, DovecotExchange, DovecotPorts
from .dovecot_line import ID_MAX
from .hook import BadHook, Hook, load_hook
from .password import SCRAM_ITERATIONS_MIN
from .plain import LoginExchange, PlainExchange
from .scram import NONCE_OCTETS, ScramExchange
from .senders import SenderSource
from .source import SCRAM, TOKEN_MECHANISMS, OwnUsers, Sources
from .step import Client
from .threads import Threads
from .turn import Turns
from .users import BadLine, UserSource, Warn, parse_list
from .verified import Verified

HASHING_THREADS: Final = 2
HASHES_WAITING_MAX: Final = 32
HOOK_THREADS: Final = 4
HOOKS_WAITING_MAX: Final = 32
HOOK_TIMEOUT_S: Final = 10.0
DOVECOT_TIMEOUT_S: Final = 20.0  # for each answer; it delays refusals by seconds
SECRET_OCTETS: Final = 32
_MECHANISM = re.compile(r"[A-Z0-9_-]{1,20}")  # RFC 4422 3.1
_NEVER = ("ANONYMOUS", "EXTERNAL")  # nobody logs in; and Dovecot does not see our certificates


class AuthError(ValueError):
    """Options that cannot be used; the text says which and why, without a secret in it."""


class AuthOptions(msgspec.Struct, frozen=True):
    """What an operator may set. At least one source of users makes sense."""

    mechanisms: tuple[str, ...] = ("PLAIN", "LOGIN")  # in the order in which they are offered
    is_plain_allowed: bool = False  # also without TLS
    users_file: str = ""
    users: tuple[str, ...] = ()  # `user:password`
    dovecot: str = ""  # path of a unix socket, or host:port
    password_hook: str = ""  # `module:function`
    token_hook: str = ""
    senders_file: str = ""
    is_sender_strict: bool = False  # who is logged in sends as itself only

    def __repr__(self) -> str:
        return f"AuthOptions(mechanisms={self.mechanisms}, users={len(self.users)}, ...)"


class Authenticator:
    """Logins of one process. Belongs to one loop; `start` on it, `close` at its end."""

    def __init__(
        self,
        options: AuthOptions,
        loop: asyncio.AbstractEventLoop,
        warn: Warn,
        *,
        secret: bytes = b"",
        chance: Callable[[], float] | None = None,
        nonce: Callable[[], bytes] | None = None,
        is_locked: Callable[[str, str], bool] | None = None,
    ) -> None:
        """`warn` is told what an operator should know, a line each.

        `secret` (32 octets) makes up the salts of names that nobody has: processes that serve the
        same clients should have the same, or the salts tell who exists. `is_locked(login, address)`
        says who has failed too often: right credentials are then refused like wrong ones. Raises
        AuthError.
        """
        self._options = options
        self._loop = loop
        self._warn = warn
        self._secret = secret or secrets.token_bytes(SECRET_OCTETS)
        if len(self._secret) != SECRET_OCTETS:
            raise AuthError(f"the secret must have {SECRET_OCTETS} octets")
        self._chance = chance or secrets.SystemRandom().random
        self._is_locked = is_locked
        self._nonce = nonce or (lambda: secrets.token_bytes(NONCE_OCTETS))
        for name in options.mechanisms:
            if _MECHANISM.fullmatch(name) is None or name in _NEVER:
                raise AuthError(f"{name}: not a mechanism that can be offered")
        self._hashing = Threads(loop, "hash", HASHING_THREADS, HASHES_WAITING_MAX)
        self._hooking = Threads(loop, "auth-hook", HOOK_THREADS, HOOKS_WAITING_MAX)
        self._dovecot = self._make_dovecot()
        self._hooks = [self._make_hook(options.password_hook), self._make_hook(options.token_hook)]
        by_password, by_token = self._hooks
        self._sources = Sources(self._own_users(), self._dovecot, by_password, by_token, warn)
        try:
            self._senders = SenderSource(
                options.senders_file, warn, is_strict=options.is_sender_strict
            )
        except OSError as error:
            raise AuthError(f"{options.senders_file}: {error.strerror or error}") from error

    def start(self) -> None:
        """Connect to whom we ask."""
        if self._dovecot is not None:
            self._dovecot.start()

    def close(self) -> None:
        """Give connections and threads back. Steps under way are not answered any more, but those
        that wait for Dovecot."""
        if self._dovecot is not None:
            self._dovecot.close()
        for hook in self._hooks:
            if hook is not None:
                hook.close()
        self._hashing.close()
        self._hooking.close()

    def mechanisms(self, is_secure: bool) -> tuple[str, ...]:
        """What is offered to a client, in order; empty: no AUTH."""
        if not is_secure and not self._options.is_plain_allowed:
            return ()  # RFC 4954 4: even a good mechanism does not protect what follows it
        return tuple(name for name in self._options.mechanisms if self._sources.offers(name))

    def begin(self, mechanism: str, address: str, is_secure: bool) -> Exchange | None:
        """An exchange with the client at `address`; None: that mechanism is not offered to it."""
        name = mechanism.upper()
        if name not in self.mechanisms(is_secure):
            return None
        client = Client(address, is_secure)

        def is_locked(login: str) -> bool:
            return self._is_locked is not None and self._is_locked(login, address)

        exchange = self._exchange(name, client, is_locked)
        return Turns(exchange, self._loop, self._chance, self._warn, is_locked)

    def may_send_as(self, login: str, reverse_path: bytes) -> bool:
        """Whether `login` ("": not logged in) may use a canonical reverse-path."""
        return self._senders.current(self._loop.time()).may(login, reverse_path)

    def _exchange(self, name: str, client: Client, is_locked: Callable[[str], bool]) -> Exchange:
        if name == "PLAIN":
            return PlainExchange(self._sources, client)
        if name == "LOGIN":
            return LoginExchange(self._sources, client)
        if name == SCRAM:
            return ScramExchange(self._sources, client, self._nonce, is_locked)
        if name in TOKEN_MECHANISMS:
            return BearerExchange(self._sources, client, name)
        assert self._dovecot is not None  # or it would not be offered
        return DovecotExchange(self._dovecot, name, client)

    def _own_users(self) -> OwnUsers | None:
        options = self._options
        if not options.users_file and not options.users:
            return None
        source = UserSource(options.users_file, self._secret, self._warn)
        known = source.current()
        rounds = known.scram_iterations if known.has_scram else SCRAM_ITERATIONS_MIN
        try:
            listed = parse_list(
                options.users, self._secret, rounds if SCRAM in options.mechanisms else 0
            )
        except BadLine as problem:
            raise AuthError(f"list of users: {problem}") from None
        source.add_listed(listed)
        verified = Verified(self._secret, self._loop.time)
        return OwnUsers(source, self._hashing, verified, self._warn)

    def _make_hook(self, name: str) -> Hook | None:
        if not name:
            return None
        try:
            function = load_hook(name)
        except BadHook as problem:
            raise AuthError(str(problem)) from problem
        return Hook(function, self._loop, self._hooking, HOOK_TIMEOUT_S)

    def _make_dovecot(self) -> Dovecot | None:
        where = self._options.dovecot
        if not where:
            return None
        try:
            dialler = Dialler(where, self._loop)
        except BadPlace as problem:
            raise AuthError(str(problem)) from problem
        ports = DovecotPorts(
            connect=dialler.connect,
            client_id=lambda: 1 + secrets.randbelow(ID_MAX),
            warn=self._warn,
        )
        return Dovecot(self._loop, ports, DOVECOT_TIMEOUT_S)
