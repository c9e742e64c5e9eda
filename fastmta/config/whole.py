"""What only the whole configuration can show: keys that contradict each other."""

import ipaddress
from collections.abc import Collection, Iterable, Mapping

from .address import Endpoint, Network, split_next_hop
from .preset import is_preset
from .problem import Problem
from .relaycheck import doubtful_with_relays, wrong_with_relays
from .schema import RECORD_SLACK_OCTETS, Config
from .shapecheck import doubtful_with_shapes, wrong_with_shapes

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
    check.check_delay()
    check.check_spool()
    check.check_listeners()
    check.check_clients()
    check.check_relays()
    check.check_shapes()
    check.check_source()
    check.check_names()
    check.check_journal()
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

    def check_journal(self) -> None:
        journal = self._config.journal
        if journal.anonymise == "hash" and not journal.anonymise_salt:
            text = "hash needs journal.anonymise_salt, or anybody could try which address it is"
            self.wrong.append(self._problem("journal.anonymise", text))
        if journal.target != "file" and journal.file != "-":
            text = f"nothing is written there: the target is {journal.target}"
            self.doubtful.append(self._problem("journal.file", text))

    def check_delay(self) -> None:
        delay_s, lifetime_s = self._config.notify.delay_s, self._config.retry.lifetime_s
        if delay_s >= lifetime_s:
            text = f"nobody hears of it: mail goes back after {lifetime_s:g} s (retry.lifetime_s)"
            self.doubtful.append(self._problem("notify.delay_s", text, "retry.lifetime_s"))

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
                if endpoint.is_local and listen.kind != "lmtp":
                    text = f'{endpoint} needs kind = "lmtp": other kinds listen on addresses only'
                    self.wrong.append(self._problem(dotted, text))
                if (endpoint.port or endpoint.is_local) and endpoint in owners:
                    text = f"{endpoint} is bound by {owners[endpoint]} as well"
                    self.wrong.append(self._problem(dotted, text))
                owners.setdefault(endpoint, dotted)
        for endpoint in self._config.metrics.bind:
            if endpoint.port and endpoint in owners:
                text = f"{endpoint} is bound by {owners[endpoint]} as well"
                self.wrong.append(self._problem("metrics.bind", text))

    def check_clients(self) -> None:
        """TLS, logins and hooks that lack what they need."""
        config = self._config
        auth = config.auth
        has_users = any(
            (auth.users, auth.accounts_file, auth.dovecot, auth.hook, auth.token_hook)
        ) or bool(config.hooks.aiosmtpd)  # a handler may have auth_* methods
        for name, listen in config.listen.items():
            dotted = f"listen.{name}"
            if not has_users and listen.login_level != "off" and listen.login != "auto":
                text = "needs users: set auth.accounts_file, auth.users, auth.dovecot or auth.hook"
                self.wrong.append(self._problem(f"{dotted}.login", text))
            elif not has_users and listen.login_level == "required":
                text = (
                    f"{listen.kind} takes mail of users who log in, and there are none: set "
                    "auth.accounts_file, auth.users, auth.dovecot or auth.hook"
                )
                self.wrong.append(self._problem(f"{dotted}.kind", text))
            if listen.kind == "submissions" and listen.tls_level != "implicit":
                text = f'"{listen.tls}" contradicts kind "submissions", which is implicit TLS'
                self.wrong.append(self._problem(f"{dotted}.tls", text))
            if listen.login_level != "off" and listen.tls_level == "none" and not auth.without_tls:
                text = "offers no AUTH without TLS: set tls, or auth.without_tls = true"
                self.wrong.append(self._problem(f"{dotted}.tls", text, f"{dotted}.login", dotted))
        self._check_logins()
        if config.tls.key and not config.tls.certificate:
            self.wrong.append(self._problem("tls.key", "needs tls.certificate"))
        self._check_certificates()
        for name in ("arguments", "authenticator"):
            if getattr(config.hooks, name) and not config.hooks.aiosmtpd:
                self.wrong.append(self._problem(f"hooks.{name}", "needs hooks.aiosmtpd"))

    def _check_logins(self) -> None:
        """Sources of users that nobody could log in by."""
        auth = self._config.auth
        if auth.token_hook and not {"XOAUTH2", "OAUTHBEARER"} & set(auth.mechanisms):
            text = "needs XOAUTH2 or OAUTHBEARER in auth.mechanisms"
            self.wrong.append(self._problem("auth.token_hook", text))
        if any(listen.login_level != "off" for listen in self._config.listen.values()):
            return
        for name in ("accounts_file", "users", "dovecot", "hook", "token_hook"):
            if getattr(auth, name):
                text = (
                    'no listener offers logins: set listen.<name>.kind = "submission", or '
                    'listen.<name>.login = "offered"'
                )
                self.doubtful.append(self._problem(f"auth.{name}", text))

    def _check_certificates(self) -> None:
        config = self._config
        is_asking = False
        for name, listen in config.listen.items():
            level = listen.certificate_level(config.tls.client_ca)
            is_asking = is_asking or level != "none"
            if level != "none" and not config.tls.client_ca:
                text = "needs tls.client_ca: a PEM with the clients' certificates or their CA"
                self.wrong.append(self._problem(f"listen.{name}.client_certificates", text))
        if config.relay.client_fingerprints and not is_asking:
            text = (
                "no listener asks clients for a certificate: set tls.client_ca (a PEM with the "
                'certificates or their CA) and listen.<name>.client_certificates = "ask"'
            )
            self.wrong.append(self._problem("relay.client_fingerprints", text))

    def check_relays(self) -> None:
        """Relays, routes and TLS policies; their own values are checked elsewhere."""
        self._take(wrong_with_relays(self._config, self._bad.__contains__))
        self._doubt(doubtful_with_relays(self._config))
        self._check_loop("relay.host", self._config.relay.host)
        for name, relay in self._config.relays.items():
            self._check_loop(f"relays.{name}.host", relay.host)
        for number, route in enumerate(self._config.route, 1):
            transport, _, host = route.to.partition(":")
            if transport in ("smtp", "lmtp"):
                self._check_loop(f"route.{number}.to", (host,))

    def check_shapes(self) -> None:
        """Limits, providers, tenants, profiles."""
        self._take(wrong_with_shapes(self._config, self._bad.__contains__))
        self._doubt(doubtful_with_shapes(self._config))

    def _take(self, findings: Iterable[tuple[str, str, tuple[str, ...]]]) -> None:
        for dotted, text, others in findings:
            place = self._problem(dotted, text, *others).place
            self.wrong.append(Problem(place, dotted, text))

    def _doubt(self, findings: Iterable[tuple[str, str]]) -> None:
        for dotted, text in findings:
            self.doubtful.append(self._problem(dotted, text, dotted.rpartition(".")[0]))

    def _check_loop(self, dotted: str, hosts: Iterable[str]) -> None:
        """A relay that is one of our listeners would hand us our own mail."""
        if dotted in self._bad:
            return
        bound = {
            (endpoint.address, endpoint.port): f"listen.{name}"
            for name, listen in self._config.listen.items()
            for endpoint in listen.bind
        }
        for text in hosts:
            if is_preset(text) or text.startswith("unix:"):
                continue
            host, port = split_next_hop(text)
            for address in _addresses_of_ours(host, self._config.hostname):
                if (address, port) in bound:
                    text = f'"{text}" is our own {bound[address, port]}: mail would never leave'
                    self.wrong.append(self._problem(dotted, text))
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
        relay = "lets everyone send to anyone through this server (open relay)"
        self._warn_of_all("relay.trusted_networks", self._config.relay.trusted_networks, relay)
        for name, listen in self._config.listen.items():
            front_end = "lets everyone say who it is, and so send to anyone (open relay)"
            self._warn_of_all(f"listen.{name}.proxies", listen.proxies, front_end)
            self._warn_of_all(f"listen.{name}.xclient", listen.xclient, front_end)
        for endpoint in self._config.metrics.bind:
            if not (
                self._config.metrics.token or ipaddress.ip_address(endpoint.address).is_loopback
            ):
                text = f"{endpoint} shows everyone destinations and tenants: set metrics.token"
                self.doubtful.append(self._problem("metrics.bind", text))

    def _warn_of_all(self, dotted: str, networks: Iterable[Network], text: str) -> None:
        """Everybody is in a network of no bits."""
        for network in networks:
            if network.prefixlen == 0:
                self.doubtful.append(self._problem(dotted, f"{network} {text}"))


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
