"""What limits, tenants and profiles lack or contradict, beyond the value of one key."""

from collections.abc import Callable, Iterator
from typing import TypeAlias

from .problem import suggest
from .provider import KNOWN_PROVIDERS
from .rate import ANY
from .schema import Config
from .shaping import PRIORITIES, SELECTORS, Shape

# (dotted key, what is wrong with it, keys to blame instead if that one was not set)
Finding: TypeAlias = tuple[str, str, tuple[str, ...]]


def wrong_with_shapes(config: Config, is_bad: Callable[[str], bool]) -> Iterator[Finding]:
    """Everything that cannot be meant. `is_bad`: the value of that key is wrong already."""
    for name, shape in config.shape.items():
        yield from _wrong_shape(f"shape.{name}", shape, config, is_bad)
    for name, provider in config.provider.items():
        dotted = f"provider.{name}"
        if not provider.mx and not is_bad(f"{dotted}.mx"):
            yield f"{dotted}.mx", "is missing: it says which hosts are the provider's", (dotted,)
    for name, tenant in config.tenant.items():
        key = f"tenant.{name}.profile"
        if tenant.profile and tenant.profile not in config.profile and not is_bad(key):
            hint = suggest(tenant.profile, config.profile)
            yield key, f"there is no [profile.{tenant.profile}]{hint}", ()
    for name, profile in config.profile.items():
        dotted = f"profile.{name}"
        keys = (f"{dotted}.first_s", f"{dotted}.max_s")
        bad = (*keys, "retry.first_s", "retry.max_s")
        if profile.first_s > profile.max_s and not any(map(is_bad, bad)):
            text = f"{keys[0]} ({profile.first_s:g}) is more than {keys[1]} ({profile.max_s:g})"
            yield keys[0], text, (keys[1], dotted)


def _wrong_shape(
    dotted: str, shape: Shape, config: Config, is_bad: Callable[[str], bool]
) -> Iterator[Finding]:
    named = [one for one in SELECTORS if getattr(shape, one) or is_bad(f"{dotted}.{one}")]
    if not named:
        text = f"says nothing of whom it is about: set {', '.join(SELECTORS[:-1])} or tenant"
        yield dotted, text, ()
    is_limit = shape.rate or shape.connections or shape.paused
    if not is_limit and not any(
        is_bad(f"{dotted}.{one}") for one in ("rate", "connections", "paused")
    ):
        yield dotted, "limits nothing: set rate, connections or paused", ()
    known = {**config.provider, **KNOWN_PROVIDERS}
    for one in shape.provider:
        if one != ANY and one not in known:
            hint = suggest(one, known)
            yield f"{dotted}.provider", f"there is no [provider.{one}]{hint}", ()


def doubtful_with_shapes(config: Config) -> Iterator[tuple[str, str]]:
    """What can hardly be meant."""
    most = config.delivery.connections
    for name, shape in config.shape.items():
        if shape.connections > most:
            text = f"there are never as many: delivery.connections is {most}"
            yield f"shape.{name}.connections", text
    used = {tenant.profile for tenant in config.tenant.values()}
    for name, profile in config.profile.items():
        if name not in used:
            yield f"profile.{name}", "no tenant has this profile"
        if profile.delay_s >= profile.lifetime_s:
            text = f"nobody hears of it: mail goes back after {profile.lifetime_s:g} s (lifetime_s)"
            yield f"profile.{name}.delay_s", text
    yield from _doubtful_tenants(config)


def _doubtful_tenants(config: Config) -> Iterator[tuple[str, str]]:
    """Who can never be found, and who is hardly somebody's name."""
    taken: dict[tuple[str, str], str] = {}
    for name, tenant in config.tenant.items():
        if name in PRIORITIES:
            text = f'a tenant is somebody; its class is set by priority = "{name}"'
            yield f"tenant.{name}", text
        logins = tenant.logins
        if not (logins or tenant.clients or tenant.senders):
            logins = (name,)
        asked = [("logins", one) for one in logins]
        asked += [("clients", str(one)) for one in tenant.clients]
        if not asked:
            asked = [("senders", one) for one in tenant.senders]
        takers = {taken[one] for one in asked if one in taken}
        if asked and all(one in taken for one in asked):
            by = " and ".join(f"tenant.{one}" for one in sorted(takers))
            yield f"tenant.{name}", f"its mail is that of {by}, which stands before"
        if not (tenant.senders and (tenant.clients or tenant.logins)):
            for one in asked:
                taken.setdefault(one, name)
