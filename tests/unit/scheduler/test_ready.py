"""The order in which jobs go: classes, tenants, fresh mail and the backlog."""

from collections import Counter

import pytest

from fastmta.budget.shape import Shape
from fastmta.message import ClientIdentity, Envelope, Message
from fastmta.message.attempt import Job
from fastmta.scheduler.lane import Lane
from fastmta.scheduler.ready import Ready
from fastmta.scheduler.tenant import Tenant

ENVELOPE = Envelope(b"s@a.example", (b"r@b.example",), ClientIdentity())
PAUSE = Shape(name="p", domain=("b.example",), is_paused=True)


class Nobody:
    def reopen(self, lane: Lane) -> None:
        raise AssertionError("nothing is held up")


def job(name: bytes, next_hop: bytes = b"smtp:b.example", recipients: int = 1) -> Job:
    message = Message(name.rjust(16, b"0"), ENVELOPE, b"", 0)
    return Job(message, next_hop, tuple(range(recipients)))


def lane(ready: Ready, name: str, weight: int = 1, priority: int = 1) -> Lane:
    found = ready.lanes[name] = Lane(name, Tenant(name, weight, priority), Nobody())
    return found


def fill(ready: Ready, lane: Lane, count: int, recipients: int = 1) -> None:
    for number in range(count):
        ready.add(lane, job(b"%d" % number, recipients=recipients), is_fresh=True)


def pop(ready: Ready) -> tuple[str, Job]:
    lane = ready.next_lane()
    assert lane is not None
    return lane.tenant.name, ready.pop(lane)


def filled(fresh: int, backlog: int) -> tuple[Ready, list[Job], list[Job]]:
    ready = Ready()
    one = lane(ready, "t")
    fresh_jobs = [job(b"f%d" % n) for n in range(fresh)]
    backlog_jobs = [job(b"b%d" % n) for n in range(backlog)]
    for each in fresh_jobs:
        ready.add(one, each, is_fresh=True)
    for each in backlog_jobs:
        ready.add(one, each, is_fresh=False)
    return ready, fresh_jobs, backlog_jobs


def check(ready: Ready) -> None:
    open_lanes = [one for one in ready.lanes.values() if one.holdup is None]
    assert ready.fresh_count == sum(one.fresh_count for one in open_lanes)
    assert ready.backlog_count == sum(len(one.backlog) for one in open_lanes)
    assert len(ready) == sum(len(one) for one in ready.lanes.values()) == len(list(ready))
    assert ready.is_open == (ready.next_lane() is not None)


def test_one_of_each_while_there_are_both() -> None:
    ready, (f0, f1, f2, f3), (b0, b1) = filled(4, 2)
    assert [pop(ready)[1] for _ in range(len(ready))] == [f0, b0, f1, b1, f2, f3]
    check(ready)


def test_fresh_is_next_when_it_is_preferred() -> None:
    ready, (f0, f1), (b0, b1) = filled(2, 2)
    assert pop(ready)[1] is f0
    ready.prefer_fresh()
    assert [pop(ready)[1] for _ in range(3)] == [f1, b0, b1]


def test_the_last_are_dropped_and_the_first_kept() -> None:
    ready, (f0, f1, f2), (b0, b1) = filled(3, 2)
    assert ready.keep_first(3) == [f2, f1]
    assert list(ready) == [f0, b0, b1]
    assert ready.keep_first(0) == [f0, b1, b0]
    assert len(ready) == 0
    check(ready)


def test_long_lanes_lose_more_than_short_ones() -> None:
    ready = Ready()
    long, short = lane(ready, "long"), lane(ready, "short")
    fill(ready, long, 50)
    fill(ready, short, 3)
    assert len(ready.keep_first(10)) == 43
    assert (len(long), len(short)) == (7, 3)
    check(ready)


def test_remove_finds_a_job_wherever_it_is() -> None:
    ready, (f0, f1), (b0,) = filled(2, 1)
    assert ready.remove(f1)
    assert ready.remove(b0)
    assert not ready.remove(b0)
    assert list(ready) == [f0]
    check(ready)


def test_jobs_of_one_next_hop_are_taken_out_in_order() -> None:
    ready, (f0,), (b0,) = filled(1, 1)
    other = job(b"o", b"smtp:c.example")
    ready.add(ready.lanes["t"], other, is_fresh=True)
    assert ready.take_hop(b"smtp:b.example") == [f0, b0]
    assert list(ready) == [other]
    check(ready)


def test_a_flood_leaves_the_other_its_share() -> None:
    ready = Ready()
    flood, other = lane(ready, "flood"), lane(ready, "other")
    fill(ready, flood, 1000)
    pop(ready)
    fill(ready, other, 1)
    waited = 0
    while pop(ready)[0] != "other":
        waited += 1
    assert waited <= 2
    check(ready)


@pytest.mark.parametrize("weights", [(1, 1), (3, 1), (5, 2)])
def test_shares_are_by_weight(weights: tuple[int, int]) -> None:
    ready = Ready()
    for name, weight in zip("ab", weights, strict=True):
        fill(ready, lane(ready, name, weight), 800)
    found = Counter(pop(ready)[0] for _ in range(700))
    assert found["a"] / found["b"] == pytest.approx(weights[0] / weights[1], rel=0.05)


def test_shares_count_recipients() -> None:
    ready = Ready()
    fill(ready, lane(ready, "large"), 100, recipients=50)
    fill(ready, lane(ready, "small"), 2000)
    found = Counter(pop(ready)[0] for _ in range(1000))
    assert found["small"] / found["large"] == pytest.approx(50, rel=0.1)


def test_high_goes_first_and_bulk_is_not_starved() -> None:
    ready = Ready()
    fill(ready, lane(ready, "bulk", priority=2), 100)
    fill(ready, lane(ready, "normal", priority=1), 100)
    fill(ready, lane(ready, "high", priority=0), 200)
    found = Counter(pop(ready)[0] for _ in range(200))
    assert found["normal"] == pytest.approx(20, abs=2)
    assert found["bulk"] == pytest.approx(20, abs=2)


def test_a_parked_lane_is_not_looked_at_and_loses_nothing() -> None:
    ready = Ready()
    parked, other = lane(ready, "parked"), lane(ready, "other")
    fill(ready, parked, 3)
    fill(ready, other, 1)
    ready.park(parked, PAUSE)
    check(ready)
    assert pop(ready)[0] == "other"
    assert ready.next_lane() is None
    ready.add(parked, job(b"x"), is_fresh=False)
    check(ready)
    assert len(ready) == 4
    assert len(ready.keep_first(2)) == 2
    check(ready)
    ready.unpark(parked)
    check(ready)
    assert pop(ready)[0] == "parked"


def test_an_empty_lane_can_be_parked() -> None:
    ready = Ready()
    one = lane(ready, "t")
    ready.park(one, PAUSE)
    fill(ready, one, 1)
    assert not ready.is_open
    ready.unpark(one)
    assert pop(ready)[0] == "t"
    check(ready)
