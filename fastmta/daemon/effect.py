"""How each key takes effect when a running server is told to reload: the table, and what it means.

NOW      in place, at once: what is under way ends as it began
SESSION  in place: sessions that begin from then on have it, open ones keep what they had
ROUTE    in place: as NOW, and what waits is routed again (its index is made anew from the log)
WORKER   workers are replaced, one after the other: transactions and attempts that are open end
         first, nobody who connects is refused, sessions end with 421 between two messages
START    only the next start: the server goes on with what it has
"""

from __future__ import annotations

import enum
from collections.abc import Iterable


class Effect(enum.IntEnum):
    """Ordered: what costs more is larger."""

    NOW = 0
    SESSION = 1
    ROUTE = 2
    WORKER = 3
    START = 4


# The longest prefix of a dotted key counts. Every key has one: a test enumerates them.
EFFECTS: dict[str, Effect] = {
    "hostname": Effect.WORKER,
    "spool": Effect.WORKER,
    "spool.directory": Effect.START,
    "listen": Effect.SESSION,
    "tls": Effect.SESSION,
    "auth": Effect.SESSION,
    "limits": Effect.SESSION,
    "client_limits": Effect.NOW,
    "pressure": Effect.NOW,
    "pressure.memory_octets": Effect.WORKER,
    "relay": Effect.ROUTE,
    "relay.trusted_networks": Effect.SESSION,
    "relay.domains": Effect.SESSION,
    "relay.client_fingerprints": Effect.SESSION,
    "relays": Effect.ROUTE,
    "route": Effect.ROUTE,
    "tls_policy": Effect.ROUTE,
    "delivery": Effect.NOW,
    "retry": Effect.NOW,
    "retry.lifetime_s": Effect.ROUTE,
    "retry.bounce_lifetime_s": Effect.ROUTE,
    "profile": Effect.WORKER,
    "tenant": Effect.WORKER,
    "provider": Effect.WORKER,
    "shape": Effect.NOW,
    "dns": Effect.WORKER,
    "headers": Effect.SESSION,
    "hooks": Effect.WORKER,
    "rewrite": Effect.SESSION,
    "notify": Effect.NOW,
    "notify.classes": Effect.WORKER,
    "notify.delay_s": Effect.WORKER,
    "journal": Effect.WORKER,
    "control": Effect.START,
    "control.users": Effect.WORKER,
    "control.readers": Effect.WORKER,
    "workers": Effect.START,
    "workers.stop_deadline_s": Effect.NOW,
    # Sections of other parts of the server.
    "drop": Effect.WORKER,
    "aliases": Effect.WORKER,
    "metrics": Effect.START,
    "process": Effect.START,
}


def effect_of(dotted: str) -> Effect:
    """How the key takes effect; one that nobody thought of waits for the next start."""
    while dotted and dotted not in EFFECTS:
        dotted = dotted.rpartition(".")[0]
    return EFFECTS.get(dotted, Effect.START)


def worst(keys: Iterable[str]) -> Effect:
    """The costliest effect short of a start of any of them."""
    found = (effect_of(key) for key in keys)
    return max((one for one in found if one is not Effect.START), default=Effect.NOW)


def for_start(keys: Iterable[str]) -> list[str]:
    """Those that only a start takes up."""
    return [key for key in keys if effect_of(key) is Effect.START]
