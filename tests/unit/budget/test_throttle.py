"""A named rate: first come, first served, one timer, exactly as many as there are units."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastmta.budget import LocalMeters
from fastmta.budget.rate import Rate, rate_text, read_rate
from fastmta.budget.throttle import Throttle
from tests.support.agenda import Agenda


class Job:
    """Wants `count` units, one at a time."""

    def __init__(self, throttle: Throttle, count: int, taken: Callable[[Job], None]) -> None:
        self.throttle = throttle
        self.count = count
        self.taken = taken
        self.resumed = 0

    def resume(self) -> None:
        self.resumed += 1
        self.go()

    def go(self) -> None:
        while self.count:
            if self.throttle.wait_s() > 0:
                self.throttle.wait(self)
                return
            self.throttle.take()
            self.count -= 1
            self.taken(self)


def throttle(agenda: Agenda, rate: Rate) -> Throttle:
    return Throttle("t", rate, agenda.monotonic_s, agenda)


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("100/min", Rate(100, 60.0, 1)),
        ("100/min, burst 10", Rate(100, 60.0, 10)),
        ("1,000/h,burst 50", Rate(1000, 3600.0, 50)),
        ("5 / sec", Rate(5, 1.0, 1)),
        ("200/s", Rate(200, 1.0, 40)),
        ("3/d", Rate(3, 86_400.0, 1)),
        (" 7/HOUR , burst 2 ", Rate(7, 3600.0, 2)),
    ],
)
def test_rates_are_read_and_shown(text: str, rate: Rate) -> None:
    assert read_rate(text) == rate
    assert read_rate(rate_text(rate)) == rate


@pytest.mark.parametrize(
    "text", ["", "100", "0/min", "10/week", "10/min burst 2", "10/min, burst 0", "-1/s", "1,00/s",
             "1e3/s", "10/min, burst", "٣/s"],
)  # fmt: skip
def test_what_is_no_rate_is_named(text: str) -> None:
    with pytest.raises(ValueError, match=r"rate|period|least"):
        read_rate(text)


def test_a_minute_is_exact_and_no_burst_is_exceeded() -> None:
    agenda = Agenda()
    metered = throttle(agenda, Rate(600, 60.0, 5))
    times: list[float] = []
    jobs = [Job(metered, 300, lambda _: times.append(agenda.now_s)) for _ in range(3)]
    for job in jobs:
        job.go()
    agenda.run(60.0)
    assert len(times) == pytest.approx(600 + 5, abs=6)
    for first, last in ((0, 100), (3, 9), (50, 600)):
        assert last - first <= 5 + (times[last] - times[first]) * 10.0 + 1e-6
    assert [job.count for job in jobs] == pytest.approx([100] * 3, abs=6)  # in turn


def test_ten_thousand_wait_and_no_more_wake_than_may_go() -> None:
    agenda = Agenda()
    metered = throttle(agenda, Rate(1, 60.0))
    taken: list[Job] = []
    jobs = [Job(metered, 1, taken.append) for _ in range(10_000)]
    for job in jobs:
        job.go()
    steps = agenda.run(600.0)
    assert taken == jobs[:11]  # in their order
    assert sum(job.resumed for job in jobs) == 10
    assert steps <= 2 * 10
    assert metered.state().waiting == 10_000 - 11


def test_who_comes_later_does_not_jump_the_line() -> None:
    agenda = Agenda()
    metered = throttle(agenda, Rate(10, 1.0))
    taken: list[Job] = []
    first, second, third = (Job(metered, 1, taken.append) for _ in range(3))
    first.go()
    second.go()
    agenda.now_s += 5.0  # the timer is late
    third.go()
    agenda.run(1.0)
    assert taken == [first, second, third]


def test_a_change_counts_what_was_taken() -> None:
    agenda = Agenda()
    metered = throttle(agenda, Rate(1, 3600.0))
    taken: list[float] = []
    jobs = [Job(metered, 1, lambda _: taken.append(agenda.now_s)) for _ in range(4)]
    for job in jobs:
        job.go()
    metered.change(Rate(60, 60.0))
    agenda.run(10.0)
    assert [round(at_s - taken[0]) for at_s in taken] == [0, 1, 2, 3]


def test_a_throttle_is_remembered_while_its_burst_is_spent() -> None:
    agenda = Agenda()
    meters = LocalMeters(agenda.monotonic_s, agenda)
    meters.throttle("t", Rate(1, 60.0)).take()
    meters.sweep()
    assert meters.throttle("t", Rate(1, 60.0)).wait_s() > 0
    agenda.now_s += 61.0
    meters.sweep()
    assert len(meters) == 0


def test_beyond_so_many_the_others_share_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody is forgotten while that would give him a burst again."""
    monkeypatch.setattr("fastmta.budget.local.THROTTLES_MAX", 10)
    agenda, rate = Agenda(), Rate(1, 60.0, 2)
    meters = LocalMeters(agenda.monotonic_s, agenda)
    for number in range(10):
        for _ in range(2):
            meters.throttle(f"each(tenant={number})", rate).take()
    rest = [meters.throttle(f"each(tenant=more {number})", rate) for number in range(1_000)]
    assert len(meters) == 11
    assert len(set(map(id, rest))) == 1
    for _ in range(2):
        rest[0].take()
    assert rest[0].state().name == "each(all others)"
    del rest
    agenda.now_s += 119.0
    assert meters.throttle("each(tenant=3)", rate).wait_s() == 0.0, "one of two"
    agenda.now_s += 0.5
    meters.throttle("each(all others)", rate).take()
    agenda.now_s += 2.0
    own = meters.throttle("each(tenant=more 5)", rate)
    assert own.state().name == "each(tenant=more 5)", "there is room again"
    assert own.wait_s() == pytest.approx(60.0), "but no burst"


class _Somebody:
    def resume(self) -> None:
        raise AssertionError("nobody waits")


def test_a_secured_unit_is_used_late_but_never_beside_the_next() -> None:
    agenda = Agenda()
    throttle = Throttle("x", Rate(1.0, 1.0, 1), agenda.monotonic_s, agenda)
    late, other = _Somebody(), _Somebody()
    throttle.secure(late)
    agenda.run(0.6)
    assert throttle.wait_s(late) == 0.0, "it was held up for a moment"
    throttle.take(late)
    assert throttle.wait_s(other) == pytest.approx(1.0), "from when it was used"
    agenda.run(1.0)
    throttle.secure(late)
    agenda.run(24.0)
    assert throttle.wait_s(other) == 0.0
    throttle.take(other)
    assert throttle.wait_s(late) > 0, "its room has run over"
    agenda.run(1.0)
    assert throttle.wait_s(late) == 0.0
    throttle.take(late)
    assert throttle.wait_s(other) > 0


@given(st.integers(1, 4), st.lists(st.tuples(st.integers(0, 2), st.integers(0, 3)), max_size=60))
def test_whatever_is_secured_and_used_late_the_rate_is_kept(
    burst: int, steps: list[tuple[int, int]]
) -> None:
    """Three want units, now and then one secures its unit and uses it later: no stretch of time
    has more than its burst and its rate allow."""
    agenda = Agenda()
    throttle = Throttle("x", Rate(1.0, 1.0, burst), agenda.monotonic_s, agenda)
    three = [_Somebody() for _ in range(3)]
    used_s: list[float] = []
    for who, what in steps:
        agenda.run(what * 0.35)
        if throttle.wait_s(three[who]) > 0:
            continue
        if what == 1:
            throttle.secure(three[who])
        else:
            throttle.take(three[who])
            used_s.append(agenda.monotonic_s())
    for first, begin_s in enumerate(used_s):
        for last in range(first, len(used_s)):
            assert last - first + 1 <= burst + (used_s[last] - begin_s) + 1e-6


def test_one_that_was_in_use_when_others_were_forgotten_is_remembered() -> None:
    agenda = Agenda()
    meters = LocalMeters(agenda.monotonic_s, agenda)
    rate = Rate(1.0, 1.0, 1)
    one = meters.throttle("x", rate)
    agenda.run(10.0)
    meters.sweep()
    one.take()
    del one
    assert meters.throttle("x", rate).wait_s() == pytest.approx(1.0)
    agenda.run(10.0)
    meters.sweep()
    assert len(meters) == 0
