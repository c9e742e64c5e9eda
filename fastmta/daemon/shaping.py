"""From the configuration to limits, tenants and providers."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

from msgspec.structs import replace

from fastmta.budget.rate import read_rate
from fastmta.budget.shape import Shape
from fastmta.config import Config
from fastmta.config.provider import providers
from fastmta.config.shaping import PRIORITIES
from fastmta.message import Envelope
from fastmta.route.provider import Providers
from fastmta.scheduler import RetryPolicy
from fastmta.scheduler.tenant import Tenant, TenantRule, Tenants


def shapes(config: Config) -> tuple[Shape, ...]:
    """All limits, in the order of the file."""
    return tuple(
        Shape(
            name=name,
            site=section.site,
            domain=section.domain,
            provider=section.provider,
            source=section.source,
            tenant=section.tenant,
            rate=read_rate(section.rate) if section.rate else None,
            connections=section.connections,
            is_paused=section.paused,
        )
        for name, section in config.shape.items()
    )


def tenants(config: Config) -> Tenants:
    """Whom mail is counted for, in the order of the file."""
    by_name = {name: _retry(config, name) for name in config.profile}
    return Tenants(
        *(
            TenantRule(
                Tenant(
                    name,
                    section.weight,
                    PRIORITIES.index(section.priority),
                    by_name.get(section.profile),
                ),
                section.clients,
                section.logins,
                section.senders,
            )
            for name, section in config.tenant.items()
        ),
        is_each_by_itself=_is_each_by_itself(config),
    )


def _is_each_by_itself(config: Config) -> bool:
    """Whether any tenant may have to wait on its own, not only those that have a section."""
    patterns = {one for section in config.shape.values() for one in section.tenant}
    return not patterns <= config.tenant.keys()


def has_owners(config: Config) -> bool:
    """Whether some mail waits by itself because of whose it is."""
    return bool(config.tenant) or _is_each_by_itself(config)


def owners_fingerprint(config: Config) -> bytes:
    """Another one whenever mail may be somebody else's, or a tenant's live longer."""
    digest = hashlib.blake2b(digest_size=16)
    for name, one in config.tenant.items():
        profile = config.profile.get(one.profile)
        lifetimes_s = profile and (profile.lifetime_s, profile.bounce_lifetime_s)
        digest.update(repr((name, one.clients, one.logins, one.senders, lifetimes_s)).encode())
    digest.update(b"each" if _is_each_by_itself(config) else b"named")
    return digest.hexdigest().encode()


def known_providers(config: Config) -> Providers:
    """Those of the configuration, then the ones that are shipped."""
    return Providers(providers({name: one.mx for name, one in config.provider.items()}))


def default_retry(config: Config) -> RetryPolicy:
    """That of mail without a profile."""
    retry = config.retry
    return RetryPolicy(
        first_s=retry.first_s,
        max_s=retry.max_s,
        jitter=retry.jitter,
        lifetime_s=retry.lifetime_s,
        bounce_lifetime_s=retry.bounce_lifetime_s,
    )


def profiles(config: Config) -> tuple[RetryPolicy, ...]:
    """Those that tenants have."""
    names = dict.fromkeys(one.profile for one in config.tenant.values() if one.profile)
    return tuple(_retry(config, name) for name in names)


def lifetime_of(config: Config) -> Callable[[Envelope], float] | None:
    """How long mail lives, in seconds; None: all of it as `[retry]` says."""
    if not profiles(config):
        return None
    whose, default = tenants(config), default_retry(config)
    return lambda envelope: (whose.of(envelope).retry or default).lifetime_of(envelope)


def _retry(config: Config, name: str) -> RetryPolicy:
    profile = config.profile[name]
    return replace(
        default_retry(config),
        first_s=profile.first_s,
        max_s=profile.max_s,
        jitter=profile.jitter,
        lifetime_s=profile.lifetime_s,
        bounce_lifetime_s=profile.bounce_lifetime_s,
        warn_s=profile.delay_s,
    )
