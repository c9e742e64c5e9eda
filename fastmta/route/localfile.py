"""What /etc/resolv.conf and /etc/hosts say, given their text."""

from .hop import host_name, parse_address

NAME_SERVERS_MAX = 3  # as resolv.conf(5)
DNS_PORT = 53


def parse_resolv_conf(text: str) -> list[tuple[str, int]]:
    """(address, port) of the name servers; the loopback address when there are none.

    The zone of a link-local address is kept. Everything else in the file does not matter to mail.
    """
    servers: list[tuple[str, int]] = []
    for line in text.split("\n"):
        words = line.split()
        if len(words) >= 2 and words[0] == "nameserver":
            bare, percent, zone = words[1].partition("%")
            address = parse_address(bare)
            if address is not None:
                servers.append((address + percent + zone, DNS_PORT))
    return servers[:NAME_SERVERS_MAX] or [("127.0.0.1", DNS_PORT)]


def parse_hosts(text: str) -> dict[str, tuple[str, ...]]:
    """Addresses by host name, in the order of the file."""
    hosts: dict[str, tuple[str, ...]] = {}
    for line in text.split("\n"):
        words = line.partition("#")[0].split()
        address = parse_address(words[0]) if words else None
        if address is None:
            continue
        for word in words[1:]:
            name = host_name(word)
            if name is not None and address not in hosts.get(name, ()):
                hosts[name] = (*hosts.get(name, ()), address)
    return hosts
