"""What a courier needs of other rooms: TLS contexts, logins, the filter of addresses."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, TypeAlias

from fastmta.config import Config
from fastmta.config.relay import AnyRelay
from fastmta.config.relaycheck import has_login, relays_of
from fastmta.delivery.classify import Rules, load_rules
from fastmta.delivery.ports import CountTls, CourierPorts
from fastmta.delivery.rulefile import RuleProblem
from fastmta.event import Event, Notice, Severity
from fastmta.route import OwnHosts
from fastmta.route.way import TlsLevel, TlsPolicy

from .credentials import CredentialStore, TokenSource, read_secret
from .routing import address_filter, ways
from .sockets import BadStart

if TYPE_CHECKING:
    from fastmta.security.client_tls import ClientTls, ClientTlsOptions
    from fastmta.security.token import TokenRequest

_TOKEN_THREADS = 2
Emit = Callable[[Event], None]
Authorities: TypeAlias = dict[str, tuple[int, int, int] | None]


class Contexts:
    """TLS with receivers, from policies of routing; what they need is imported with the first."""

    def __init__(self, is_judged: bool = False) -> None:
        """`is_judged`: of every session it is asked whose certificate it was."""
        from fastmta.security.client_tls import ClientContexts

        self._contexts = ClientContexts()
        self._is_judged = is_judged

    def preparation(self, policy: TlsPolicy) -> Callable[[], None] | None:
        """What takes long before `begin`, to be called in a thread; None: nothing does."""
        return self._contexts.preparation(tls_options(policy), is_judged=self._is_judged)

    def begin(self, policy: TlsPolicy, host: str, names: tuple[str, ...], port: int) -> ClientTls:
        """A session with `host`; `names` are those of the next hop. Raises ValueError."""
        return self._contexts.begin(tls_options(policy), host, names, port)


def tls_options(policy: TlsPolicy) -> ClientTlsOptions:
    """What the room of security takes for `policy`."""
    from fastmta.security.client_tls import ClientTlsOptions

    return ClientTlsOptions(
        level=policy.level.name.lower(),
        names=policy.names,
        fingerprints=policy.fingerprints,
        ca_file=policy.ca_file,
        server_name=policy.server_name,
        version_min=policy.version_min,
        ciphers=policy.ciphers,
    )


def courier_ports(
    config: Config,
    own: OwnHosts,
    emit: Emit,
    loop: asyncio.AbstractEventLoop,
    count_tls: CountTls | None = None,
) -> CourierPorts:
    """The ports of every courier of a worker. Raises BadStart, which names the key."""
    credentials, choose = None, None
    if any(has_login(relay) for _, relay in relays_of(config)):
        from fastmta.security.client_sasl import Credential, ScramKeyCache
        from fastmta.security.client_sasl import choose as choose_mechanism

        def warn(text: str) -> None:
            emit(Notice("smtp", text, Severity.WARNING))

        credentials = CredentialStore(config, Credential, warn, _tokens(config, emit, loop))
        choose = partial(choose_mechanism, keys=ScramKeyCache())
    return CourierPorts(
        contexts=Contexts(config.delivery.log_tls),
        credentials=credentials,
        choose=choose,
        rules=rules(config),
        why_not=address_filter(config, own).why_not,
        count_tls=count_tls,
    )


def rules(config: Config) -> Rules:
    """What refusals mean. Raises BadStart."""
    try:
        return load_rules(config.delivery.reply_rules)
    except RuleProblem as problem:
        lines = [f"delivery.reply_rules: {line}" for line in str(problem).split("\n")]
        raise BadStart("\n".join(lines)) from None


def _tokens(config: Config, emit: Emit, loop: asyncio.AbstractEventLoop) -> dict[str, TokenSource]:
    """Where OAuth 2 tokens come from, by section."""

    def alarm(section: str, text: str) -> None:
        emit(Notice("smtp", f"{section}: {text}", Severity.ERROR))

    found: dict[str, TokenSource] = {}
    threads = None
    for section, relay in relays_of(config):
        if relay.token_file:
            from fastmta.security.token import FileToken

            found[section] = FileToken(relay.token_file)
        elif relay.token_url:
            from fastmta.security.threads import Threads
            from fastmta.security.token import RefreshingToken

            threads = threads or Threads(loop, "token", _TOKEN_THREADS, len(config.relays) + 1)
            try:
                found[section] = RefreshingToken(
                    _token_request(relay), threads, time.monotonic, partial(alarm, section)
                )
            except (OSError, ValueError) as error:
                raise BadStart(f"{section}.token_url: {error}") from None
    return found


def _token_request(relay: AnyRelay) -> TokenRequest:
    from fastmta.security.token import TokenRequest

    return TokenRequest(
        endpoint=relay.token_url,
        client_id=relay.client_id,
        client_secret=read_secret(relay.client_secret, relay.client_secret_file),
        refresh_token=relay.refresh_token,
        refresh_token_file=relay.refresh_token_file,
        scope=relay.token_scope,
    )


def has_tls_options(config: Config) -> bool:
    """Whether there is anything to be wrong with TLS to the outside."""
    return any(_is_special(policy) for _, policy in _policies(config))


def try_tls(config: Config) -> list[str]:
    """Whether every TLS policy can be used: no warnings.

    Raises BadStart, with a line for each that cannot, which names its section or key.
    """
    from fastmta.security.client_tls import check_client_tls

    wrong = []
    for section, policy in _policies(config):
        if _is_special(policy):
            try:
                check_client_tls(tls_options(policy))
            except ValueError as error:
                wrong.append(f"{_blamed(config, section, policy, str(error))}: {error}")
    if wrong:
        raise BadStart("\n".join(dict.fromkeys(wrong)))
    return []


def authorities(config: Config) -> Authorities:
    """The files of CAs that count, as they are now: their paths and what changes with them."""
    found: Authorities = {}
    for path in {policy.ca_file for _, policy in _policies(config) if policy.ca_file}:
        try:
            status = os.stat(path)
        except OSError:
            found[path] = None
        else:
            found[path] = (status.st_mtime_ns, status.st_size, status.st_ino)
    return found


def _blamed(config: Config, section: str, policy: TlsPolicy, text: str) -> str:
    """The key that is wrong, where the text shows it: it begins with the file."""
    delivery = config.delivery
    if policy.ca_file and text.startswith(policy.ca_file):
        return f"{'delivery' if policy.ca_file == delivery.ca_file else section}.ca_file"
    return "delivery.tls_ciphers" if policy.ciphers and repr(policy.ciphers) in text else section


def _policies(config: Config) -> Iterator[tuple[str, TlsPolicy]]:
    found = ways(config)
    yield "delivery", found.mx.tls
    yield "relay", found.relay.tls
    for name, way in found.named.items():
        yield f"relays.{name}", way.tls
    for number, rule in enumerate(found.tls_rules, 1):
        yield f"tls_policy.{number}", rule.policy


def _is_special(policy: TlsPolicy) -> bool:
    """Whether more is set than a level, and it is used."""
    return policy.level is not TlsLevel.NONE and bool(
        policy.ca_file or policy.ciphers or policy.names or policy.fingerprints
    )
