"""The window: growth only when it binds, one halving per flight, death at 1."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastmta.budget import Window


def grown(window: Window, count: int) -> Window:
    """After `count` clean attempts with a full window."""
    for _ in range(count):
        window.clean(window.size)
    return window


def test_starts_at_the_limit_when_that_is_lower() -> None:
    assert Window(5, 20).size == 5
    assert Window(5, 3).size == 3


@pytest.mark.parametrize(("start", "limit"), [(0, 20), (5, 0), (-1, 5)])
def test_a_window_below_one_is_refused(start: int, limit: int) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        Window(start, limit)


def test_grows_by_one_per_window_of_clean_attempts() -> None:
    window = Window(5, 20)
    sizes = [grown(window, 1).size for _ in range(5 + 6 + 7)]
    assert sizes == [5] * 4 + [6] * 6 + [7] * 7 + [8]


def test_reaches_the_limit_and_stays_there() -> None:
    window = grown(Window(5, 20), sum(range(5, 20)))
    assert window.size == 20
    assert grown(window, 1_000).size == 20


def test_a_window_that_does_not_bind_does_not_grow() -> None:
    window = Window(5, 20)
    for _ in range(1_000):
        window.clean(4)
    assert window.size == 5


def test_trouble_halves_down_to_one_then_the_path_is_dead() -> None:
    window = grown(Window(5, 20), 1_000)
    sizes = []
    now_s = 10.0
    while not window.trouble(started_at_s=now_s, now_s=now_s + 1):
        sizes.append(window.size)
        now_s += 2
    assert sizes == [10, 5, 2, 1]
    assert window.size == 1


def test_one_flight_that_dies_together_halves_once() -> None:
    window = Window(16, 20)
    assert not any(window.trouble(started_at_s=1.0 + n / 100, now_s=5.0 + n) for n in range(16))
    assert window.size == 8


def test_trouble_of_an_old_flight_does_not_kill_a_window_of_one() -> None:
    window = Window(1, 20)
    assert window.trouble(started_at_s=1.0, now_s=2.0)
    window = Window(2, 20)
    assert not window.trouble(started_at_s=1.0, now_s=2.0)
    assert window.size == 1
    assert not window.trouble(started_at_s=1.5, now_s=3.0)
    assert window.trouble(started_at_s=2.5, now_s=3.0)


def test_trouble_forgets_what_was_earned() -> None:
    window = grown(Window(4, 20), 3)
    window.trouble(1.0, 2.0)
    assert grown(window, 1).size == 2
    assert grown(window, 1).size == 3


def test_a_window_that_reopens_doubles_with_each_flight_up_to_its_start() -> None:
    window = grown(Window(5, 20), 100)
    window.trouble(1.0, 2.0)
    window.reopen()
    sizes = [window.size]
    while window.is_recovering:
        for _ in range(window.size):  # a flight
            window.clean(1)  # even if it does not bind
        sizes.append(window.size)
    assert sizes == [2, 4, 5]
    assert grown(window, 4).size == 5
    assert grown(window, 1).size == 6, "from there it grows as ever"


@pytest.mark.parametrize(("start", "limit"), [(1, 20), (5, 1)])
def test_a_window_that_starts_with_one_reopens_with_one(start: int, limit: int) -> None:
    window = Window(start, limit)
    window.reopen()
    assert (window.size, window.is_recovering) == (1, False)


def test_trouble_ends_the_recovery() -> None:
    window = Window(16, 20)
    window.reopen()
    window.clean(2)
    window.clean(3)
    assert (window.size, window.is_recovering) == (4, True)
    assert not window.trouble(started_at_s=3.0, now_s=4.0)
    assert (window.size, window.is_recovering) == (2, False)
    assert [grown(window, 1).size for _ in range(5)] == [2, 3, 3, 3, 4]


@given(
    start=st.integers(1, 30),
    limit=st.integers(1, 30),
    steps=st.lists(st.sampled_from(["clean", "full", "trouble", "reopen"]), max_size=200),
)
def test_a_window_is_never_below_one_nor_above_its_limit(
    start: int, limit: int, steps: list[str]
) -> None:
    window = Window(start, limit)
    for number, step in enumerate(steps):
        before = window.size
        if step == "trouble":
            window.trouble(number + 0.5, number + 1.0)
            assert window.size == max(1, before // 2)
        elif step == "reopen":
            window.reopen()
            assert window.size == min(2, window.start)
        else:
            window.clean(before if step == "full" else 1)
            assert before <= window.size <= before + 1
        assert 1 <= window.size <= window.limit
        assert not window.is_recovering or window.size < window.start


def test_another_limit_shrinks_a_window_and_never_widens_it_at_once() -> None:
    window = Window(5, 20)
    window.resize(40)
    assert (window.size, window.limit) == (5, 40)
    window.resize(3)
    assert (window.size, window.start) == (3, 3)
    window.resize(20)
    assert (window.size, window.start) == (3, 5)
