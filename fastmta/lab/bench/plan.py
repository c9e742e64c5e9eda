"""The order of a benchmark: stages, warm-up, alternating pairs; results as plain values."""

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from itertools import groupby
from pathlib import Path

from .. import process
from ..loopback import HOST, LabError, free_port, is_listening, wait_until
from ..server import Server
from .case import WIDE_CONNECTIONS, Case
from .certificate import Certificate, make_certificate
from .contender import FASTMTA, POSTFIX, Stage, StageOptions
from .latency import Latency, measure_latency
from .measure import Run, measure, measure_ceiling
from .receiver import Receiver
from .responder import Responder
from .source import Source

_WARM_UP_S = 0.5
_FIRST_RATES = {POSTFIX: 300, FASTMTA: 3000}  # messages/s, before anything is known
_COUNT_MAX = 300_000
_REST_S = 2.0  # after the start, before memory at rest is read
_PORT_S = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What was asked for."""

    directory: Path
    cases: tuple[Case, ...]
    names: tuple[str, ...]
    pairs: int = 3
    seconds: float = 4.0
    workers: int = 0
    durability: str = "full"
    latency_messages: int = 200
    has_flush_counts: bool = True
    say: Callable[[str], None] = print


@dataclass(slots=True)
class CaseResult:
    """All runs of one case."""

    case: Case
    runs: dict[str, list[Run]] = field(default_factory=dict)
    ceilings: list[float] = field(default_factory=list)
    flush_runs: dict[str, Run] = field(default_factory=dict)  # under the shim, no delay


@dataclass(slots=True)
class Result:
    """Everything a benchmark found."""

    cases: list[CaseResult] = field(default_factory=list)
    latencies: dict[str, Latency] = field(default_factory=dict)
    rest: list[process.Memory] = field(default_factory=list)  # fastmta's workers
    peak: list[process.Memory] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


class Bench:
    """Runs a plan. Servers of a stage run side by side, loads one after the other."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._result = Result()
        self._port = free_port()
        self._rates: dict[tuple[str, str], float] = {}
        self._ceiling_rates: dict[str, float] = {}
        self._sources: dict[str, Source] = {}

    def run(self) -> Result:
        plan = self._plan
        by_name = {case.name: CaseResult(case) for case in plan.cases}
        self._result.cases = list(by_name.values())
        self._sources = {case.name: Source(case, plan.directory) for case in plan.cases}
        secure = [case for case in plan.cases if case.has_tls or case.has_tls_out]
        rest = [case for case in plan.cases if case not in secure and not case.needs_shim]
        plain = [case for case in rest if not case.is_wide]
        wide = [case for case in rest if case.is_wide]
        shimmed = [case for case in plan.cases if case.needs_shim]
        if plain or plan.latency_messages:
            self._plain_stage([by_name[case.name] for case in plain])
        if wide:
            with self._stage(is_wide=True) as stage:
                for case in wide:
                    self._case(stage, by_name[case.name])
        for kind, cases in groupby(sorted(secure, key=_tls_of), _tls_of):
            with self._tls_stage(*kind) as stage:
                for case in cases:
                    self._case(stage, by_name[case.name])
                    self._result.problems += tls_differences(by_name[case.name])
        counted = plain if plan.has_flush_counts else []
        if shimmed or counted:
            with self._stage(has_shim=True) as stage:
                for case in counted:
                    self._count_flushes(stage, by_name[case.name])
                for case in shimmed:
                    self._case(stage, by_name[case.name])
        return self._result

    def _plain_stage(self, results: list[CaseResult]) -> None:
        plan = self._plan
        with self._stage() as stage:
            server = stage.contenders.get(FASTMTA)
            if isinstance(server, Server):
                time.sleep(_REST_S)
                self._result.rest = [process.memory(pid) for pid in server.workers()]
            if plan.latency_messages:
                for name, contender in stage.contenders.items():
                    plan.say(f"latency of {name}")
                    wait_until(self._is_port_free, _PORT_S, "the relay port")
                    latency = measure_latency(contender, self._port, plan.latency_messages)
                    self._result.latencies[name] = latency
            for result in results:
                self._case(stage, result)
            if isinstance(server, Server):
                self._result.peak = [process.memory(pid) for pid in server.workers()]

    def _tls_stage(
        self, has_tls: bool, has_tls_out: bool, has_reuse: bool
    ) -> AbstractContextManager[Stage]:
        certificate = make_certificate(self._plan.directory) if has_tls else None
        return self._stage(certificate=certificate, has_tls_out=has_tls_out, has_reuse=has_reuse)

    @contextmanager
    def _stage(
        self,
        *,
        is_wide: bool = False,
        has_shim: bool = False,
        certificate: Certificate | None = None,
        has_tls_out: bool = False,
        has_reuse: bool = False,
    ) -> Iterator[Stage]:
        plan = self._plan
        options = StageOptions(
            directory=plan.directory,
            names=plan.names,
            relay_port=self._port,
            workers=plan.workers,
            durability=plan.durability,
            is_wide=is_wide,
            has_shim=has_shim,
            certificate=certificate,
            has_tls_out=has_tls_out,
            has_reuse=has_reuse,
        )
        with Stage(options) as stage:
            yield stage

    def _case(self, stage: Stage, result: CaseResult) -> None:
        """Warm up, then the pairs, each with a ceiling."""
        plan, case = self._plan, result.case
        with self._receiver(case) as receiver:
            for name in stage.contenders:
                self._run(stage, name, case, receiver, _WARM_UP_S)
            for pair in range(plan.pairs):
                names = list(stage.contenders)
                for name in names if pair % 2 == 0 else reversed(names):
                    run = self._run(stage, name, case, receiver, plan.seconds)
                    result.runs.setdefault(name, []).append(run)
                    plan.say(
                        f"{case.name} {pair + 1}/{plan.pairs} {name}: {run.messages} messages, "
                        f"{run.accepted_rate:.0f} accepted/s, {run.relayed_rate:.0f} relayed/s, "
                        f"{run.cpu_us:.0f} us"
                    )
                if not case.receiver_delay_ms:
                    result.ceilings.append(self._ceiling(case, receiver))

    def _run(self, stage: Stage, name: str, case: Case, receiver: Receiver, seconds: float) -> Run:
        shim = stage.shims.get(name)
        count = self._count(self._rates.get((name, case.name), _FIRST_RATES[name]), case, seconds)
        if shim:
            shim.delay(case.flush_delay_ms)
        delayed = shim.delayed if shim else 0
        source = self._sources[case.name]
        run = measure(source, stage.contenders[name], receiver, count, shim)
        if shim and case.flush_delay_ms and shim.delayed == delayed:
            raise LabError(f"{name} flushed nothing through the shim: it did not fire")
        self._rates[name, case.name] = run.relayed_rate
        if run.deferred:
            self._result.problems.append(f"{case.name}: {name} deferred {run.deferred} attempts")
        return run

    def _count_flushes(self, stage: Stage, result: CaseResult) -> None:
        """One short run under the shim, without delay."""
        case = result.case
        with self._receiver(case) as receiver:
            for name in stage.contenders:
                self._plan.say(f"{case.name} flushes of {name}")
                run = self._run(stage, name, case, receiver, min(1.0, self._plan.seconds))
                result.flush_runs[name] = run

    def _ceiling(self, case: Case, receiver: Receiver) -> float:
        """The source into the receiver; our own source into the responder, TLS if the case is."""
        plan, source = self._plan, self._sources[case.name]
        rate = self._ceiling_rates.get(case.name, 5_000)
        count = self._count(rate, case, plan.seconds / 2)
        if case.has_own_source:
            has_tls = case.has_tls or case.has_tls_out
            certificate = make_certificate(plan.directory) if has_tls else None
            source = Source(replace(case, has_tls=has_tls), plan.directory)
            with Responder(plan.directory, certificate) as responder:
                found = measure_ceiling(source, responder.port, count)
        else:
            found = measure_ceiling(source, receiver.port, count)
        self._ceiling_rates[case.name] = found
        return found

    @staticmethod
    def _count(rate: float, case: Case, seconds: float) -> int:
        """Messages of a run; enough that its beginning and end do not decide.

        A slow receiver needs several rounds over all connections.
        """
        rounds = 10 if seconds > _WARM_UP_S else 1
        least = WIDE_CONNECTIONS * rounds if case.receiver_delay_ms else case.sessions * 2
        return max(least, min(_COUNT_MAX, int(rate * seconds)))

    @contextmanager
    def _receiver(self, case: Case) -> Iterator[Receiver]:
        wait_until(self._is_port_free, _PORT_S, "the relay port")
        directory = self._plan.directory
        certificate = make_certificate(directory) if case.has_tls_out else None
        receiver = Receiver(directory, self._port, case.receiver_delay_ms, certificate=certificate)
        try:
            yield receiver
        finally:
            receiver.stop()

    def _is_port_free(self) -> bool:
        return not is_listening(self._port, HOST)


def _tls_of(case: Case) -> tuple[bool, bool, bool]:
    """What servers that the case is for have to be set up for."""
    return case.has_tls, case.has_tls_out, case.has_reuse


def tls_differences(result: CaseResult) -> list[str]:
    """What makes two servers' TLS no fair comparison: another protocol or cipher."""
    found = {name: runs[-1].source for name, runs in result.runs.items() if runs}
    spoken = {
        name: f"{report.protocol} {report.cipher}"
        for name, report in found.items()
        if report is not None
    }
    if len(set(spoken.values())) < 2:
        return []
    text = ", ".join(f"{name} {what}" for name, what in spoken.items())
    return [f"{result.case.name}: the ciphers differ: {text}"]
