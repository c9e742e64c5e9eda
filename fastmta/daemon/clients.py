"""One worker's ports for its sessions: logins, limits and hooks, by the configuration."""

from __future__ import annotations

import asyncio
import secrets
import sys
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from fastmta.budget import ClientLimits, Tally
from fastmta.config import Config
from fastmta.event import Event, Notice, Severity
from fastmta.security import Authenticator

from .blame import name_key
from .inbound import Inbound, name_tls_key
from .settings import auth_options, client_limit_options
from .sockets import BadStart

if TYPE_CHECKING:
    from fastmta.hooks import AiosmtpdHooks
    from fastmta.smtp.tls import TlsFacts

_REFRESH_INTERVAL_S = 5.0
_OVERFLOW_INTERVAL_S = 60.0  # between warnings of full tables
_SECRET_OCTETS = 32
_DOVECOT = "dovecot: "  # how our client of Dovecot begins what it tells

Emit = Callable[[Event], None]


def make_limits(config: Config, inbound: Inbound, index: int) -> ClientLimits:
    """What clients may use up, as worker `index` counts it."""
    return ClientLimits(
        client_limit_options(config),
        Tally(memoryview(inbound.clients), inbound.workers, index),
        Tally(memoryview(inbound.accounts), inbound.workers, index),
        time.monotonic_ns,
        inbound.tally_secret,
    )


def make_authenticator(
    config: Config,
    loop: asyncio.AbstractEventLoop,
    emit: Emit,
    secret: bytes,
    is_locked: Callable[[str, str], bool] | None = None,
) -> Authenticator | None:
    """None: no listener offers AUTH. Raises BadStart, which names the key."""
    if not offers_login(config):
        return None

    def warn(text: str) -> None:
        emit(Notice("smtpd", name_auth_key(config, text) or text, Severity.WARNING))

    for directory in reversed(config.hooks.directories):  # `[auth]` may name functions, too
        if directory not in sys.path:
            sys.path.insert(0, directory)

    try:
        return Authenticator(auth_options(config), loop, warn, secret=secret, is_locked=is_locked)
    except ValueError as error:
        text = str(error)
        raise BadStart(name_auth_key(config, text) or f"auth: {text}") from error


def offers_login(config: Config) -> bool:
    """Whether any listener has AUTH."""
    return any(listen.login_level != "off" for listen in config.listen.values())


def name_auth_key(config: Config, text: str) -> str:
    """A problem or warning of logins, with the key in front that it is about; "": none is."""
    auth = config.auth
    if text.startswith(_DOVECOT) and auth.dovecot:
        return f"auth.dovecot: {auth.dovecot}: {text.removeprefix(_DOVECOT)}"
    places = [
        ("auth.senders_file", auth.senders_file),
        ("auth.accounts_file", auth.accounts_file),
        ("auth.hook", auth.hook),
        ("auth.token_hook", auth.token_hook),
        ("auth.dovecot", auth.dovecot),
        ("auth.users", "list of users"),
    ]
    return name_key(text, places)


def make_hooks(config: Config, loop: asyncio.AbstractEventLoop, emit: Emit) -> AiosmtpdHooks | None:
    """None: no handler is configured. Raises BadStart."""
    hooks = config.hooks
    if not hooks.aiosmtpd:
        return None
    from fastmta.hooks import AiosmtpdHooks, HookOptions  # aiosmtpd takes 10 MB, which few need

    def report(text: str) -> None:
        emit(Notice("smtpd", text, Severity.WARNING))

    options = HookOptions(
        hooks.aiosmtpd,
        arguments=hooks.arguments,
        directories=hooks.directories,
        mode=hooks.mode,
        timeout_s=hooks.timeout_s,
        threads=hooks.threads,
        decode_data=hooks.decode_data,
        message_octets_max=config.limits.message_octets,
        authenticator=hooks.authenticator,
        auth_require_tls=not config.auth.without_tls,
    )
    try:
        return AiosmtpdHooks(options, loop, report)
    except ValueError as error:
        raise BadStart(f"hooks.aiosmtpd: {error}") from error


def try_clients(config: Config) -> list[str]:
    """What only files and other people's code show: BadStart, or warnings.

    Makes what a worker makes; to be called where none of that matters afterwards.
    """
    said: list[str] = []

    def note(event: Event) -> None:
        if isinstance(event, Notice):
            said.append(event.text)

    async def make() -> None:
        loop = asyncio.get_running_loop()
        make_authenticator(config, loop, note, secrets.token_bytes(_SECRET_OCTETS))
        hooks = make_hooks(config, loop, note)
        if hooks is not None:
            _check_handler(config, has_logins(hooks))

    asyncio.run(make())
    return said


class _NoSession:
    """What a handler sees of a session that there is not."""

    client = "nobody"
    peer = ("127.0.0.1", 0)
    hostname = "localhost"
    tls: TlsFacts | None = None


def has_logins(hooks: AiosmtpdHooks) -> bool:
    """Whether the handler, or its authenticator, judges logins."""
    session = hooks.begin(_NoSession())
    session.ended()
    return session.authenticate is not None


def _check_handler(config: Config, has_logins: bool) -> None:
    """Raises BadStart when a listener wants logins and the handler was the last to judge them."""
    auth = config.auth
    sources = (auth.users, auth.accounts_file, auth.dovecot, auth.hook, auth.token_hook)
    if has_logins or any(sources):
        return
    for name, listen in config.listen.items():
        if listen.login_level != "off":
            raise BadStart(
                f"listen.{name}: nobody could log in: {config.hooks.aiosmtpd} has no auth_ methods "
                "and there is no hooks.authenticator; set one, or auth.accounts_file, auth.users, "
                "auth.dovecot or auth.hook"
            )


class Refresher:
    """Looks every few seconds at what changes by itself, and tells what is wrong with it.

    That is the files of TLS and how long certificates last, and whether clients are still counted.
    """

    def __init__(
        self,
        config: Config,
        inbound: Inbound,
        limits: ClientLimits,
        loop: asyncio.AbstractEventLoop,
        emit: Emit,
        *,
        is_telling_tls: bool,
    ) -> None:
        """`is_telling_tls`: whether this is the worker that speaks for all of them."""
        self._config = config
        self._contexts = tuple(inbound.contexts.values())
        self._limits = limits
        self._loop = loop
        self._emit = emit
        self._is_telling_tls = is_telling_tls
        self._overflow = limits.overflow  # as of the latest warning
        self._overflow_again_s = 0.0  # no warning before
        # All contexts are made of the same files, but for `client_ca`.
        self._tell_tls(text for context in self._contexts[:1] for text in context.warnings)
        self._turn()

    def renew(self, config: Config, inbound: Inbound, limits: ClientLimits) -> None:
        """Look at these from now on."""
        contexts = tuple(inbound.contexts.values())
        self._config = config
        if contexts != self._contexts:
            self._contexts = contexts
            self._tell_tls(text for context in contexts[:1] for text in context.warnings)
        if limits is not self._limits:
            self._limits, self._overflow = limits, limits.overflow

    def _turn(self) -> None:
        self._timer = self._loop.call_later(_REFRESH_INTERVAL_S, self._turn)
        said = [text for context in self._contexts for text in context.refresh()]
        self._tell_tls(dict.fromkeys(said))
        self._look_at_tables()

    def _tell_tls(self, texts: Iterable[str]) -> None:
        if self._is_telling_tls:
            for text in texts:
                self._tell(name_tls_key(self._config, text))

    def _look_at_tables(self) -> None:
        overflow, now_s = self._limits.overflow, self._loop.time()
        if overflow <= self._overflow or now_s < self._overflow_again_s:
            return
        count, self._overflow = overflow - self._overflow, overflow
        self._overflow_again_s = now_s + _OVERFLOW_INTERVAL_S
        self._tell(
            f"client_limits: {count} times a client or an account was not counted, because this "
            "worker's table is full: limits do not hold for it"
        )

    def _tell(self, text: str) -> None:
        self._emit(Notice("smtpd", text, Severity.WARNING))
