"""Relay control: trusted networks, logins and listed certificates may send to anyone.

Everybody else may send to `relay.domains` only.
"""

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass, field

from fastmta.smtp import Reply
from fastmta.smtp import reply as replies

_POSTMASTER = b"postmaster"
_KNOWN_MAX = 4096  # clients whose rights are remembered


@dataclass(frozen=True, slots=True)
class RelayPolicy:
    """The rules of one server; `admit` narrows them to one client."""

    networks: tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]
    domains: frozenset[bytes]  # exact names, lower case
    parents: frozenset[bytes]  # `.example.com` entries, without the dot
    origin: bytes  # appended to unqualified addresses of trusted clients
    postmaster: bytes  # where <postmaster> goes
    fingerprints: frozenset[str] = frozenset()  # certificates of clients that may relay
    _known: dict[str, "RelayRights"] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def build(
        cls,
        networks: Iterable[str],
        domains: Iterable[str],
        origin: str,
        postmaster: str,
        fingerprints: Iterable[str] = (),
    ) -> "RelayPolicy":
        """Rules from configuration text; raises ValueError for a bad network.

        `fingerprints` are SHA-256 in lower-case hex.
        """
        names = [name.lower().encode("ascii") for name in domains]
        return cls(
            networks=tuple(ipaddress.ip_network(network, strict=False) for network in networks),
            domains=frozenset(name for name in names if not name.startswith(b".")),
            parents=frozenset(name[1:] for name in names if name.startswith(b".")),
            origin=origin.lower().encode("ascii"),
            postmaster=postmaster.encode("ascii"),
            fingerprints=frozenset(fingerprints),
        )

    def admit(self, address: str, login: str = "", fingerprint: str = "") -> "RelayRights":
        """Rights of a client; a login or a listed certificate makes it a trusted one."""
        if login or (fingerprint and fingerprint in self.fingerprints):
            return RelayRights(self, True, True)
        known = self._known.get(address)
        if known is None:
            if len(self._known) >= _KNOWN_MAX:
                self._known.clear()
            known = self._known[address] = self._judge(address)
        return known

    def _judge(self, address: str) -> "RelayRights":
        ip = ipaddress.ip_address(address.partition("%")[0])
        is_trusted = any(
            ip in network for network in self.networks if network.version == ip.version
        )
        return RelayRights(self, is_trusted, False)

    def accepts_domain(self, domain: bytes) -> bool:
        """Whether `domain` (lower case) is one that we relay for, from anyone."""
        if domain in self.domains:
            return True
        while self.parents and (dot := domain.find(b".")) >= 0:
            domain = domain[dot + 1 :]
            if domain in self.parents:
                return True
        return False


class RelayRights:
    """What one client may do."""

    __slots__ = ("is_known", "is_trusted", "policy")

    def __init__(self, policy: RelayPolicy, is_trusted: bool, is_known: bool) -> None:
        self.policy = policy
        self.is_trusted = is_trusted
        self.is_known = is_known

    def reverse_path(self, path: bytes) -> bytes | Reply:
        """Null and qualified paths pass; unqualified (`local-part@`) ones get the origin."""
        if not path.endswith(b"@"):
            return path
        if self.is_trusted:
            return path + self.policy.origin
        return replies.r501_need_domain(path)

    def forward_path(self, path: bytes) -> bytes | Reply:
        """Relay control on the final mailbox; <postmaster> always passes (RFC 5321 4.5.1)."""
        local_part, _, domain = path.rpartition(b"@")
        if not domain:
            if local_part.lower() == _POSTMASTER:
                return self.policy.postmaster
            if self.is_trusted:
                return path + self.policy.origin
            return replies.r501_need_domain(path)
        if self.is_trusted:
            return path
        # "%", "!" and a second "@" in the local part are routing tricks from a stranger: a server
        # behind us might honour them, and our relay control would have looked at the wrong domain.
        if self.policy.accepts_domain(domain):
            if any(mark in local_part for mark in (b"%", b"!", b"@")):
                return replies.r554_relay_denied(path)
            return path
        return replies.r554_relay_denied(path)
