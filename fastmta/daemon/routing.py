"""From the configuration to routes, ways and the filter of addresses.

What a next hop may be is decided once, at the start: a sender that is new in a credentials file
counts after the next one.
"""

from __future__ import annotations

import os
from collections.abc import Iterable

from msgspec.structs import replace

from fastmta.config import Config
from fastmta.config.preset import PORT, expand, is_preset
from fastmta.config.relay import AnyRelay, Route
from fastmta.config.relay import TlsPolicy as TlsSection
from fastmta.config.relaycheck import has_login, has_own_login, preset_of, tls_level, transport_of
from fastmta.config.target import LOCAL_TRANSPORTS, RELAY_NAME, with_port
from fastmta.route import OwnHosts, RouteTable
from fastmta.route.filter import AddressFilter
from fastmta.route.hop import PLAIN_WAY, parse_destination
from fastmta.route.owned import OwnedTable
from fastmta.route.rule import Exit, Rule, exit_local, exit_to
from fastmta.route.way import TlsLevel, TlsPolicy, Way
from fastmta.route.ways import Fallback, TlsRule, Ways, credentials_name
from fastmta.spool import SpoolError

from .senderfile import read_senders
from .shaping import has_owners, owners_fingerprint, tenants
from .sockets import BadStart

_FAMILIES = {"any": "", "ipv4": "4", "ipv6": "6", "ipv4-only": "4only", "ipv6-only": "6only"}
_WILDCARDS = ("0.0.0.0", "::")


def route_table(config: Config) -> RouteTable | OwnedTable:
    """All routes, and whose mail waits by itself.

    Reads files of credentials by sender; raises BadStart, which names the key.
    """
    exits = {name: _exit(name, relay) for name, relay in config.relays.items()}
    hosts = hosts_of(config.relay)
    exits["relay"] = default = _exit("", config.relay)
    exits["mx"] = Exit()
    rules = [Rule(_target(route, exits), route.recipient, route.sender) for route in config.route]
    table = RouteTable(hosts, logins=default.logins, rules=rules)
    if not has_owners(config):
        return table
    return OwnedTable(table, tenants(config).owner, owners_fingerprint(config))


def offline_table(config: Config) -> RouteTable | OwnedTable:
    """As `route_table`, for the tools of a spool. Raises SpoolError."""
    try:
        return route_table(config)
    except BadStart as error:
        raise SpoolError(str(error)) from error


def missing_directories(config: Config) -> list[str]:
    """Warnings of directories that routes lead to and that are not there."""
    said = []
    for number, route in enumerate(config.route, 1):
        transport, _, path = route.to.partition(":")
        if transport == "file" and not os.path.isdir(path):
            said.append(f"route.{number}.to: there is no directory {path}: its mail waits for it")
    return said


def ways(config: Config) -> Ways:
    """How mail is handed over, by route."""
    plain = Way(tls=_policy(config, config.delivery.tls), family=_FAMILIES[config.delivery.family])
    named = {name: _way(config, name, relay) for name, relay in config.relays.items()}
    fallbacks = {"": _fallbacks(config, config.relay, plain, named)}
    for name, relay in config.relays.items():
        fallbacks[name] = _fallbacks(config, relay, plain, named)
    return Ways(
        mx=plain,
        relay=_way(config, "", config.relay) if config.relay.host else plain,
        plain=plain,
        named=named,
        fallbacks={name: found for name, found in fallbacks.items() if found},
        tls_rules=tuple(_tls_rule(config, section) for section in config.tls_policy),
    )


def address_filter(config: Config, own: OwnHosts) -> AddressFilter:
    """Where DNS must not lead us."""
    bound = {address for address, _ in own.listeners if address not in _WILDCARDS}
    return AddressFilter(own.interfaces | bound, config.delivery.allow_addresses)


def hosts_of(relay: AnyRelay) -> list[str]:
    """The relay's hosts, with presets spelled out."""
    return [f"[{expand(host).host}]:{PORT}" if is_preset(host) else host for host in relay.host]


def _exit(name: str, relay: AnyRelay) -> Exit:
    logins: Iterable[str] = ()
    if relay.credentials_file:
        key = f"{credentials_name(name)}.credentials_file"
        try:
            logins = read_senders(relay.credentials_file)
        except OSError as error:
            reason = error.strerror or error
            raise BadStart(f"{key}: {relay.credentials_file}: {reason}") from None
        except ValueError as error:  # it names the file and never a password
            raise BadStart(f"{key}: {error}") from None
    keys = frozenset(sender.encode() for sender in logins)
    return exit_to(hosts_of(relay), transport_of(relay), name, keys)


def _target(route: Route, exits: dict[str, Exit]) -> Exit:
    if RELAY_NAME.fullmatch(route.to):
        return exits[route.to]
    transport, _, rest = route.to.partition(":")
    if transport in LOCAL_TRANSPORTS:
        return exit_local(route.to)
    return exit_to([rest], transport, PLAIN_WAY)


def _way(config: Config, name: str, relay: AnyRelay) -> Way:
    delivery = config.delivery
    preset = preset_of(relay)
    return Way(
        name=name,
        transport=transport_of(relay),
        tls=_policy(
            config,
            tls_level(relay, delivery.tls),
            relay.tls_names,
            relay.fingerprints,
            relay.ca_file,
        ),
        credentials=credentials_name(name) if has_own_login(relay) else "",
        is_auth_forced=relay.insecure_auth and has_login(relay),
        hostname=relay.hostname,
        sources=relay.source,
        bounce_from=relay.bounce_from.encode(),
        family=_FAMILIES[relay.family or delivery.family],
        provider="" if preset is None else preset.provider,
    )


def _policy(
    config: Config,
    level: str,
    names: tuple[str, ...] = (),
    fingerprints: tuple[str, ...] = (),
    ca_file: str = "",
) -> TlsPolicy:
    delivery = config.delivery
    return TlsPolicy(
        level=TlsLevel[level.upper()],
        names=names,
        fingerprints=fingerprints,
        ca_file=ca_file or delivery.ca_file,
        version_min=delivery.tls_minimum,
        ciphers=delivery.tls_ciphers,
    )


def _tls_rule(config: Config, section: TlsSection) -> TlsRule:
    policy = _policy(config, section.level, section.names, section.fingerprints, section.ca_file)
    return TlsRule(policy, section.domain, section.mx)


def _fallbacks(
    config: Config, relay: AnyRelay, plain: Way, named: dict[str, Way]
) -> tuple[Fallback, ...]:
    found = []
    for text in relay.fallback:
        if text in config.relays:
            other = config.relays[text]
            transport = transport_of(other)
            hosts, way = hosts_of(other), named[text]
        else:
            transport, hosts, way = "smtp", [text], plain
        destinations = [parse_destination(with_port(host, transport), transport) for host in hosts]
        found.append(Fallback(tuple(destinations), _unfiltered(way)))
    return tuple(found)


def _unfiltered(way: Way) -> Way:
    """The operator named these hosts."""
    return replace(way, is_unfiltered=True)
