"""kill -9 at each named point of tests/support/point.py, of the worker or of everybody."""

from __future__ import annotations

import random
import shutil
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from fastmta.lab import Server
from tests.support import fault
from tests.support.counting import Sink
from tests.support.killing import (
    Verdict,
    check_drained,
    check_listed,
    is_queue_empty,
    new_server,
    run_under_load,
)
from tests.support.long import LongRun
from tests.support.point import POINTS, Point, When

WAIT_S = 10.0
PARTS = 3  # of the points, each for one server
WORKERS = 1  # the point is reached soon


def kill_at(point: Point, server: Server, page: fault.Page, *, is_group: bool) -> Iterator[str]:
    """Arm the point, wait until it has killed, and see to it that the server runs again."""
    rule = point.rule("" if point.pattern.startswith("socket") else str(server.directory), is_group)
    time.sleep(0.1)
    if point.when is not When.LOADED:
        server.kill()
        if point.when is When.REBUILDING:
            for index in (server.directory / "spool").glob("shard-*/index"):
                shutil.rmtree(index)
        page.arm(rule)
        if is_group:
            with pytest.raises(Exception, match="ended with -9"):
                server.start()
    else:
        page.arm(rule)
    until_s = time.monotonic() + WAIT_S
    if not is_group and point.when is not When.LOADED:
        server.start()  # the supervisor starts the worker once more
    while not page.fired:
        assert time.monotonic() < until_s, f"{point.name} was not reached: {server.said()[-2000:]}"
        time.sleep(0.005)
    page.disarm()
    if is_group:
        server.kill()
        server.start()
    time.sleep(0.1)
    yield f"{point.name} {'group' if is_group else 'worker'}"


def one_run(directory: Path, points: Sequence[Point], seed: int) -> Verdict:
    """One server, one load, and a kill at each of the points; every second one is of the group."""
    directory.mkdir(exist_ok=True)
    page = fault.Page(directory / "page", is_group=True)
    with Sink() as sink:
        server = new_server(directory / "server", sink, page.environment(), WORKERS)

        def kills() -> Iterator[str]:
            for number, point in enumerate(points, seed):
                yield from kill_at(point, server, page, is_group=number % 2 == 0)

        server.start()
        try:
            verdict = run_under_load(
                server, sink, seed, kills, is_empty=lambda: is_queue_empty(server)
            )
            assert server.stop() == 0, server.said()
        finally:
            server.kill()
            page.close()
        try:
            verdict.check()
            check_listed(server, verdict)
        except AssertionError as problem:
            problem.add_note(f"seed {seed}, {verdict.kills}; {server.said()[-3000:]}")
            raise
    check_drained(server, WORKERS)
    return verdict


@pytest.mark.parametrize("part", range(PARTS))
def test_killed_at_every_named_point(tmp_path: Path, part: int) -> None:
    points = POINTS[part::PARTS]
    verdict = one_run(tmp_path, points, part)
    assert len(verdict.kills) == len(points)
    assert verdict.acknowledged > 10 * len(points)


@pytest.mark.long
def test_named_points_for_minutes(tmp_path: Path, long_run: LongRun) -> None:
    for seed in long_run.seeds():
        directory = tmp_path / str(seed)
        points = random.Random(seed).sample(POINTS, 6)
        verdict = one_run(directory, points, seed)
        names = " ".join(point.name for point in points)
        long_run.record(seed, points=names, **verdict.facts)
        shutil.rmtree(directory)
