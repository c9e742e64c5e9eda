"""kill -9 of a server under load, and the verdict over what its clients and its receiver saw."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from fastmta.control import Client, ClientError, Request, Verb, socket_paths
from fastmta.lab import Server, ServerOptions
from fastmta.spool import SpoolOptions
from fastmta.spool.keeper import SPARES_MAX

from .counting import Sink
from .daemon import DEFAULTS
from .loading import History, Load, Mix, Target
from .spool import Shard

SEGMENT_OCTETS = 1 << 20
BIG_OCTETS = 600_000  # above what is kept in the log
WORKERS = 2
SETTLE_S = 30.0
QUIET_S = 0.3
ANSWER_S = 10.0  # of a worker
EMPTY_S = 10.0  # after that the disk must be back at its baseline
IN_USE_MAX = 2  # segments of the hot log: one of the last life, one of this
MIX = Mix(big_octets=BIG_OCTETS, late_share=0.05, bad_share=0.05, recipients_max=5)


class Victim(Target, Protocol):
    """What is killed and started again."""

    def kill(self) -> None:
        """SIGKILL to everybody."""

    def start(self) -> None:
        """Start, again."""


@dataclass
class Verdict:
    """What came of one run, by key."""

    acknowledged: int = 0
    messages: int = 0
    unknown: int = 0
    refused: int = 0
    lost: list[str] = field(default_factory=list)
    duplicates: list[str] = field(default_factory=list)  # once for each copy too many
    reports_twice: int = 0
    returned: list[str] = field(default_factory=list)  # refused, and delivered all the same
    damaged: list[bytes] = field(default_factory=list)
    twice_ids: set[str] = field(default_factory=set)  # queue ids of the duplicates
    kills: list[str] = field(default_factory=list)

    def check(self) -> None:
        """Nothing acknowledged is lost, nothing is changed, nothing refused comes."""
        assert not self.lost, f"{len(self.lost)} of {self.acknowledged} lost: {self.lost[:9]}"
        assert not self.damaged, f"changed on the way: {self.damaged[:3]}"
        assert not self.returned, f"refused and delivered: {self.returned[:9]}"

    @property
    def facts(self) -> dict[str, int | float | str]:
        """For the results of long runs."""
        return {
            "acknowledged": self.acknowledged,
            "unknown": self.unknown,
            "refused": self.refused,
            "lost": len(self.lost),
            "duplicates": len(self.duplicates),
            "reports_twice": self.reports_twice,
            "kills": len(self.kills),
        }


def judge(history: History, sink: Sink) -> Verdict:
    """Compare what the clients were told with what came."""
    known = {*history.acknowledged, *history.unknown, *history.refused}
    strangers = set(sink.counts) - known - {"sender"}
    assert not strangers, f"mail that nobody sent: {sorted(strangers)[:9]}"
    return Verdict(
        acknowledged=len(history.acknowledged),
        messages=history.acknowledged_messages,
        unknown=len(history.unknown),
        refused=len(history.refused),
        lost=[key for key in history.acknowledged if not sink.is_done(key)],
        duplicates=[key for key, count in sink.counts.items() for _ in range(count - 1)],
        reports_twice=sum(count - 1 for count in sink.reported.values()),
        returned=[key for key in history.refused if key in sink.counts],
        damaged=list(sink.damaged),
        twice_ids={
            id for key, count in sink.counts.items() if count > 1 for id in sink.ids.get(key, ())
        },
    )


def run_under_load(
    victim: Victim,
    sink: Sink,
    seed: int,
    kill: Callable[[], Iterable[str]],
    mix: Mix = MIX,
    is_empty: Callable[[], bool] = lambda: True,
) -> Verdict:
    """Load the started victim, let `kill` do its work, wait until all has come and `is_empty`."""
    load = Load(victim, seed=seed, mix=mix)
    try:
        kills = list(kill())
    finally:
        history = load.stop()
    settle(history, sink, is_empty)
    verdict = judge(history, sink)
    verdict.kills = kills
    return verdict


def settle(history: History, sink: Sink, is_empty: Callable[[], bool]) -> None:
    """Wait until everything acknowledged has come, nothing more comes, and nothing is left."""
    until_s = time.monotonic() + SETTLE_S
    missing = [key for key in history.acknowledged if not sink.is_done(key)]
    total, quiet_s = sink.total, time.monotonic()
    while time.monotonic() < until_s:
        if not missing and time.monotonic() - quiet_s >= QUIET_S and is_empty():
            return
        time.sleep(0.05)
        missing = [key for key in missing if not sink.is_done(key)]
        if sink.total != total:
            total, quiet_s = sink.total, time.monotonic()


def new_server(
    directory: Path, sink: Sink, environment: dict[str, str] | None = None, workers: int = WORKERS
) -> Server:
    """fastmta with small segments and short waits."""
    options = ServerOptions(
        directory=directory,
        relay_host=f"[127.0.0.1]:{sink.port}",
        workers=workers,
        environment=environment or {},
        settings={
            **DEFAULTS,
            "spool.segment_octets": SEGMENT_OCTETS,
            "limits.message_octets": BIG_OCTETS * 3 // 2,
            "retry.site_backoff_min_s": 0.2,
            "retry.first_s": 1.0,
            "retry.max_s": 2.0,
        },
    )
    return Server(options)


def is_queue_empty(server: Server) -> bool:
    """Whether every worker says so. A message of which no client knows what became of it waits,
    too, and is tried again in its own time. Asks the workers alone: the command for it would open
    the spool of one that is just being started."""
    paths = socket_paths(str(server.directory / "spool"))
    try:
        return len(paths) == server.options.workers and not any(map(_live_of, paths))
    except (OSError, ClientError):
        return False  # killed, and not yet there again


def _live_of(path: str) -> int:
    with contextlib.closing(Client(path)) as client:
        client.send(Request(verb=Verb.COUNT))
        result = client.read(ANSWER_S)["result"]
    return int(result["live"])


def kill_worker(server: Server, rng: random.Random) -> bool:
    """SIGKILL one worker; False when there is none to be seen."""
    workers = server.workers()
    if workers:
        os.kill(rng.choice(workers), signal.SIGKILL)
    return bool(workers)


def check_listed(server: Server, verdict: Verdict) -> None:
    """Every message that came twice was listed as in doubt at some start. Raises AssertionError."""
    listed: set[str] = set()
    for path in (server.directory / "spool").glob("shard-*/in-doubt-*.txt"):
        listed |= {line.split()[0] for line in path.read_text().splitlines()}
    unlisted = verdict.twice_ids - listed
    assert not unlisted, f"came twice, and nobody was told: {sorted(unlisted)[:9]}"


def check_drained(server: Server, workers: int = WORKERS) -> None:
    """The spool of a server that was stopped soon gets as empty as a new one. Raises
    AssertionError."""
    root = server.directory / "spool"
    for number in range(workers):
        place = root / f"shard-{number:02d}"
        with Shard(root, SpoolOptions(shard=number, segment_octets=SEGMENT_OCTETS)) as shard:
            live = shard.spool.live_count
            assert live == 0, f"{live} messages are left in {place}"
            until_s = time.monotonic() + EMPTY_S
            while len(shard.spool._logs.hot) > IN_USE_MAX and time.monotonic() < until_s:
                shard.deliver(shard.accept_new())  # time passes in the spool
            in_use = len(shard.spool._logs.hot)
            assert in_use <= IN_USE_MAX, f"{in_use} segments of {place} are still in use"
        files = len(list((place / "hot").iterdir()))
        assert files <= in_use + SPARES_MAX + 1, f"{files} segment files in {place}"
        big = [file.name for file in (place / "big").iterdir()]
        assert not big, f"large contents of nobody in {place}: {big[:5]}"
        damaged = list((place / "quarantine").iterdir())
        assert not damaged, f"damage in {place}: {damaged}"
