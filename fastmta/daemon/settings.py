"""From the configuration to what each room takes: the only place that knows both.

Limits that hold over all workers are divided between them, rounded up, at least 1.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable

from fastmta.budget import ClientLimitOptions, ClientLimits
from fastmta.config import Config, Listen
from fastmta.config.address import Network
from fastmta.config.inbound import KINDS
from fastmta.delivery import DeliveryOptions, TimeLimits
from fastmta.dsn import NotifyOptions
from fastmta.listener import Census, ListenerSettings
from fastmta.policy import RelayPolicy
from fastmta.route import OwnHosts
from fastmta.scheduler import Options, SiteOptions
from fastmta.scheduler.engine import HUNG_FACTOR
from fastmta.security import AuthOptions
from fastmta.session import SessionSettings
from fastmta.session.settings import Networks
from fastmta.spool import Durability, SpoolOptions

from .descriptor import Division
from .pressure import Limits
from .shaping import default_retry, lifetime_of, profiles, shapes

_WILDCARDS = ("0.0.0.0", "::")


def share(limit: int, workers: int) -> int:
    """One worker's part of a limit over all workers."""
    return max(1, -(-limit // workers))


def session_settings(config: Config, listen: Listen, name: str = "") -> SessionSettings:
    """Limits of a session of this listener, which is called `name`."""
    limits = config.limits
    add_missing = config.headers.add_missing
    spill_octets = config.spool.big_octets
    return SessionSettings(
        hostname=config.hostname,
        message_octets_max=limits.message_octets,
        # A hook sees contents as a whole.
        inline_octets_max=limits.message_octets if config.hooks.aiosmtpd else spill_octets,
        spill_octets=spill_octets,
        recipients_max=limits.recipients,
        command_octets_max=limits.command_octets,
        errors_soft=limits.errors_soft,
        errors_hard=limits.errors_hard,
        junk_commands_max=limits.junk_commands,
        messages_max=limits.messages_per_session,
        auth_failures_max=config.auth.failures_per_session,
        line_endings=listen.line_endings,
        drop_fields=frozenset(name.lower().encode("ascii") for name in config.headers.drop),
        listener=name,
        service=listen.service,
        is_lmtp=listen.kind == "lmtp",
        is_adding_fields=add_missing == "always"
        or (add_missing == "submission" and KINDS[listen.kind].is_adding_fields),
        is_login_required=listen.login_level == "required",
        has_tls=listen.tls_level != "none",
        is_tls_required=listen.tls_level == "encrypt",
        has_auth=listen.login_level != "off",
        is_naming_login=config.headers.name_login,
        xclient=Networks(listen.xclient),
        xforward=Networks(listen.xforward),
        discarded=frozenset(listen.discard_keywords),
    )


def listener_settings(
    config: Config, listen: Listen, division: Division, is_local: bool = False
) -> ListenerSettings:
    """Time limits of inbound connections, and what comes before SMTP."""
    return ListenerSettings(
        idle_s=config.limits.idle_s,
        session_s=config.limits.session_s,
        backlog=division.backlog,
        is_implicit_tls=listen.tls_level == "implicit",
        handshake_s=config.tls.handshake_s,
        proxies=Networks(listen.proxies),
        is_local=is_local,
    )


def census(config: Config, workers: int, division: Division, clients: ClientLimits) -> Census:
    """One worker's part of the limit on connections, over all its listeners."""
    connections_max = min(share(config.limits.connections, workers), division.inbound)
    return Census(connections_max, clients)


def client_limit_options(config: Config) -> ClientLimitOptions:
    """What a client may use up, over all workers."""
    limits = config.client_limits
    return ClientLimitOptions(
        window_s=limits.window_s,
        connections=config.limits.connections_per_client,
        connection_rate=limits.connections,
        messages=limits.messages,
        recipients=limits.recipients,
        tls_sessions=limits.tls_sessions,
        auths=limits.auths,
        auth_failures=limits.auth_failures,
        failure_window_s=limits.auth_failure_s,
        account_failures=limits.account_failures,
        account_window_s=limits.account_failure_s,
        login_messages=limits.login_messages,
        login_recipients=limits.login_recipients,
        prefix_v4=limits.prefix_v4,
        prefix_v6=limits.prefix_v6,
        exceptions=_exceptions(config),
    )


def _exceptions(config: Config) -> tuple[Network, ...]:
    """Whose use is not counted, with the word for trusted networks spelled out."""
    found: list[Network] = []
    for each in config.client_limits.exceptions:
        found += config.relay.trusted_networks if isinstance(each, str) else (each,)
    return tuple(found)


def auth_options(config: Config) -> AuthOptions:
    """Who may log in."""
    auth = config.auth
    return AuthOptions(
        mechanisms=auth.mechanisms,
        is_plain_allowed=auth.without_tls,
        users_file=auth.accounts_file,
        users=auth.users,
        dovecot=auth.dovecot,
        password_hook=auth.hook,
        token_hook=auth.token_hook,
        senders_file=auth.senders_file,
        is_sender_strict=auth.senders == "strict",
    )


def pressure_limits(config: Config) -> Limits:
    """The marks of the gauges."""
    marks = config.pressure
    return Limits(
        calm_s=marks.calm_s,
        volume_free=marks.volume_free,
        memory_used=marks.memory_used,
        descriptors_used=marks.descriptors_used,
        loop_lag_s=marks.loop_lag_s,
        flush_s=marks.flush_s,
        unindexed_octets=marks.unindexed_octets,
    )


def relay_policy(config: Config) -> RelayPolicy:
    """Who may relay what."""
    return RelayPolicy.build(
        (str(network) for network in config.relay.trusted_networks),
        config.relay.domains,
        config.rewrite.origin,
        config.notify.postmaster,
        config.relay.client_fingerprints,
    )


def delivery_options(config: Config, workers: int) -> DeliveryOptions:
    """Settings of a courier; limits are over all workers."""
    delivery = config.delivery
    times = delivery.timeouts
    return DeliveryOptions(
        hostname=config.hostname,
        source_addresses=tuple(delivery.source),
        idle_s=delivery.idle_s,
        sessions_max=share(delivery.connections, workers),
        messages_per_session_max=delivery.messages_per_connection,
        session_age_s_max=delivery.connection_age_s,
        addresses_per_attempt_max=delivery.addresses,
        sessions_per_attempt_max=delivery.sessions,
        line_octets_max=delivery.line_octets,
        is_tls_told=delivery.log_tls,
        is_chunking=delivery.chunking,
        time_limits=TimeLimits(
            connect_s=times.connect_s,
            greeting_s=times.greeting_s,
            helo_s=times.helo_s,
            mail_s=times.mail_s,
            rcpt_s=times.rcpt_s,
            data_s=times.data_s,
            block_s=times.block_s,
            end_of_data_s=times.dot_s,
            quit_s=times.quit_s,
            tls_s=times.tls_s,
        ),
    )


def scheduler_options(config: Config, workers: int, division: Division) -> Options:
    """Settings of a scheduler; its limits are over all workers."""
    retry = config.retry
    descriptors = division.outbound * workers
    connections = min(config.delivery.connections, max(1, descriptors // 2))
    return Options(
        site=SiteOptions(
            connections=config.delivery.site_connections,
            window_start=config.delivery.window_start,
            backoff_first_s=retry.site_backoff_min_s,
            backoff_max_s=retry.site_backoff_max_s,
            jitter=retry.jitter,
        ),
        retry=default_retry(config),
        profiles=profiles(config),
        connections=connections,
        hung=min(HUNG_FACTOR * connections, max(1, descriptors - connections)),
        delay_s=config.notify.delay_s,
        shapes=shapes(config),
    )


def notify_options(config: Config) -> NotifyOptions:
    """Who hears what."""
    notify = config.notify
    return NotifyOptions(
        postmaster=notify.postmaster.encode("ascii"),
        classes=frozenset(notify.classes),
        original_octets=notify.original_octets,
    )


def spool_options(config: Config, shard: int, routing_token: bytes) -> SpoolOptions:
    """Settings of one shard; `routing_token` is the fingerprint of its routes."""
    return SpoolOptions(
        shard=shard,
        durability=Durability(config.spool.durability),
        segment_octets=config.spool.segment_octets,
        lifetime_s=config.retry.lifetime_s,
        bounce_lifetime_s=config.retry.bounce_lifetime_s,
        lifetime_of=lifetime_of(config),
        clean_s=config.spool.clean_s,
        routing_token=routing_token,
    )


def own_hosts(config: Config, bound: Iterable[tuple[str, int]]) -> OwnHosts:
    """Our names and the addresses that we listen on."""
    listeners = tuple(bound)
    interfaces: list[str] = []
    if any(address in _WILDCARDS for address, _ in listeners):
        interfaces = _interface_addresses(config.hostname)
    return OwnHosts.of([config.hostname], listeners, interfaces)


def _interface_addresses(hostname: str) -> list[str]:
    """What a wildcard stands for, as far as our names' own addresses tell."""
    found: set[str] = set()
    for name in {hostname, socket.gethostname()}:
        try:
            answers = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
        except OSError:
            continue  # a name without an address: DNS would not lead to us by it either
        found.update(str(answer[4][0]).partition("%")[0] for answer in answers)
    return sorted(found)
