"""Pauses that double."""

import pytest

from fastmta.budget import Backoff
from fastmta.budget.backoff import jittered


def test_doubles_to_the_longest_pause() -> None:
    backoff = Backoff(10, 300, 0.1)
    assert [backoff.next_s(0.5) for _ in range(7)] == [10, 20, 40, 80, 160, 300, 300]


def test_reset_begins_with_the_shortest() -> None:
    backoff = Backoff(10, 300, 0.1)
    backoff.next_s(0.5)
    backoff.next_s(0.5)
    backoff.reset()
    assert backoff.next_s(0.5) == 10


def test_jitter_is_a_fraction_both_ways() -> None:
    assert jittered(100, 0.1, 0.0) == pytest.approx(90)
    assert jittered(100, 0.1, 0.5) == 100
    assert jittered(100, 0.1, 0.999_999) == pytest.approx(110, abs=0.001)
    assert jittered(100, 0.0, 0.9) == 100


def test_a_longest_pause_below_the_first_is_the_first() -> None:
    backoff = Backoff(10, 5, 0)
    assert [backoff.next_s(0.5) for _ in range(3)] == [10, 10, 10]


@pytest.mark.parametrize(("first_s", "jitter"), [(0, 0.1), (-1, 0.1), (10, 1.0), (10, -0.1)])
def test_nonsense_is_refused(first_s: float, jitter: float) -> None:
    with pytest.raises(ValueError, match="pause"):
        Backoff(first_s, 300, jitter)
