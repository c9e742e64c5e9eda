"""Rates are exact and bursts are never exceeded."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastmta.budget import GCRA


def test_evenly_spaced_without_a_burst() -> None:
    rate = GCRA(10, 1.0)
    assert rate.take(100.0) == 0
    assert rate.take(100.0) == pytest.approx(0.1)
    assert rate.wait_s(100.05) == pytest.approx(0.05)
    assert rate.take(100.1) == pytest.approx(0, abs=1e-9)


def test_a_burst_may_come_at_once_and_not_again() -> None:
    rate = GCRA(60, 60.0, burst=10)
    assert [rate.take(5.0) for _ in range(10)] == [0] * 10
    assert rate.take(5.0) == pytest.approx(1)
    assert rate.take(6.5) == 0
    assert rate.take(6.5) == pytest.approx(0.5)


def test_idle_time_earns_no_more_than_the_burst() -> None:
    rate = GCRA(1, 1.0, burst=3)
    rate.take(0.0)
    assert [rate.take(1e6) > 0 for _ in range(5)] == [False, False, False, True, True]


def test_asking_takes_nothing() -> None:
    rate = GCRA(1, 1.0)
    assert [rate.wait_s(0.0) for _ in range(3)] == [0, 0, 0]
    assert rate.take(0.0) == 0


def test_waiting_as_told_is_exact_over_a_minute() -> None:
    rate = GCRA(100, 60.0, burst=10)
    now_s = count = 0.0
    while now_s < 60.0:
        wait_s = rate.take(now_s)
        if wait_s:
            now_s += wait_s
        else:
            count += 1
    assert 109 <= count <= 111


@pytest.mark.parametrize("values", [(0, 1.0, 1), (1, 0.0, 1), (1, 1.0, 0)])
def test_nonsense_is_refused(values: tuple[float, float, int]) -> None:
    with pytest.raises(ValueError, match="rate"):
        GCRA(*values)


@given(
    st.lists(st.integers(0, 500), max_size=200),
    st.integers(1, 50),
    st.integers(1, 10),
)
def test_no_interval_sees_more_than_burst_and_rate(
    gaps_ms: list[int], per_second: int, burst: int
) -> None:
    rate = GCRA(per_second, 1.0, burst)
    taken = []
    now_s = 0.0
    for gap_ms in gaps_ms:
        now_s += gap_ms / 1000
        if rate.take(now_s) == 0:
            taken.append(now_s)
    for first, start_s in enumerate(taken):
        for last in range(first, len(taken)):
            allowed = burst + (taken[last] - start_s) * per_second
            assert last - first + 1 <= allowed + 1e-6
