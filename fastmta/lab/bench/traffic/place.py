"""Where the sites are: domains, hosts and addresses by number."""

import ipaddress
import random
import socket

from ...loopback import LabError

PORT = 25
PER_BLOCK = 250  # sites in 256 addresses, as bench/receivers.c has it
_NETWORKS = [f"127.{number}.0.1" for number in range(30, 60)]


def address_of(first: str, site: int) -> str:
    """Address of the site with this number, where `first` is that of site 0."""
    return str(ipaddress.IPv4Address(first) + site // PER_BLOCK * 256 + site % PER_BLOCK)


def site_of(domain: int, domains: int, sites: int) -> int:
    """The site of a domain: the first domains have the first sites."""
    return domain * sites // domains


def domains_below(site: int, domains: int, sites: int) -> int:
    """How many domains have a site with a lower number than this."""
    return -(-site * domains // sites)


def free_first_address() -> str:
    """An address whose port 25 nobody has, so that those after it are free, too.

    Not always the same one: benches that start together would take it from each other. LabError:
    there is none, or we may not.
    """
    reason = ""
    for first in random.sample(_NETWORKS, len(_NETWORKS)):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((first, PORT))
                probe.listen()
            except OSError as problem:
                reason = str(problem.strerror)
                continue
            return first
    text = "port 25 of loopback cannot be taken, where mail to domains goes"
    raise LabError(f"{text}; run it as root ({reason})")
