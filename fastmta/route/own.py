"""Which hosts are we ourselves: the end of every mail loop through MX records."""

import ipaddress
from collections.abc import Iterable

import msgspec


class OwnHosts(msgspec.Struct, frozen=True):
    """Our names and listening addresses. All addresses in canonical text."""

    names: frozenset[str] = frozenset()  # lower case
    listeners: frozenset[tuple[str, int]] = frozenset()  # (address, port); 0.0.0.0 and :: mean all
    interfaces: frozenset[str] = frozenset()  # what 0.0.0.0 and :: stand for, beside loopback

    @classmethod
    def of(
        cls,
        names: Iterable[str],
        listeners: Iterable[tuple[str, int]],
        interfaces: Iterable[str] = (),
    ) -> "OwnHosts":
        """From any spelling. Raises ValueError for what is no address."""
        return cls(
            frozenset(name.removesuffix(".").lower() for name in names),
            frozenset((str(ipaddress.ip_address(address)), port) for address, port in listeners),
            frozenset(str(ipaddress.ip_address(address)) for address in interfaces),
        )

    def has_listener(self, address: str, port: int) -> bool:
        """Whether connecting to `address` and `port` would reach ourselves."""
        if (address, port) in self.listeners:
            return True
        wildcard = "::" if ":" in address else "0.0.0.0"
        if (wildcard, port) not in self.listeners:
            return False
        return address in self.interfaces or ipaddress.ip_address(address).is_loopback
