"""Which way a next hop is delivered by: what the configuration says of relays and of TLS."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec
from msgspec.structs import replace

from .hop import PLAIN_WAY, Destination, NextHop
from .way import DEFAULT_WAY, TlsLevel, TlsPolicy, Way

SUBMISSIONS_PORT = 465  # RFC 8314 3.3: TLS from the first octet


def credentials_name(relay: str, login: str = "") -> str:
    """By what a delivery asks for credentials: the relay's section, and whose they are."""
    section = f"relays.{relay}" if relay else "relay"
    return f"{section}/{login}" if login else section


class TlsRule(msgspec.Struct, frozen=True, gc=False):
    """What TLS must be with these domains, or with these hosts of MX records.

    `name` stands for itself, `.name` for its subdomains; all in lower case.
    """

    policy: TlsPolicy
    domains: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()

    def holds(self, domain: str, hosts: Sequence[str], default: TlsLevel) -> bool:
        """Whether this is the rule for mail to `domain`, whose MX hosts are `hosts`.

        A rule that asks for more than the default holds as soon as one host is named in it; one
        that asks for less, only when all are.
        """
        if _is_in(domain, self.domains):
            return True
        named = [_is_in(host, self.hosts) for host in hosts]
        return any(named) if self.policy.level > default else bool(named) and all(named)


class Fallback(msgspec.Struct, frozen=True, gc=False):
    """Where mail goes when the way it should go is closed."""

    destinations: tuple[Destination, ...]
    way: Way


class Ways(msgspec.Struct, frozen=True):
    """All ways of one configuration."""

    mx: Way = DEFAULT_WAY  # to the MX hosts of recipients' domains
    relay: Way = DEFAULT_WAY  # to the default relay
    plain: Way = DEFAULT_WAY  # to hosts that a rule names itself
    named: Mapping[str, Way] = {}  # to further relays
    fallbacks: Mapping[str, tuple[Fallback, ...]] = {}  # by name of the way; "": `mx` and `relay`
    tls_rules: tuple[TlsRule, ...] = ()  # for MX hosts; the first that holds

    def way_of(self, hop: NextHop) -> Way | None:
        """The way of `hop`, but for what only a look-up can tell; None: there is none of its name.

        Whatever the operator named himself is not filtered; what DNS leads to is.
        """
        if not hop.destinations:
            return Way(transport=hop.transport, argument=hop.argument)
        is_named = hop.destinations[0].is_relay
        if hop.way == PLAIN_WAY:
            way: Way | None = self.plain
        elif hop.way:
            way = self.named.get(hop.way)
        else:
            way = self.relay if is_named else self.mx
        if way is None:
            return None
        if way.transport != hop.transport or way.is_unfiltered is not is_named:
            way = replace(way, transport=hop.transport, is_unfiltered=is_named)
        way = settle_implicit(way, hop.destinations)
        if hop.login:
            way = replace(way, credentials=credentials_name(hop.way, hop.login))
        return DEFAULT_WAY if way == DEFAULT_WAY else way  # which delivery knows at a glance

    def settle(self, way: Way, hop: NextHop, hosts: Sequence[str]) -> Way:
        """`way` of `hop`, now that its `hosts` are known."""
        domain = hop.destinations[0].host
        if not way.is_unfiltered:
            level = way.tls.level
            for rule in self.tls_rules:
                if rule.holds(domain, hosts, level):
                    way = replace(way, tls=rule.policy)
                    break
        return settle_names(way, hop.destinations, is_tls_required=hop.is_tls_required)

    def fallbacks_of(self, hop: NextHop) -> tuple[Fallback, ...]:
        """Where mail of `hop` goes when that way is closed, in order."""
        return self.fallbacks.get(hop.way, ())


def settle_implicit(way: Way, destinations: Sequence[Destination]) -> Way:
    """`way` with what follows from its port or socket."""
    tls = way.tls
    if destinations[0].is_socket:
        tls = TlsPolicy(TlsLevel.NONE)
    elif destinations[0].port == SUBMISSIONS_PORT and destinations[0].is_relay:
        tls = replace(tls, is_implicit=True, level=max(tls.level, TlsLevel.ENCRYPT))
    return way if tls == way.tls else replace(way, tls=tls)


def settle_names(way: Way, destinations: Sequence[Destination], *, is_tls_required: bool) -> Way:
    """`way` with the names of level SECURE written out, so that they are part of the site's key:
    one session must not serve two domains of which it has proved one.

    REQUIRETLS asks for a verified certificate, and DNS proves no name here (RFC 8689 4.2.1).
    """
    tls = way.tls
    if destinations[0].is_socket:
        return way
    if is_tls_required and tls.level is not TlsLevel.FINGERPRINT:
        tls = replace(tls, level=max(tls.level, TlsLevel.SECURE))
    if tls.level is TlsLevel.SECURE and not tls.names:
        names: list[str] = []
        for one in destinations:
            names += [one.host, f".{one.host}"] if one.has_mx_lookup else [one.host]
        tls = replace(tls, names=tuple(dict.fromkeys(names)))
    return way if tls == way.tls else replace(way, tls=tls)


def _is_in(name: str, patterns: Sequence[str]) -> bool:
    return any(
        name.endswith(one) and name != one if one.startswith(".") else name == one
        for one in patterns
    )
