"""One run: a scheduler, and everything around it, made from a scenario and set going."""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Callable, Sequence
from random import Random

from fastmta.budget.shape import Shape
from fastmta.event import Event, Notice
from fastmta.message import Envelope, Message, Outcome
from fastmta.message.report import Report
from fastmta.scheduler import Options, Ports, RetryPolicy, Scheduler, SiteOptions
from fastmta.scheduler.tenant import Tenant

from .clock import Agenda
from .internet import Internet
from .mail import Mail
from .network import NameServer, Network
from .operator import Operator
from .sample import Samples
from .scenario import Backlog, Scenario, Scheduling, Traffic
from .spool import ModelSpool
from .tally import Tallies
from .traffic import Destinations, Numbers, Stream, backlog_mail
from .watch import Watch


class Quiet:
    """Notify: no sender wants to hear of anything."""

    def bounce(
        self,
        message: Message,
        failures: Sequence[tuple[int, Outcome]],
        successes: Sequence[tuple[int, Outcome]] = (),
    ) -> Report | None:
        """See the port."""
        return None

    def delay(
        self, message: Message, delayed: Sequence[tuple[int, Outcome]], until_ns: int
    ) -> Report | None:
        """See the port."""
        return None

    def copy(
        self, message: Message, outcomes: Sequence[tuple[int, Outcome]], until_ns: int = 0
    ) -> Report | None:
        """See the port."""
        return None


_PRIORITIES = ("high", "normal", "bulk")


def scheduler_options(
    chosen: Scheduling, shapes: tuple[Shape, ...], profiles: tuple[RetryPolicy, ...]
) -> Options:
    """What the daemon makes of the same keys of a configuration."""
    return Options(
        shapes=shapes,
        profiles=profiles,
        site=SiteOptions(
            connections=chosen.site_connections,
            window_start=chosen.window_start,
            backoff_first_s=chosen.site_backoff_min_s,
            backoff_max_s=chosen.site_backoff_max_s,
            jitter=chosen.jitter,
            rate_per_s=chosen.site_rate_per_s,
            rate_burst=chosen.site_rate_burst,
        ),
        retry=RetryPolicy(
            first_s=chosen.first_s,
            max_s=chosen.max_s,
            jitter=chosen.jitter,
            lifetime_s=chosen.lifetime_s,
            bounce_lifetime_s=chosen.lifetime_s,
        ),
        connections=chosen.connections,
        ram_messages=chosen.ram_messages,
        ram_octets=chosen.ram_octets,
        recipients_per_job=chosen.recipients,
    )


def _tenant(name: str, scenario: Scenario) -> Tenant:
    sender = scenario.tenant.get(name)
    if sender is None:
        return Tenant(name)
    retry = None
    if sender.profile:
        profile = scenario.profile[sender.profile]
        retry = RetryPolicy(
            first_s=profile.first_s,
            max_s=profile.max_s,
            jitter=scenario.scheduler.jitter,
            lifetime_s=profile.lifetime_s,
            bounce_lifetime_s=profile.lifetime_s,
        )
    return Tenant(name, sender.weight, _PRIORITIES.index(sender.priority), retry)


class World:
    """Everything of one run. Make it, `run` it once, then look at what it holds."""

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self.agenda = Agenda()
        self._watch = Watch(scenario.scheduler)
        self._operator = Operator(scenario, self.agenda, self._watch)
        sources: list[tuple[str, Backlog | Traffic]] = []
        sources += scenario.backlog.items()
        sources += scenario.traffic.items()
        tenants = list(dict.fromkeys(one.tenant or name for name, one in sources))
        self._tenants = {name: _tenant(name, scenario) for name in tenants}
        profiles = tuple(one.retry for one in self._tenants.values() if one.retry is not None)
        self.options = scheduler_options(scenario.scheduler, self._operator.configured, profiles)
        internet = Internet(scenario)
        self.tallies = Tallies(list(scenario.receiver), tenants, internet.kind_of)
        self.spool = ModelSpool(
            self.agenda,
            internet.next_hop,
            self.tallies.settle,
            self._lifetime_s,
            min(one.lifetime_s for one in (self.options.retry, *profiles)),
        )
        self.network = Network(
            self.agenda, internet.peers, scenario.scheduler, self.tallies, self._watch
        )
        self.names = NameServer(
            self.agenda, internet.peer_of, self._random("dns"), scenario.dns_ttl_s
        )
        self.notices: Counter[str] = Counter()  # of pauses and their ends
        self._numbers = Numbers()
        self._internet = internet
        self._streams: list[Stream] = []
        self._store_backlog(tenants)
        for name, traffic in scenario.traffic.items():
            tenant = traffic.tenant or name
            random = self._random(f"traffic/{name}")
            envelopes = iter(Destinations(traffic, tenant, internet.paths_of, random))
            gaps = self._random(f"arrivals/{name}")
            stream = Stream(traffic, tenants.index(tenant), scenario, envelopes, gaps)
            self._streams.append(stream)
        self.samples = Samples(self.agenda, self.tallies, self.network)
        self._chance = self._random("scheduler")
        self.scheduler = self._new_scheduler()

    def _lifetime_s(self, envelope: Envelope) -> float:
        return (self._tenants[envelope.tenant].retry or self.options.retry).lifetime_of(envelope)

    def _random(self, name: str) -> Random:
        return Random(f"{self.scenario.seed}/{name}")

    def _store_backlog(self, tenants: list[str]) -> None:
        """Oldest first over all sections: that is the order of ids."""
        waiting = []
        first_s = self.scenario.scheduler.first_s
        for name, backlog in self.scenario.backlog.items():
            tenant = backlog.tenant or name
            random = self._random(f"backlog/{name}")
            envelopes = iter(Destinations(backlog, tenant, self._internet.paths_of, random))
            index = tenants.index(tenant)
            waiting += list(backlog_mail(backlog, index, envelopes, first_s, random))
        waiting.sort(key=lambda each: -each[0])
        for _, make in waiting:
            mail = make(self._numbers.next())
            self.tallies.accept(mail)
            self.spool.store(mail)

    def _new_scheduler(self) -> Scheduler:
        ports = Ports(
            backlog=self.spool,
            record=self.spool,
            deliver=self.network,
            notify=Quiet(),
            resolve=self.names,
            clock=self.agenda,
            timers=self.agenda,
            next_hop=self._internet.next_hop,
            random=self._chance.random,
            emit=self._emit,
            on_halt=_halt,
            tenant_of=self._tenant_of,
        )
        return Scheduler(ports, self.options)

    def _tenant_of(self, envelope: Envelope) -> Tenant:
        return self._tenants[envelope.tenant]

    def _emit(self, event: Event) -> None:
        if event.__class__ is Notice:
            assert isinstance(event, Notice)
            self.notices["resumed" if "resumed" in event.text else "paused"] += 1

    def _arrive(self, mail: Mail) -> None:
        self.tallies.accept(mail)
        self.spool.add(mail)
        self.scheduler.accepted(mail)

    def run(self, on_step: Callable[[float], None] | None = None) -> None:
        """Let the time of the scenario pass, or less when all mail is gone before.

        `on_step` hears now and then how much of it has passed.
        """
        scenario = self.scenario
        end_s = scenario.duration_s + scenario.drain_s
        is_collecting = gc.isenabled()
        gc.disable()  # a million messages that live long, and no cycle among them
        try:
            self._operator.attend(self.scheduler)
            self.scheduler.start()
            self.samples.start(scenario.duration_s)
            self._arm()
            for restart_s in sorted(scenario.restarts):
                if restart_s < end_s:
                    self.agenda.run_until(restart_s)
                    self._restart()
            self._run_out(scenario.duration_s, on_step)
            self.tallies.note_time()
            self._run_out(end_s, on_step)
        finally:
            if is_collecting:
                gc.enable()
        self.samples.take()

    def _arm(self) -> None:
        for stream in self._streams:
            stream.arm(self.agenda, self._numbers, self._arrive)

    def _restart(self) -> None:
        """Kill the server, with everything that is under way, and start a new one."""
        self.agenda.clear()
        self.spool.crash()
        self.network.reset()
        self.scheduler = self._new_scheduler()
        self._operator.attend(self.scheduler)
        self.scheduler.start()
        self.samples.resume()
        self._arm()

    def _run_out(self, end_s: float, on_step: Callable[[float], None] | None) -> None:
        step_s = max(1.0, end_s / 1_000)
        agenda = self.agenda
        while agenda.passed_s < end_s:
            agenda.run_until(min(agenda.passed_s + step_s, end_s))
            if on_step is not None:
                on_step(agenda.passed_s)
            if not self.spool.messages and all(stream.is_over for stream in self._streams):
                return


def _halt(text: str) -> None:
    raise AssertionError(f"the scheduler gave up: {text}")
