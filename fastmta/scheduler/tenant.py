"""For whom mail is counted: shares, limits and retries go by tenant."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator
from typing import TypeAlias

import msgspec

from fastmta.message import Envelope

from .retry import RetryPolicy

Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network

OWN_NAME = "fastmta"  # of the mail that we make ourselves: notifications
KNOWN_MAX = 65_536  # answers that are remembered
_HIGH, _BULK = 0, 2


class Tenant(msgspec.Struct, frozen=True, gc=False):
    """A name that mail is counted for. There is one tenant of a name, however its mail came."""

    name: str
    weight: int = 1  # its share beside others of its class at one destination
    priority: int = 1  # 0 high, 1 normal, 2 bulk
    retry: RetryPolicy | None = None  # None: the default one

    def __post_init__(self) -> None:
        if not self.name or self.weight < 1 or not _HIGH <= self.priority <= _BULK:
            raise ValueError("a tenant has a name, a weight of 1 or more, and a priority of 0 to 2")


class TenantRule(msgspec.Struct, frozen=True):
    """Whose mail is that of `tenant`.

    Mail of one of the `clients`, or of one of the `logins`; if there are `senders`, only what is
    from one of them, too. Without clients and logins: whatever is from one of the `senders`;
    without these as well: mail of the login that is called like the tenant.
    """

    tenant: Tenant
    clients: tuple[Network, ...] = ()
    logins: tuple[str, ...] = ()
    senders: tuple[str, ...] = ()  # `a@b.example`, `b.example`, `.b.example` (its subdomains)


class Tenants:
    """Finds the tenant of a message: by the first rule that matches; else the tenant that is called
    like its login, or like its client's address. Our own mail is that of `OWN_NAME`.

    Rules are found by what they ask for, so that thousands of them cost no more than a few; and
    answers are remembered, by no more of an envelope than some rule looks at.
    """

    __slots__ = ("_addresses", "_known", "_logins", "_named", "_networks", "_rules", "_senders",
                 "is_each_by_itself")  # fmt: skip

    def __init__(self, *rules: TenantRule, is_each_by_itself: bool = False) -> None:
        self.is_each_by_itself = is_each_by_itself
        self._rules = rules
        # Numbers of the rules, by what they ask for.
        self._logins: dict[str, list[int]] = {}
        self._networks: dict[tuple[int, int], dict[int, list[int]]] = {}
        self._senders: dict[bytes, list[int]] = {}
        self._named: dict[str, Tenant] = {}
        # By login, client, and, where there are rules of senders, their domain; or the reverse-path
        # itself, where a rule names it.
        self._known: dict[tuple[object, ...], Tenant] = {}
        for number, rule in enumerate(rules):
            self._named.setdefault(rule.tenant.name, rule.tenant)
            self._index(number, rule)
        self._addresses = frozenset(one for one in self._senders if b"@" in one)

    def _index(self, number: int, rule: TenantRule) -> None:
        logins = rule.logins
        if not (logins or rule.clients or rule.senders):
            logins = (rule.tenant.name,)
        for login in logins:
            self._logins.setdefault(login, []).append(number)
        for network in rule.clients:
            of_size = self._networks.setdefault((network.version, network.prefixlen), {})
            of_size.setdefault(int(network.network_address), []).append(number)
        for sender in rule.senders:
            self._senders.setdefault(sender.lower().encode(), []).append(number)

    def of(self, envelope: Envelope) -> Tenant:
        """The tenant of a message. Never raises."""
        client = envelope.client
        key: tuple[object, ...]
        if self._senders:
            path = envelope.reverse_path.lower()
            sender = path if path in self._addresses else path.rpartition(b"@")[2]
            key = (envelope.tenant or client.login, client.address, sender)
        else:
            key = (envelope.tenant or client.login, client.address)
        tenant = self._known.get(key)
        if tenant is None:
            if len(self._known) >= KNOWN_MAX:
                self._known.clear()
            tenant = self._known[key] = self._find(envelope)
        return tenant

    def named(self, name: str) -> Tenant:
        """The tenant of that name, which rules may have said more of."""
        return self._named.get(name) or Tenant(name)

    def owner(self, envelope: Envelope) -> str:
        """The name of a tenant whose mail has next hops of its own; "" for all others.

        Those are the tenants of the rules, or (`is_each_by_itself`) all.
        """
        name = self.of(envelope).name
        return name if self.is_each_by_itself or name in self._named else ""

    def _find(self, envelope: Envelope) -> Tenant:
        login = envelope.tenant or envelope.client.login
        address = envelope.client.address
        senders = set(self._by_sender(envelope.reverse_path))
        found = [
            number
            for number in (*self._logins.get(login, ()), *self._by_address(address))
            if not self._rules[number].senders or number in senders
        ]
        found += [number for number in senders if not _asks_who(self._rules[number])]
        name = (
            self._rules[min(found)].tenant.name
            if found
            else login or _place_of(address) or OWN_NAME
        )
        return self.named(name)

    def _by_address(self, address: str) -> Iterator[int]:
        if not self._networks:
            return
        try:
            ip = ipaddress.ip_address(address.partition("%")[0])
        except ValueError:  # our own mail has none
            return
        number = int(ip)
        for (version, size), of_size in self._networks.items():
            if version == ip.version:
                host_bits = ip.max_prefixlen - size
                yield from of_size.get(number >> host_bits << host_bits, ())

    def _by_sender(self, path: bytes) -> Iterable[int]:
        if not self._senders or not path:
            return
        path = path.lower()
        yield from self._senders.get(path, ()) if b"@" in path else ()
        domain = path.rpartition(b"@")[2]
        yield from self._senders.get(domain, ())
        dot = domain.find(b".", 1)
        while dot > 0:  # a.b.c is one of .b.c and of .c
            yield from self._senders.get(domain[dot:], ())
            dot = domain.find(b".", dot + 1)


def _place_of(address: str) -> str:
    """A client by what it cannot change at will: of an IPv6 address its /64."""
    if ":" not in address:
        return address
    try:
        ip = ipaddress.IPv6Address(address.partition("%")[0])
    except ValueError:
        return address
    if ip.ipv4_mapped is not None or ip.is_loopback:
        return address
    return str(ipaddress.IPv6Network((int(ip) >> 64 << 64, 64)))


def _asks_who(rule: TenantRule) -> bool:
    return bool(rule.clients or rule.logins)
