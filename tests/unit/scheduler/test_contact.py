"""Hosts that swallow packets: what they keep is not what others need."""

from __future__ import annotations

import pytest

from fastmta.message import AttemptResult, Job
from fastmta.route import Site
from fastmta.scheduler import Options, SiteOptions
from fastmta.scheduler.engine import HUNG_FACTOR
from tests.support.scheduler_world import REFUSED, World, fail_site

CONNECT_S = 30.0  # until an attempt at such a host ends


def silent(world: World, label: str) -> None:
    world.receivers.silent.add(label)
    world.receivers.behaviours[label] = fail_site(REFUSED)
    world.receivers.latency_s[label] = CONNECT_S


def delivered(silent_count: int, duration_s: float) -> int:
    """How much gets through to twenty living sites beside so many silent ones."""
    return len(beside(silent_count, duration_s).spool.final)


def beside(silent_count: int, duration_s: float) -> World:
    """Twenty living sites with much mail, and silent ones."""
    world = World(Options(connections=20, ram_messages=400))
    for number in range(silent_count):
        silent(world, f"dead{number}.example")
    for number in range(20):
        world.receivers.latency_s[f"s{number}.example"] = 0.2
    for number in range(2 * silent_count):
        world.store(b"r@dead%d.example" % (number // 2))
    for number in range(3_000):
        world.store(b"r@s%d.example" % (number % 20))
    world.scheduler.take_up()
    world.run(duration_s)
    return world


def test_sites_that_never_answer_take_little_from_the_others() -> None:
    assert delivered(10, 15.0) > 0.95 * delivered(0, 15.0) > 1_000


def test_mail_for_sites_that_hang_is_not_kept_in_memory() -> None:
    world = World(Options(connections=2, ram_messages=400))
    for number in range(4):
        silent(world, f"dead{number}.example")
    for number in range(1_200):
        world.store(b"r@dead%d.example" % (number % 4))
    world.scheduler.take_up()
    world.run(1.0)
    fetches = world.spool.fetches.total()
    world.run(CONNECT_S - 5.0)
    assert world.spool.fetches.total() == fetches, "nothing is read for those that hang"
    table = world.scheduler._table
    assert table.residence.messages <= 4 * (1 + 20), "at most a window of each"
    assert all(path.hung and not path.is_open for path in table.paths.values())


def test_turns_beside_silent_sites_are_as_long_as_without() -> None:
    """What silent sites keep in memory must not make the turns of others end early."""
    world = beside(40, 12.0)
    alone = beside(0, 12.0)
    assert world.spool.fetches.total() < 1.5 * alone.spool.fetches.total() + 40 * 3


@pytest.mark.parametrize("is_silent", [False, True])
def test_who_took_the_connection_has_longer_to_answer(is_silent: bool) -> None:
    world = World(Options(connections=1))
    silent(world, "x.example")
    if not is_silent:
        world.receivers.silent.clear()
    world.send(b"r@x.example")
    world.run(0.1)
    other = world.send(b"r@y.example")
    world.run(0.6)
    assert (other.id in world.spool.final) == is_silent
    world.run(2.6)
    assert other.id in world.spool.final


def test_a_slot_comes_back_from_a_site_that_does_not_answer_for_the_first_time() -> None:
    world = World(Options(connections=2))
    for number in range(4):
        silent(world, f"dead{number}.example")
        world.send(b"r@dead%d.example" % number)
    world.run(2.5)
    assert len(world.receivers.log) == 4
    message = world.send(b"r@alive.example")
    world.run(1.0)
    assert message.id in world.spool.final
    assert world.scheduler.counts.in_flight == 4
    idle: list[bool] = []
    assert world.scheduler.drain(lambda: idle.append(True)) == 4
    world.run(CONNECT_S)
    assert idle == [True]
    assert world.scheduler.counts.in_flight == 0


def test_only_so_many_hang_and_then_no_other_site_is_tried_for_the_first_time() -> None:
    connections = 3
    world = World(Options(connections=connections))
    known = world.send(b"r@known.example")
    world.run(1.0)
    assert known.id in world.spool.final
    for number in range(40):
        silent(world, f"dead{number}.example")
        world.send(b"r@dead%d.example" % number)
    world.run(CONNECT_S - 1.0)
    assert world.receivers.most_together <= connections * (1 + HUNG_FACTOR)
    message = world.send(b"r@known.example")
    world.run(0.5)
    assert message.id in world.spool.final, "who has answered before needs no contact"
    new = world.send(b"r@new.example")
    world.run(5 * CONNECT_S)
    assert new.id in world.spool.final


@pytest.mark.parametrize("latency_s", [0.5, 3.0])
def test_a_site_that_is_slow_to_answer_is_served_all_the_same(latency_s: float) -> None:
    world = World(Options(connections=1))
    world.receivers.latency_s["slow.example"] = latency_s
    for _ in range(10):
        world.send(b"r@slow.example")
    world.run(20 * latency_s + 5)
    assert len(world.spool.final) == 10
    assert world.scheduler.counts.in_flight == 0


def test_who_fails_is_a_stranger_again() -> None:
    world = World(Options(connections=1))
    world.send(b"r@x.example")
    world.run(1.0)
    started: list[float] = []

    def hang(job: Job, site: Site) -> AttemptResult:
        started.append(job.started_at_s)
        return AttemptResult([REFUSED] * len(job.indices), REFUSED)

    world.receivers.behaviours["x.example"] = hang
    world.receivers.latency_s["x.example"] = CONNECT_S
    world.send(b"r@x.example")
    world.run(CONNECT_S + 15.0)
    other = world.send(b"r@y.example")  # while the probe hangs
    world.run(2.0)
    assert other.id in world.spool.final


def test_a_turn_is_no_reason_to_try_a_stranger_once_more() -> None:
    """As many hang as may; a site that is not proved gets no second attempt in its own slot."""
    world = World(Options(connections=1, hung=1, site=SiteOptions(window_start=2, connections=2)))
    silent(world, "dead.example")
    world.send(b"r@dead.example")
    world.run(2.0)
    assert world.scheduler.counts.in_flight == 1, "it hangs"
    for number in range(3):
        world.store(b"u%d@new.example" % number)
    world.scheduler.take_up()
    world.run(1.0)
    (path,) = [one for one in world.scheduler._table.paths.values() if not one.hung]
    waiting = len(path.ready)
    assert waiting
    assert not path._start_next()
    assert path.in_flight == 0
    assert len(path.ready) == waiting
    path.is_proved = True
    assert path._start_next(), "who has answered goes on"
