"""From the configuration to what each room takes: the only place that knows both.

Limits that hold over all workers are divided between them, rounded up, at least 1.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable

from fastmta.config import Config, Listen
from fastmta.delivery import DeliveryOptions, TimeLimits
from fastmta.listener import Census, ListenerSettings
from fastmta.policy import RelayPolicy
from fastmta.route import OwnHosts
from fastmta.scheduler import Options, RetryPolicy, SiteOptions
from fastmta.session import SessionSettings
from fastmta.spool import Durability, SpoolOptions

from .descriptor import Division
from .pressure import Limits

_WILDCARDS = ("0.0.0.0", "::")


def share(limit: int, workers: int) -> int:
    """One worker's part of a limit over all workers."""
    return max(1, -(-limit // workers))


def session_settings(config: Config, listen: Listen) -> SessionSettings:
    """Limits of a session of this listener."""
    limits = config.limits
    return SessionSettings(
        hostname=config.hostname,
        message_octets_max=limits.message_octets,
        inline_octets_max=config.spool.big_octets,
        recipients_max=limits.recipients,
        command_octets_max=limits.command_octets,
        errors_soft=limits.errors_soft,
        errors_hard=limits.errors_hard,
        junk_commands_max=limits.junk_commands,
        messages_max=limits.messages_per_session,
        line_endings=listen.line_endings,
        drop_fields=frozenset(name.lower().encode("ascii") for name in config.headers.drop),
    )


def listener_settings(config: Config, division: Division) -> ListenerSettings:
    """Time limits of inbound connections."""
    return ListenerSettings(
        idle_s=config.limits.idle_s,
        session_s=config.limits.session_s,
        backlog=division.backlog,
    )


def census(config: Config, workers: int, division: Division) -> Census:
    """One worker's part of the limits on connections, over all its listeners."""
    return Census(
        min(share(config.limits.connections, workers), division.inbound),
        share(config.limits.connections_per_client, workers),
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
    )


def delivery_options(config: Config) -> DeliveryOptions:
    """Settings of a courier."""
    delivery = config.delivery
    times = delivery.timeouts
    return DeliveryOptions(
        hostname=config.hostname,
        source_addresses=tuple(delivery.source),
        idle_s=delivery.idle_s,
        messages_per_session_max=delivery.messages_per_connection,
        addresses_per_attempt_max=delivery.addresses,
        sessions_per_attempt_max=delivery.sessions,
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
        ),
    )


def scheduler_options(config: Config, workers: int, division: Division) -> Options:
    """Settings of a scheduler; its limits are over all workers."""
    retry = config.retry
    return Options(
        site=SiteOptions(
            connections=config.delivery.site_connections,
            window_start=config.delivery.window_start,
            backoff_first_s=retry.site_backoff_min_s,
            backoff_max_s=retry.site_backoff_max_s,
            jitter=retry.jitter,
        ),
        retry=RetryPolicy(
            first_s=retry.first_s,
            max_s=retry.max_s,
            jitter=retry.jitter,
            lifetime_s=retry.lifetime_s,
            bounce_lifetime_s=retry.bounce_lifetime_s,
        ),
        connections=min(config.delivery.connections, division.outbound * workers),
    )


def spool_options(config: Config, shard: int) -> SpoolOptions:
    """Settings of one shard."""
    return SpoolOptions(
        shard=shard,
        durability=Durability(config.spool.durability),
        segment_octets=config.spool.segment_octets,
        lifetime_s=config.retry.lifetime_s,
        bounce_lifetime_s=config.retry.bounce_lifetime_s,
        clean_s=config.spool.clean_s,
        routing_token=",".join(config.relay.host).encode(),
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
