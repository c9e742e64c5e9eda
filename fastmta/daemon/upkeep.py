"""`fastmta spool ...`: from the configuration to the spool's tools, and what they found as text.

Every function returns an exit status: 0 good, 1 damage found, 75 something could not be read or
done.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import lmdb
import msgspec

from fastmta.config import Config
from fastmta.event import Event, Notice
from fastmta.spool import SpoolError, SpoolOptions
from fastmta.spool.backup import Target, back_up
from fastmta.spool.info import LogInfo, ShardInfo, look_at
from fastmta.spool.layout import Layout
from fastmta.spool.reindex import check_index, rebuild_index
from fastmta.spool.rows import RowMaker
from fastmta.spool.survey import read_format, shard_numbers
from fastmta.spool.verdict import Problem, Report
from fastmta.spool.verify import verify_shard

from .privilege import acting_as_owner
from .routing import offline_table
from .settings import spool_options

EXIT_SOUND, EXIT_DAMAGED, EXIT_FAILED = 0, 1, 75

Say = Callable[[str], None]


def info(config: Config, shard: int | None, is_json: bool, say: Say, complain: Say) -> int:
    """Tell what is there."""
    root = config.spool.directory
    try:
        form = read_format(root)
        shards = [look_at(layout) for layout in _layouts(root, shard)]
    except (OSError, SpoolError) as problem:
        return _failed(problem, complain)
    if is_json:
        say(_json({"directory": root, "format": form, "shards": shards}))
        return EXIT_SOUND
    say(f"{root}: format {form}")
    for each in shards:
        for line in _info_lines(each):
            say(line)
    return EXIT_SOUND


def verify(
    config: Config,
    shard: int | None,
    is_json: bool,
    say: Say,
    complain: Say,
    with_index: bool = False,
) -> int:
    """Read everything, say what is wrong; `with_index`: hold the index against the logs, too."""
    root = config.spool.directory
    try:
        read_format(root)
        reports = []
        for layout in _layouts(root, shard):
            reports.append(verify_shard(layout))
            if with_index:
                check_index(layout, *_spool_of(config, layout), reports[-1])
            if not is_json:
                _say_report(reports[-1], say)
    except (OSError, SpoolError, lmdb.Error) as problem:
        return _failed(problem, complain)
    if is_json:
        say(_json({"directory": root, "shards": reports}))
    if any(report.damage for report in reports):
        return EXIT_DAMAGED
    return EXIT_FAILED if any(report.unreadable for report in reports) else EXIT_SOUND


def backup(config: Config, shard: int | None, path: str, say: Say, complain: Say) -> int:
    """Copy the spool, or one shard of it, to `path`, and verify the copy."""
    root = config.spool.directory
    try:
        form = read_format(root)
        layouts = _layouts(root, shard)
        target = Target(root, path)
        target.begin(form)
        try:
            reports = [back_up(layout, target.partial, say) for layout in layouts]
            target.finish()
        except BaseException:
            target.abandon()
            raise
    except (OSError, SpoolError) as problem:
        return _failed(problem, complain)
    for report in reports:
        _say_report(report, say)
    if not all(report.is_sound for report in reports):
        say(f"{target.path}: copied, with damage that the spool has too: see above")
        return EXIT_DAMAGED
    say(f"{target.path}: copied and verified")
    return EXIT_SOUND


def rebuild(config: Config, shard: int | None, say: Say, complain: Say) -> int:
    """Make the index anew from the logs of shards that nobody has."""

    def tell(event: Event) -> None:
        if isinstance(event, Notice):
            say(event.text)

    try:
        read_format(config.spool.directory)
        with acting_as_owner(config.spool.directory):
            for layout in _layouts(config.spool.directory, shard):
                count = rebuild_index(layout, *_spool_of(config, layout), tell, say)
                say(f"shard {layout.number}: the index has {count} messages")
    except (OSError, SpoolError, lmdb.Error) as problem:
        return _failed(problem, complain)
    return EXIT_SOUND


def _spool_of(config: Config, layout: Layout) -> tuple[SpoolOptions, RowMaker]:
    """What the server opens this shard with."""
    routes = offline_table(config)
    options = spool_options(config, layout.number, routes.fingerprint)
    return options, RowMaker.of(routes.next_hop, options)


def _layouts(root: str, shard: int | None) -> list[Layout]:
    numbers = shard_numbers(root)
    if shard is not None and shard not in numbers:
        raise SpoolError(f"{root} has no shard {shard}")
    return [Layout(root, number) for number in (numbers if shard is None else [shard])]


def _failed(problem: Exception, complain: Say) -> int:
    text = str(problem)
    if isinstance(problem, OSError) and problem.filename:
        text = f"{problem.filename}: {problem.strerror}"
    complain(f"fastmta: spool: {text}")
    return EXIT_FAILED


def _json(value: Any) -> str:  # Any: whatever msgspec can encode
    return msgspec.json.encode(value).decode()


def octets_text(octets: float) -> str:
    """1234567 as 1.2 MiB."""
    for unit in ("octets", "KiB", "MiB", "GiB"):
        if octets < 1024 or unit == "GiB":
            break
        octets /= 1024
    return f"{octets:.0f} {unit}" if unit == "octets" else f"{octets:.1f} {unit}"


def _info_lines(info: ShardInfo) -> Iterator[str]:
    use = "in use" if info.is_in_use else "not in use"
    yield f"shard {info.shard}: {use}, boot {info.boot}"
    for name, log in (("hot", info.hot), ("cold", info.cold)):
        yield f"  {name}: {_log_text(log)}"
    if info.live is not None and info.live_octets is not None:
        yield f"  live: {info.live} messages, {octets_text(info.live_octets)} of content"
    index = octets_text(info.index_octets)
    if info.checkpoint is not None:
        index += f", checkpoint {info.checkpoint}"
    yield f"  index: {index}"
    yield f"  large contents: {info.big}, {octets_text(info.big_octets)}"
    yield f"  quarantine: {info.quarantined}, {octets_text(info.quarantined_octets)}"
    for path in info.bad_indexes:
        yield f"  moved aside, may be deleted: {path}"


def _log_text(log: LogInfo) -> str:
    text = f"{log.segments} segments, {log.spares} spare, {octets_text(log.octets)}"
    if log.suspects:
        text += f", {log.suspects} with a damaged header"
    if log.segments:
        text += f", positions {log.first} to {log.end}"
    return text


def _say_report(report: Report, say: Say) -> None:
    for problem in (*report.damage, *report.unreadable):
        say(_problem_text(problem))
    for remark in report.remarks:
        say(f"shard {report.shard}: note: {remark}")
    found = ", ".join(f"{count} {kind}" for kind, count in report.records.items()) or "no records"
    if report.indexed is not None:
        found += f", {report.indexed} messages in the index"
    speed = report.octets / max(report.seconds, 1e-9) / 1e9
    outcome = "sound"
    if not report.is_sound:
        outcome = f"{len(report.damage)} damaged, {len(report.unreadable)} cannot be read"
    say(
        f"shard {report.shard}: {report.segments} segments, {report.big} large contents,"
        f" {octets_text(report.octets)}: {found}: {outcome}"
        f" ({report.seconds:.2f} s, {speed:.1f} GB/s)"
    )


def _problem_text(problem: Problem) -> str:
    where = problem.file
    if problem.offset is not None:
        where += f": offset {problem.offset}"
    if problem.position is not None:
        where += f": position {problem.position}"
    what = problem.text
    if problem.octets:
        what += f", {problem.octets} octets"
    if problem.kind:
        what += f", a {problem.kind}"
    if problem.queue_id:
        what += f", message {problem.queue_id}"
    return f"{where}: {what}; {problem.advice}"
