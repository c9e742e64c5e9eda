"""Deliver and Resolve in virtual time: connections that are made, reused and closed; DNS.

An idle connection is forgotten when somebody looks and its time is over: no timers. Whether a limit
of ours was exceeded is watched from here, where connections are, and not by the scheduler's counts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import TypeAlias, cast

import msgspec

from fastmta.message import Outcome, OutcomeKind
from fastmta.message.attempt import AttemptResult, Job
from fastmta.route import RouteProblem, Site
from fastmta.route.hop import domain_of, plain_hop
from fastmta.scheduler.engine import HUNG_FACTOR

from .clock import START_S, Agenda
from .mail import Mail
from .receiver import TIMED_OUT, Peer
from .scenario import Scheduling
from .tally import Tallies
from .watch import Watch

Attempted: TypeAlias = Callable[[Job, AttemptResult], None]
Resolved: TypeAlias = Callable[[bytes, Site | RouteProblem], None]

NO_ANSWER = RouteProblem(OutcomeKind.DEFERRED, "4.4.3", "the name server does not answer")
_DELIVERED = OutcomeKind.DELIVERED
_DEFERRED = OutcomeKind.DEFERRED


class Network:
    """Every receiver, and our connections to them."""

    def __init__(
        self,
        agenda: Agenda,
        peers: Mapping[bytes, Peer],
        options: Scheduling,
        tallies: Tallies,
        watch: Watch,
    ) -> None:
        self._watch = watch
        self._agenda = agenda
        self._options = options
        self._tallies = tallies
        self.peers = peers  # by key of the site
        self.in_flight = 0
        self.in_flight_most = 0
        self.connected = 0  # connections made
        self.attempts = 0
        self.exceeded = watch.exceeded  # our limits, by name
        self.busy_of = [0] * len(tallies.kinds)  # attempts under way

    def start(self, job: Job, site: Site, done: Attempted) -> None:
        """See the port."""
        agenda = self._agenda
        now_s = agenda.now_s
        peer = self.peers[site.key]
        mail = cast(Mail, job.message)
        if mail.first_start_s < 0.0:
            self._note_first(mail, peer, now_s)
        self.attempts += 1
        self._tallies.kinds[peer.kind].attempts += 1
        self._tallies.tenants[mail.tenant].attempts += 1
        self._count_start(peer)
        connect_s, uses, trouble = 0.0, self._reuse(peer, now_s), None
        if self._watch.is_needed:
            done = self._watched(job, peer, done)
        if not uses:
            uses = 1
            connect_s, trouble = peer.connect(now_s - START_S)
            job.is_connected = trouble is not TIMED_OUT
        peer.busy += 1
        if trouble is not None:
            agenda.post(connect_s, self._refused, job, peer, done, trouble)
            return
        if connect_s:
            self.connected += 1
        open_count = peer.busy + len(peer.idle)
        if open_count > peer.open_most:
            peer.open_most = open_count
        transmit_s = peer.reply_s()
        agenda.post(
            connect_s + transmit_s, self._answered, job, peer, done, uses, connect_s, transmit_s
        )

    def _watched(self, job: Job, peer: Peer, done: Attempted) -> Attempted:
        tenant, domain = job.message.envelope.tenant, domain_of(job.next_hop)
        counters = self._watch.started(peer, tenant, domain, self._agenda.now_s)

        def ended(job: Job, result: AttemptResult) -> None:
            self._watch.ended(counters)
            done(job, result)

        return ended

    def _note_first(self, mail: Mail, peer: Peer, now_s: float) -> None:
        mail.first_start_s = now_s
        wait_s = now_s - mail.arrived_s
        self._tallies.kinds[peer.kind].waits_s.append(wait_s)
        self._tallies.tenants[mail.tenant].waits_s.append(wait_s)

    def _count_start(self, peer: Peer) -> None:
        options = self._options
        self.busy_of[peer.kind] += 1
        self.in_flight += 1
        if self.in_flight > self.in_flight_most:
            self.in_flight_most = self.in_flight
            # Beside those that work there may be such as hang at sites that never answered.
            if self.in_flight > options.connections * (1 + HUNG_FACTOR):
                self.exceeded["connections"] += 1
        busy = peer.busy + 1
        if busy > peer.busy_most:
            peer.busy_most = busy
            if busy > options.site_connections and not self._watch.has_site_rule:
                self.exceeded["site_connections"] += 1

    def _reuse(self, peer: Peer, now_s: float) -> int:
        """Take an idle connection: which message this is on it; 0 when there is none."""
        idle = peer.idle
        if not idle:
            return 0
        oldest_s = now_s - self._options.idle_s
        if idle[0][0] < oldest_s:  # those used longest ago are in front
            peer.idle = idle = [one for one in idle if one[0] >= oldest_s]
        return idle.pop()[1] + 1 if idle else 0

    def _end(self, peer: Peer) -> None:
        peer.busy -= 1
        self.in_flight -= 1
        self.busy_of[peer.kind] -= 1

    def _refused(self, job: Job, peer: Peer, done: Attempted, trouble: Outcome) -> None:
        self._end(peer)
        self._note_deferral(job, peer, trouble)
        done(job, AttemptResult((trouble,) * len(job.indices), trouble))

    def _answered(
        self,
        job: Job,
        peer: Peer,
        done: Attempted,
        uses: int,
        connect_s: float,
        transmit_s: float,
    ) -> None:
        now_s = self._agenda.now_s
        mail = cast(Mail, job.message)
        outcomes, trouble = peer.answer(mail, job.indices, now_s, now_s - START_S)
        self._end(peer)
        if trouble is None and uses < self._uses_max(peer):
            peer.idle.append((now_s, uses))
        self._note(job, peer, outcomes, now_s)
        done(job, AttemptResult(outcomes, trouble, connect_s, transmit_s, uses))

    def _uses_max(self, peer: Peer) -> int:
        most = self._options.messages_per_connection
        theirs = peer.spec.messages_per_connection
        return min(most, theirs) if theirs else most

    def _note(self, job: Job, peer: Peer, outcomes: Sequence[Outcome], now_s: float) -> None:
        mail = cast(Mail, job.message)
        for outcome in outcomes:
            if outcome.kind is _DELIVERED:
                delay_s = now_s - mail.arrived_s
                for tally in (self._tallies.kinds[peer.kind], self._tallies.tenants[mail.tenant]):
                    tally.delays_s.append(delay_s)
                    tally.last_s = now_s - START_S
            elif outcome.kind is _DEFERRED:
                self._note_deferral(job, peer, outcome)

    def _note_deferral(self, job: Job, peer: Peer, outcome: Outcome) -> None:
        mail = cast(Mail, job.message)
        self._tallies.kinds[peer.kind].deferrals[outcome.category] += 1
        self._tallies.tenants[mail.tenant].deferrals[outcome.category] += 1

    def close_idle(self, site: Site, done: Callable[[], None]) -> None:
        """Close every idle connection of the site, then call `done`."""
        self.peers[site.key].idle.clear()
        self._agenda.post(0.0, done)

    def reset(self) -> None:
        """Our side died: every connection is gone."""
        self._watch.reset()
        self.in_flight = 0
        self.busy_of = [0] * len(self.busy_of)
        for peer in self.peers.values():
            peer.busy = 0
            peer.idle.clear()


class NameServer:
    """Resolve: which site a next hop has, after a while; or no answer."""

    def __init__(
        self, agenda: Agenda, peer_of: Mapping[bytes, Peer], random: Random, ttl_s: float
    ) -> None:
        self._agenda = agenda
        self._peer_of = peer_of  # by next hop, whoever's mail it is
        self._random = random
        self._ttl_s = ttl_s
        self.lookups = 0
        self.failures = 0

    def resolve(self, next_hop: bytes, done: Resolved) -> None:
        """See the port."""
        self.lookups += 1
        peer = self._peer_of[plain_hop(next_hop)]
        answer: Site | RouteProblem = peer.site
        if peer.spec.dns_failures and self._random.random() < peer.spec.dns_failures:
            self.failures += 1
            answer = NO_ANSWER
        self._agenda.post(peer.spec.dns_s, self._resolved, next_hop, answer, done)

    def _resolved(self, next_hop: bytes, answer: Site | RouteProblem, done: Resolved) -> None:
        if isinstance(answer, Site) and self._ttl_s:
            answer = msgspec.structs.replace(answer, expires_at_s=self._agenda.now_s + self._ttl_s)
        done(next_hop, answer)
