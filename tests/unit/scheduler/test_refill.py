"""Bounded RAM: what does not fit goes back to the spool and returns in its turn."""

import pytest

from fastmta.budget.rate import Rate
from fastmta.budget.shape import Shape
from fastmta.message import Message, OutcomeKind, RecipientStatus
from fastmta.message.attempt import AttemptResult, Job
from fastmta.route import RouteProblem, Site
from fastmta.scheduler import Options, SiteOptions
from fastmta.scheduler.cursor import position, tail
from fastmta.scheduler.hop import Reading
from tests.support.scheduler_world import (
    DEFERRED,
    DELIVERED,
    REFUSED,
    World,
    answer,
    fail_site,
    hop_of,
)

SMALL = Options(ram_messages=100, ram_octets=10**9)


def most_in_ram(world: World, duration_s: float, step_s: float = 0.05) -> int:
    """Run and watch."""
    most = 0
    for _ in range(round(duration_s / step_s)):
        world.run(step_s)
        most = max(most, world.scheduler.counts.ram_jobs)
    return most


def test_a_burst_within_the_pool_never_spills() -> None:
    world = World()
    for _ in range(2_000):  # of 4 kB: just under the default pool of 8 MiB
        world.send(b"a@relay.example", size=4_000)
    world.run(60)
    assert world.spool.released == 0
    assert world.spool.fetches.total() == 0
    assert len(world.spool.final) == 2_000


def test_what_spills_comes_back_and_everything_arrives_once() -> None:
    world = World(SMALL)
    for _ in range(1_000):
        world.send(b"a@x.example")
    assert world.scheduler.counts.ram_jobs == 100
    assert len(world.spool.rows) == 900
    assert most_in_ram(world, 20) <= 140
    assert len(world.spool.final) == 1_000
    assert world.receivers.attempts["x.example"] == 1_000


def test_many_sites_that_wait_for_few_slots_keep_little_in_ram() -> None:
    world = World(Options(ram_messages=50, connections=10))
    for number in range(300):
        for _ in range(10):
            world.store(b"a@s%d.example" % number)
    world.restart()
    most = most_in_ram(world, 60)
    assert len(world.spool.final) == 3_000
    assert most <= 2 * 50 + 2 * 10, "each site that waits for a slot has read ahead"
    # Each slot serves one site for a turn: without turns this takes a read for each message.
    assert world.spool.fetches.total() <= 2_000


def test_the_pool_counts_octets_too() -> None:
    world = World(Options(ram_octets=1_000_000))
    for _ in range(200):
        world.send(b"a@x.example", size=100_000)
    assert world.scheduler.counts.ram_octets <= 40 * 100_000
    world.run(20)
    assert len(world.spool.final) == 200


def test_a_full_pool_still_guarantees_two_windows_to_each_next_hop() -> None:
    world = World(SMALL)
    world.receivers.latency_s["slow.example"] = 1_000.0
    for _ in range(500):
        world.send(b"a@slow.example")
    message = world.send(b"b@fast.example")
    world.run(0.1)
    assert world.state(message) is RecipientStatus.DELIVERED


def test_guarantees_end_but_whoever_can_start_starts() -> None:
    world = World(Options(ram_messages=10, connections=1_000))
    for number in range(100):
        world.receivers.latency_s[f"s{number}.example"] = 1_000.0
        for _ in range(50):
            world.send(b"a@s%d.example" % number)
    world.run(1)
    counts = world.scheduler.counts
    assert counts.ram_jobs <= 40 + 1_000
    assert counts.in_flight >= 100
    message = world.send(b"b@fast.example")
    world.run(0.1)
    assert world.state(message) is RecipientStatus.DELIVERED


def test_a_restart_takes_up_the_whole_backlog() -> None:
    world = World()
    for number in range(3_000):
        world.store(b"a@s%d.example" % (number % 300))
    world.restart()
    world.run(60)
    assert len(world.spool.final) == 3_000
    assert world.receivers.attempts.total() == 3_000


def test_a_large_backlog_of_one_site_is_read_in_bounded_pieces() -> None:
    world = World()
    for _ in range(5_000):
        world.store(b"a@x.example")
    world.restart()
    assert most_in_ram(world, 60) <= 400
    assert len(world.spool.final) == 5_000
    assert world.spool.fetches.total() < 100


def test_deferred_mail_is_not_kept_in_ram() -> None:
    world = World()
    world.receivers.behaviours["x.example"] = answer(DEFERRED)
    for _ in range(300):
        world.send(b"a@x.example")
    world.run(30)
    assert world.scheduler.counts.ram_jobs == 0
    assert len(world.spool.rows) == 300
    world.receivers.behaviours.clear()
    world.run(400)
    assert len(world.spool.final) == 300


def test_mail_due_later_is_found_when_it_is_due() -> None:
    world = World()
    late = world.store(b"a@x.example", due_in_s=5_000)
    soon = world.store(b"a@x.example", due_in_s=50)
    world.restart()
    world.run(49)
    assert world.receivers.attempts.total() == 0
    world.run(2)
    assert (world.state(soon), world.receivers.attempts.total()) == (RecipientStatus.DELIVERED, 1)
    world.run(4_948)
    assert world.receivers.attempts.total() == 1
    world.run(2)
    assert world.state(late) is RecipientStatus.DELIVERED


def test_backlog_of_a_closed_path_is_not_touched_until_it_opens() -> None:
    world = World(SMALL)
    world.receivers.behaviours["x.example"] = fail_site(REFUSED)
    for _ in range(500):
        world.send(b"a@x.example")
    world.run(1_000)
    assert world.spool.fetches.total() < 10
    world.receivers.behaviours.clear()
    world.run(330)
    assert len(world.spool.final) == 500


def test_a_message_for_two_sites_reaches_the_good_one_while_the_other_is_dead() -> None:
    world = World(SMALL)
    world.receivers.behaviours["dead.example"] = fail_site(REFUSED)
    for _ in range(300):
        world.send(b"a@dead.example")
    world.run(5)
    messages = [world.send(b"a@dead.example", b"b@good.example") for _ in range(50)]
    world.run(10)
    assert {world.state(message, 1) for message in messages} == {RecipientStatus.DELIVERED}
    world.receivers.behaviours.clear()
    world.run(330)
    assert all(message.id in world.spool.final for message in messages)


def test_recipients_of_one_message_due_at_different_times() -> None:
    world = World()
    attempts: list[tuple[float, tuple[int, ...]]] = []

    def first_defers_second_waits(job: Job, site: Site) -> AttemptResult:
        attempts.append((world.agenda.now_s, job.indices))
        if len(attempts) == 1:
            return AttemptResult([DEFERRED, REFUSED], REFUSED)
        return AttemptResult([DELIVERED] * len(job.indices))

    world.receivers.behaviours["x.example"] = first_defers_second_waits
    message = world.send(b"a@x.example", b"b@x.example")
    world.run(60)
    assert [indices for _, indices in attempts] == [(0, 1), (1,)]
    world.run(300)
    assert [indices for _, indices in attempts] == [(0, 1), (1,), (0,)]
    assert message.id in world.spool.final


def test_released_during_a_read_is_found_by_the_next() -> None:
    world = World(Options(ram_messages=20, site=SiteOptions(connections=2)))
    for _ in range(100):
        world.send(b"a@x.example")
        world.run(0.001)
    world.run(30)
    assert len(world.spool.final) == 100


@pytest.mark.parametrize("after", [b"", (5).to_bytes(8, "big") + b"%016d" % 1])
def test_position_is_the_first_row_beyond_the_last_position(after: bytes) -> None:
    world = World()
    message = world.store(b"a@x.example", b"b@x.example", due_in_s=10)
    states = message.states
    states[0] = type(states[0])(0, states[0].status, 1, 3)
    states[1] = type(states[1])(1, states[1].status, 1, 9)
    due = 9 if after else 3
    found = position([message], b"smtp:x.example", hop_of, after)
    assert found == due.to_bytes(8, "big") + message.id


def test_position_stays_where_nothing_waits_any_more() -> None:
    world = World()
    message = world.send(b"a@x.example")
    world.run(1)
    assert position([message], b"smtp:x.example", hop_of, b"before") == b"before"


def test_older_mail_gets_its_turns_though_more_comes_in_than_goes_out() -> None:
    world = World(Options(ram_messages=1_000))
    for _ in range(2_000):
        world.send(b"a@x.example")
    old = set(world.spool.rows)
    assert len(old) == 1_000
    for _ in range(300):  # 20 connections deliver 2,000 a second; 3,000 a second come in
        for _ in range(30):
            world.send(b"b@x.example")
        world.run(0.01)
    assert len(world.spool.rows) > 1_500
    assert not old & set(world.spool.rows), "all that waited when this began has been delivered"


def test_mail_tried_again_has_its_place_among_fresh_mail_beyond_a_rate() -> None:
    """Two a second come in, one goes out: what spilled later is not before what was due earlier."""
    shape = Shape(name="slow", site=("x.example",), rate=Rate(1, 1.0))
    world = World(Options(ram_messages=10, site=SiteOptions(connections=2), shapes=(shape,)))
    world.receivers.behaviours["x.example"] = answer(DEFERRED)
    first = world.send(b"a@x.example")
    world.run(0.5)
    due_at_ns = first.states[0].due_at_ns
    world.receivers.behaviours.clear()
    while world.agenda.wall_ns() < due_at_ns:
        world.send(b"b@x.example")
        world.run(0.5)
    ahead = len(world.spool.rows) + world.scheduler.counts.ram_jobs - 1
    assert ahead > 100
    for _ in range(4 * (ahead + 20)):  # every other turn is that of mail that just came
        world.send(b"b@x.example")
        world.run(0.5)
    assert world.state(first) is RecipientStatus.DELIVERED
    assert len(world.spool.rows) > ahead


def test_the_cursor_is_lowered_to_what_is_put_back() -> None:
    reading = Reading()
    reading.cursor = tail(500, b"5" * 16)
    reading.lower(tail(600, b"1" * 16))
    assert reading.cursor == tail(500, b"5" * 16)
    reading.lower(tail(500, b"5" * 16))
    assert tail(500, b"4" * 16) < reading.cursor < tail(500, b"5" * 16)
    reading.limit = 10
    reading.lower(tail(3, b"7" * 16))
    reading.lower(tail(0, b"9" * 16))
    reading.left(b"x")
    assert reading.end(tail(700, b"0" * 16)) == {b"x"}
    assert tail(0, b"8" * 16) < reading.cursor < tail(0, b"9" * 16)
    reading.lower(b"")
    assert reading.cursor == b""


def test_a_probe_comes_from_the_backlog_though_the_pool_is_full() -> None:
    world = World(Options(ram_messages=40))
    world.receivers.behaviours["dead.example"] = fail_site(REFUSED)
    world.receivers.latency_s["slow.example"] = 60.0
    both = world.send(b"a@dead.example", b"b@slow.example")
    for _ in range(200):
        world.send(b"a@slow.example")
    world.run(100)
    assert world.spool.fetches[b"smtp:dead.example"] < 50
    world.receivers.behaviours.clear()
    world.run(320)
    assert world.state(both, 0) is RecipientStatus.DELIVERED


def test_an_earlier_due_time_moves_the_timer() -> None:
    world = World()
    world.store(b"a@a.example", due_in_s=5_000)
    soon = world.store(b"a@b.example", due_in_s=50)
    world.restart()
    world.run(52)
    assert world.state(soon) is RecipientStatus.DELIVERED


def test_backlog_without_room_waits_for_a_connection_and_gets_it() -> None:
    world = World(Options(ram_messages=8, connections=1))
    message = world.store(b"a@x.example")
    world.receivers.latency_s["y.example"] = 1.0
    world.agenda.clear()
    for _ in range(10):
        world.send(b"a@y.example")
    world.scheduler.start()
    world.run(15)
    assert world.state(message) is RecipientStatus.DELIVERED


def test_a_look_up_that_works_again_in_the_middle_of_a_read() -> None:
    world = World(Options(ram_messages=40))
    world.problems[b"smtp:x.example"] = RouteProblem(OutcomeKind.FAILED, "5.4.4", "gone")
    for _ in range(60):
        world.send(b"a@x.example")
    world.problems.clear()
    world.run(100)
    assert world.spool.rows == {}
    assert len(world.spool.final) == len(world.accepted)


def test_a_row_that_was_passed_over_is_found_by_the_recheck() -> None:
    world = World(Options(site=SiteOptions(connections=1)))
    world.receivers.latency_s["x.example"] = 100.0
    world.send(b"a@x.example")  # so that something of the next hop is in RAM
    table = world.scheduler._table
    hop = table.hop(b"smtp:x.example")
    hop.reading.cursor = tail(0, b"9" * 16)
    message = world.store(b"a@x.example")
    table.recheck(b"smtp:x.example")
    world.run(201)
    assert world.state(message) is RecipientStatus.DELIVERED


def test_what_a_read_says_of_mail_that_ended_meanwhile_is_not_believed() -> None:
    world = World()
    world.receivers.latency_s["x.example"] = 0.0005
    message = world.send(b"a@x.example")
    old = Message(message.id, message.envelope, b"", message.arrived_at_ns)
    world.spool.rows[message.id] = old  # the read sees it before it was delivered
    table = world.scheduler._table
    table.flag(table.hop(b"smtp:x.example"))
    world.run(0.0025)
    assert message.id in world.spool.final
    assert world.receivers.attempts["x.example"] == 1
