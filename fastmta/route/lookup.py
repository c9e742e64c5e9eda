"""The look-up of one destination: MX, then the addresses of its hosts (RFC 5321 5.1)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import groupby

import msgspec

from fastmta.message import OutcomeKind

from .answer import Answer, AnswerKind, Query, RecordType
from .hop import SMTP_PORT, Destination
from .order import ATTEMPT_TARGETS, Shuffle
from .own import OwnHosts
from .site import RouteProblem, Target

CONFIGURATION_STATUS = "4.3.5"  # RFC 3463 3.4: system incorrectly configured
HOSTS_MAX = 20  # MX hosts whose addresses are looked up
_REASONS = {
    AnswerKind.NO_NAME: "Host not found",
    AnswerKind.NO_DATA: "Host found but no data record of requested type",
    AnswerKind.FAILED: "Host not found, try again",
    AnswerKind.INVALID: "Malformed or unexpected name server reply",
}


class ResolverOptions(msgspec.Struct, frozen=True):
    """What the resolver knows about this host."""

    own: OwnHosts = OwnHosts()
    local_hosts: Mapping[str, Sequence[str]] = {}  # /etc/hosts; asked first for relay hosts
    has_ipv4: bool = True
    has_ipv6: bool = True
    mx_port: int = SMTP_PORT  # for recipients' domains; other values are for tests
    attempt_targets: int = ATTEMPT_TARGETS  # as many does one attempt try

    @property
    def address_types(self) -> tuple[RecordType, ...]:
        return (RecordType.A,) * self.has_ipv4 + (RecordType.AAAA,) * self.has_ipv6


class DestinationLookup:
    """Finds the addresses of one destination; afterwards holds targets or a problem."""

    __slots__ = (
        "_answers",
        "_destination",
        "_finished",
        "_is_own_dropped",
        "_options",
        "_pending",
        "_port",
        "_query",
        "_shuffle",
        "expires_at_s",
        "hosts",
        "problem",
        "ranked",
    )

    def __init__(
        self,
        destination: Destination,
        query: Query,
        options: ResolverOptions,
        shuffle: Shuffle,
        finished: Callable[[], None],
    ) -> None:
        self._destination = destination
        self._query = query
        self._options = options
        self._shuffle = shuffle
        self._finished = finished
        self._port = destination.port if destination.is_relay else options.mx_port
        self._answers: dict[tuple[str, RecordType], Answer] = {}
        self._pending = 0
        self._is_own_dropped = False
        self.hosts: list[tuple[int, str]] = []  # (preference, name), the site's identity
        self.ranked: list[tuple[int, Target]] = []  # by preference
        self.problem: RouteProblem | None = None
        self.expires_at_s = float("inf")

    def start(self) -> None:
        """Begin. `finished` is called once, perhaps before this returns."""
        destination = self._destination
        if destination.is_socket:
            self.hosts = [(0, destination.host)]
            self.ranked = [(0, Target(destination.host, destination.host, destination.port))]
            self._finished()
        elif destination.is_address:
            self._keep([(0, destination.host)], {destination.host: [destination.host]})
        elif destination.has_mx_lookup:
            self._query.query(destination.host, RecordType.MX, self._take_exchanges)
        else:
            self._look_up([(0, destination.host)])

    @property
    def is_constant(self) -> bool:
        """Whether nothing in it can change with time."""
        return self._destination.is_address or self._destination.is_socket

    @property
    def site_hosts(self) -> list[tuple[str, int]]:
        """(name, port) by preference and name: a fixed order."""
        return [(name, self._port) for _, name in self.hosts]

    def _take_exchanges(self, answer: Answer) -> None:
        self.expires_at_s = min(self.expires_at_s, answer.expires_at_s)
        host = self._destination.host
        if answer.kind is AnswerKind.FOUND:
            exchanges = [pair for pair in answer.exchanges if pair[1]]
            if not exchanges:  # RFC 7505 3
                self._refuse("5.1.10", f"Domain {host} does not accept mail (nullMX)")
                return
        elif answer.kind is AnswerKind.NO_DATA or self._local_addresses(host):
            exchanges = [(0, host)]  # the implicit MX of RFC 5321 5.1
        else:
            self._fail(_not_found(host, RecordType.MX, answer.kind))
            return
        if not self._destination.is_relay:
            exchanges = self._drop_from(
                exchanges, [rank for rank, name in exchanges if name in self._options.own.names]
            )
            if not exchanges:
                self._refuse("5.4.6", f"mail for {host} loops back to myself")
                return
        self._look_up(exchanges)

    def _look_up(self, exchanges: list[tuple[int, str]]) -> None:
        """Ask for the addresses of the first hosts by preference, at random among equals."""
        self.hosts = exchanges
        chosen: list[str] = []
        for _, group in groupby(exchanges, key=lambda pair: pair[0]):
            names = [name for _, name in group]
            self._shuffle(names)
            chosen += names
        names = [name for name in dict.fromkeys(chosen) if not self._local_addresses(name)]
        asked = [(n, t) for n in names[:HOSTS_MAX] for t in self._options.address_types]
        self._pending = len(asked) + 1
        for name, rdtype in asked:
            self._query.query(name, rdtype, partial(self._take_addresses, name, rdtype))
        self._answered()

    def _take_addresses(self, name: str, rdtype: RecordType, answer: Answer) -> None:
        self._answers[name, rdtype] = answer
        self.expires_at_s = min(self.expires_at_s, answer.expires_at_s)
        self._answered()

    def _answered(self) -> None:
        self._pending -= 1
        if self._pending:
            return
        addresses = {name: self._local_addresses(name) for _, name in self.hosts}
        for (name, _), answer in self._answers.items():
            addresses[name] += answer.values
        self._keep(self.hosts, addresses)

    def _keep(self, hosts: list[tuple[int, str]], addresses: Mapping[str, Sequence[str]]) -> None:
        """Targets out of `addresses` by host name, without ourselves; or the problem."""
        own = self._options.own
        is_own = [
            rank
            for rank, name in hosts
            if any(own.has_listener(address, self._port) for address in addresses[name])
        ]
        self.hosts = self._drop_from(hosts, is_own)
        self.ranked = [
            (rank, Target(name, address, self._port))
            for rank, name in self.hosts
            for address in addresses[name]
        ]
        if self.ranked:
            self._finished()
        else:
            self._fail(self._why_nothing())

    def _drop_from(
        self, hosts: list[tuple[int, str]], own_ranks: list[int]
    ) -> list[tuple[int, str]]:
        """Without our own and all that are not better: they would send it to us (RFC 5321 5.1)."""
        if not own_ranks:
            return hosts
        self._is_own_dropped = True
        return [pair for pair in hosts if pair[0] < min(own_ranks)]

    def _why_nothing(self) -> RouteProblem:
        host = self._destination.host
        for (name, rdtype), answer in self._answers.items():
            if answer.kind is AnswerKind.FAILED:
                return _not_found(name, rdtype, answer.kind)
        if self._is_own_dropped and self.hosts:
            text = f"unable to find primary relay for {host}"
            return RouteProblem(OutcomeKind.DEFERRED, "4.4.4", text)
        if self._is_own_dropped:
            text = f"mail for {host} loops back to myself"
            return RouteProblem(OutcomeKind.FAILED, "5.4.6", text)
        if not self._answers:
            return _not_found(host, RecordType.A, AnswerKind.NO_DATA)
        first = next(iter(self._answers))[0]
        name, rdtype = [key for key in self._answers if key[0] == first][-1]
        return _not_found(name, rdtype, self._answers[name, rdtype].kind)

    def _refuse(self, status: str, text: str) -> None:
        self._fail(RouteProblem(OutcomeKind.FAILED, status, text))

    def _fail(self, problem: RouteProblem) -> None:
        """A relay is the operator's choice: what is wrong with it waits for the operator.

        Nobody's mail bounces for a typing error or a name server without its zone (Postfix: 4.3.5).
        """
        if self._destination.is_relay and problem.kind is OutcomeKind.FAILED:
            problem = RouteProblem(OutcomeKind.DEFERRED, CONFIGURATION_STATUS, problem.text)
        self.problem = problem
        self._finished()

    def _local_addresses(self, name: str) -> list[str]:
        if not self._destination.is_relay:
            return []
        types = self._options.address_types
        return [
            address
            for address in self._options.local_hosts.get(name, ())
            if (RecordType.AAAA if ":" in address else RecordType.A) in types
        ]


def _not_found(name: str, rdtype: RecordType, kind: AnswerKind) -> RouteProblem:
    text = (
        "Host or domain name not found. "
        f"Name service error for name={name} type={rdtype.name}: {_REASONS[kind]}"
    )
    if kind is AnswerKind.FAILED:
        return RouteProblem(OutcomeKind.DEFERRED, "4.4.3", text)
    return RouteProblem(OutcomeKind.FAILED, "5.4.4", text)
