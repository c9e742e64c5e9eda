"""What only the whole configuration can show: keys that contradict each other."""

import ipaddress
from collections.abc import Collection, Mapping

from .address import Endpoint, split_next_hop
from .problem import Problem
from .schema import RECORD_SLACK_OCTETS, Config

# (smaller, larger): dotted keys of numbers that must stand in this order
_ORDERED = (
    ("limits.errors_soft", "limits.errors_hard"),
    ("limits.connections_per_client", "limits.connections"),
    ("delivery.window_start", "delivery.site_connections"),
    ("delivery.site_connections", "delivery.connections"),
    ("retry.first_s", "retry.max_s"),
    ("retry.site_backoff_min_s", "retry.site_backoff_max_s"),
)


def check_whole(
    config: Config, places: Mapping[str, str], bad: Collection[str]
) -> tuple[list[Problem], list[Problem]]:
    """What is wrong and what is doubtful. `places` says where a key was set.

    Nothing is said of the `bad` keys, whose own value is wrong already.
    """
    check = _Check(config, places, bad)
    check.check_order()
    check.check_spool()
    check.check_listeners()
    check.check_relay()
    check.check_source()
    check.check_names()
    return check.wrong, check.doubtful


class _Check:
    def __init__(self, config: Config, places: Mapping[str, str], bad: Collection[str]) -> None:
        self._config = config
        self._places = places
        self._bad = bad
        self.wrong: list[Problem] = []
        self.doubtful: list[Problem] = []

    def _problem(self, dotted: str, text: str, *others: str) -> Problem:
        """A problem at `dotted`, or at the first of `others` that was set if it was not."""
        for name in (dotted, *others):
            if name in self._places:
                return Problem(self._places[name], name, text)
        return Problem("default", dotted, text)

    def _number(self, dotted: str) -> float:
        section, _, name = dotted.partition(".")
        value = getattr(getattr(self._config, section), name)
        assert isinstance(value, int | float)
        return value

    def check_order(self) -> None:
        for small, large in _ORDERED:
            if small in self._bad or large in self._bad:
                continue
            if self._number(small) > self._number(large):
                text = (
                    f"{small} ({self._number(small):g}) is more than "
                    f"{large} ({self._number(large):g})"
                )
                self.wrong.append(self._problem(small, text, large))

    def check_spool(self) -> None:
        spool = self._config.spool
        if "spool.big_octets" in self._bad or "spool.segment_octets" in self._bad:
            return
        most = spool.segment_octets - RECORD_SLACK_OCTETS
        if spool.big_octets > most:
            text = (
                f"spool.big_octets ({spool.big_octets}) does not fit "
                f"spool.segment_octets ({spool.segment_octets}): at most {most}"
            )
            self.wrong.append(self._problem("spool.big_octets", text, "spool.segment_octets"))

    def check_listeners(self) -> None:
        owners: dict[Endpoint, str] = {}
        for name, listen in self._config.listen.items():
            dotted = f"listen.{name}.bind"
            if f"listen.{name}" in self._places and dotted not in self._places:
                self.wrong.append(Problem(self._places[f"listen.{name}"], dotted, "is missing"))
            if dotted not in self._places or dotted in self._bad:
                continue
            for endpoint in listen.bind:
                if endpoint.port and endpoint in owners:
                    text = f"{endpoint} is bound by {owners[endpoint]} as well"
                    self.wrong.append(self._problem(dotted, text))
                owners.setdefault(endpoint, dotted)

    def check_relay(self) -> None:
        """A relay that is one of our listeners would hand us our own mail."""
        if "relay.host" in self._bad:
            return
        bound = {
            (endpoint.address, endpoint.port): f"listen.{name}"
            for name, listen in self._config.listen.items()
            for endpoint in listen.bind
        }
        for text in self._config.relay.host:
            host, port = split_next_hop(text)
            for address in _addresses_of_ours(host, self._config.hostname):
                if (address, port) in bound:
                    text = f'"{text}" is our own {bound[address, port]}: mail would never leave'
                    self.wrong.append(self._problem("relay.host", text))
                    break

    def check_source(self) -> None:
        versions = [ipaddress.ip_address(one).version for one in self._config.delivery.source]
        if len(versions) != len(set(versions)):
            text = "must name at most one address of each family"
            self.wrong.append(self._problem("delivery.source", text))

    def check_names(self) -> None:
        if "." not in self._config.hostname:
            text = (
                f'"{self._config.hostname}" is not fully qualified; many receivers refuse such an '
                "EHLO name"
            )
            self.doubtful.append(self._problem("hostname", text))
        for network in self._config.relay.trusted_networks:
            if network.prefixlen == 0:
                text = f"{network} lets everyone send to anyone through this server (open relay)"
                self.doubtful.append(self._problem("relay.trusted_networks", text))


def _addresses_of_ours(host: str, hostname: str) -> tuple[str, ...]:
    """What a listener may be bound to that a connection to `host` would reach, as far as we see."""
    if host in ("localhost", hostname):
        return ("127.0.0.1", "::1", "0.0.0.0", "::")
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return ()
    if not address.is_loopback:
        return (str(address),)
    return (str(address), "::" if address.version == 6 else "0.0.0.0")
