"""A result as a table for people and as values for JSON."""

from dataclasses import asdict
from typing import Any

from .. import process
from .contender import FASTMTA, POSTFIX
from .measure import Run
from .plan import CaseResult, Result
from .statistic import Spread, pair_ratios, spread

_MB = 1 << 20
_COLUMNS = "{:<10} {:>26} {:>26} {:>20} {:>20} {:>12}"


def render(result: Result, facts: dict[str, Any]) -> str:
    """The whole table."""
    lines = [
        "fastmta {fastmta} ({commit}) against Postfix {postfix}; durability {durability}; "
        "{pairs} pairs of about {seconds:g} s".format(**facts),
        "{cpu_count} x {cpu}, Linux {kernel}, {file_system} on {device}, Python {python}, "
        "uvloop {uvloop}, lmdb {lmdb}; workers {workers}".format(**facts),
        "Source and receiver share the machine. Median (least..most). CPU: user and system time "
        "of the process tree.",
    ]
    for case in result.cases:
        if case.runs:
            lines += ["", *_case_lines(case)]
    lines += _slow_lines(result)
    lines += _latency_lines(result)
    lines += _memory_lines(result)
    lines += [f"PROBLEM: {text}" for text in result.problems]
    return "\n".join(lines)


def _case_lines(result: CaseResult) -> list[str]:
    lines = [
        f"{result.case.name}: {result.case.title}",
        _COLUMNS.format("", "accepted/s", "relayed/s", "CPU us/msg", "machine us/msg", "flush/msg"),
    ]
    for name, runs in result.runs.items():
        flush_runs = [result.flush_runs[name]] if name in result.flush_runs else runs
        counted = [run.flushes / run.messages for run in flush_runs if run.flushes is not None]
        flushes = f"{sum(counted) / len(counted):.3f}" if counted else "-"
        lines.append(
            _COLUMNS.format(
                name,
                _text(spread(run.accepted_rate for run in runs)),
                _text(spread(run.relayed_rate for run in runs)),
                _text(spread(run.cpu_us for run in runs)),
                _text(spread(run.machine_us for run in runs)),
                flushes,
            )
        )
    ceiling = spread(result.ceilings)
    if ceiling:
        lines.append(_COLUMNS.format("ceiling", "", _text(ceiling), "", "", ""))
    ours, theirs = result.runs.get(FASTMTA, []), result.runs.get(POSTFIX, [])
    if ours and theirs:
        cells = [
            _text(pair_ratios(ours, theirs, figure), "{:.2f}")
            for figure in (_accepted, _relayed, _cpu, _machine)
        ]
        lines.append(_COLUMNS.format("ratio", *cells, ""))
    if ours and ceiling:
        share = spread(
            run.relayed_rate / top for run, top in zip(ours, result.ceilings, strict=False)
        )
        lines.append(_COLUMNS.format("of ceiling", "", _text(share, "{:.2f}"), "", "", ""))
    lines += _source_lines(result)
    if result.case.target and ours and theirs:
        lines.append(_target_line(result, pair_ratios(ours, theirs, _relayed)))
    return lines


def _source_lines(result: CaseResult) -> list[str]:
    """What our own source counted; smtp-source counts nothing."""
    lines = []
    for name, runs in result.runs.items():
        reports = [run.source for run in runs if run.source is not None]
        if not reports:
            continue
        p50 = _text(spread(one.reply_p50_ms for one in reports), "{:.2f}")
        p99 = _text(spread(one.reply_p99_ms for one in reports), "{:.2f}")
        text = f"{name}: 250 after p50 {p50} p99 {p99} ms"
        last = reports[-1]
        if last.handshakes:
            text += (
                f"; {last.protocol} {last.cipher}, {last.handshakes} handshakes, {last.resumed} "
                f"resumed, {last.tickets_per_handshake:.1f} session tickets each"
            )
        if runs[-1].handshakes_out:
            text += f"; out: {runs[-1].handshakes_out} handshakes, {runs[-1].resumed_out} resumed"
        lines.append(text)
    if lines and result.ceilings:
        tls = ", with TLS" if result.case.has_tls or result.case.has_tls_out else ""
        lines.append(f"ceiling: bench/source.c into bench/responder.c{tls}")
    return lines


def _target_line(result: CaseResult, found: Spread | None) -> str:
    verdict = "met" if found and found.median >= result.case.target else "MISSED"
    return f"target: {result.case.target:g} x Postfix relayed/s: {verdict}"


def _slow_lines(result: Result) -> list[str]:
    """CPU of the slow receiver over that of the fast one."""
    by_name = {case.case.name: case for case in result.cases}
    fast, slow = by_name.get("4k"), by_name.get("4k-slow")
    if not fast or not slow:
        return []
    lines = []
    for name in slow.runs:
        fast_cpu = spread(run.cpu_us for run in fast.runs.get(name, []))
        slow_cpu = spread(run.cpu_us for run in slow.runs[name])
        if fast_cpu and slow_cpu:
            factor = slow_cpu.median / fast_cpu.median
            lines.append(f"{name}: slow receiver costs {factor:.2f} x the CPU of the fast one")
    return ["", *lines]


def _latency_lines(result: Result) -> list[str]:
    lines = []
    for name, found in result.latencies.items():
        lines.append(
            f"{name}: one message on an idle server, {found.messages} times: 250 after "
            f"p50 {found.reply_p50_ms:.2f} p99 {found.reply_p99_ms:.2f} max "
            f"{found.reply_max_ms:.2f} ms; at the receiver after p50 {found.arrival_p50_ms:.2f} "
            f"p99 {found.arrival_p99_ms:.2f} max {found.arrival_max_ms:.2f} ms"
        )
    return ["", *lines] if lines else []


def _memory_lines(result: Result) -> list[str]:
    lines = []
    for label, workers in (("at rest", result.rest), ("after the load", result.peak)):
        if workers:
            lines.append(f"fastmta worker {label}: {_memory(workers)}")
    return lines


def _memory(workers: list[process.Memory]) -> str:
    """The largest of each over the workers."""
    return ", ".join(
        f"{name} {max(values) / _MB:.1f} MB"
        for name, values in (
            ("resident", [one.resident for one in workers]),
            ("proportional", [one.shared_fairly for one in workers]),
            ("anonymous", [one.anonymous for one in workers]),
            ("peak", [one.peak for one in workers]),
        )
    )


def values(result: Result, facts: dict[str, Any]) -> dict[str, Any]:
    """Everything, for the JSON file."""
    return {
        **facts,
        "cases": [
            {
                **asdict(one.case),
                "ceilings_per_s": one.ceilings,
                "runs": {
                    name: [_run_values(run) for run in runs] for name, runs in one.runs.items()
                },
                "flush_counts": {name: _run_values(run) for name, run in one.flush_runs.items()},
            }
            for one in result.cases
        ],
        "latency": {name: asdict(found) for name, found in result.latencies.items()},
        "memory_rest": [asdict(one) for one in result.rest],
        "memory_after": [asdict(one) for one in result.peak],
        "problems": result.problems,
    }


def _run_values(run: Run) -> dict[str, Any]:
    return {
        **asdict(run),
        "accepted_per_s": run.accepted_rate,
        "relayed_per_s": run.relayed_rate,
        "cpu_us": run.cpu_us,
        "machine_us": run.machine_us,
    }


def _text(found: Spread | None, form: str = "{:.0f}") -> str:
    return found.render(form) if found else "-"


def _accepted(run: Run) -> float:
    return run.accepted_rate


def _relayed(run: Run) -> float:
    return run.relayed_rate


def _cpu(run: Run) -> float:
    return run.cpu_us


def _machine(run: Run) -> float:
    return run.machine_us
